"""The section a redrive's figures become."""

from kite_cli.bench.redrive import Redrive, to_markdown


def test_each_run_is_a_row() -> None:
    text = to_markdown([Redrive(20_000, 1_234.4, 987.6, 43.2), Redrive(10, 1, 1, 1)])
    assert text.startswith("### Redrive\n")
    assert text.endswith("| 20,000 | 1,234 | 988 | 43 |\n| 10 | 1 | 1 | 1 |\n")
