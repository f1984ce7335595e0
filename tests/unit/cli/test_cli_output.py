"""What commands print: amounts, texts of others, JSON that nothing else gets into."""

from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_cli.output import Output, printable, usdc


@pytest.mark.parametrize(
    ("atomic", "text"),
    [
        (0, "0 USDC"),
        (1, "0.000001 USDC"),
        (100, "0.0001 USDC"),
        (1_000_000, "1 USDC"),
        (-100, "-0.0001 USDC"),
        (1_234_567_890, "1,234.56789 USDC"),
        (9_007_199_254_740_991, "9,007,199,254.740991 USDC"),
    ],
)
def test_amounts_are_written_in_whole_units(atomic: int, text: str) -> None:
    assert usdc(atomic) == text


@given(st.integers(min_value=-(2**60), max_value=2**60))
def test_an_amount_loses_nothing(atomic: int) -> None:
    assert Decimal(usdc(atomic).removesuffix(" USDC").replace(",", "")) * 1_000_000 == atomic


@given(st.text())
def test_what_others_wrote_cannot_steer_a_terminal(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def test_an_escape_sequence_is_shown_as_text() -> None:
    assert printable("a\x1b[2Jb\nc\u202e") == "a\\x1b[2Jb\\nc\\u202e"


def test_json_is_one_document_a_line_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=True)
    output.console.print("for people")
    output.result({"a": 1}, "shown")
    output.result({"b": "[red]"}, "shown")
    out, err = capfd.readouterr()
    assert [orjson.loads(line) for line in out.splitlines()] == [{"a": 1}, {"b": "[red]"}]
    assert err == "for people\n"


def test_brackets_in_a_text_are_no_markup_and_long_lines_stay_whole(capsys: pytest.CaptureFixture[str]) -> None:
    text = "[red]" + "x" * 300
    Output(as_json=False).result({}, text)
    assert capsys.readouterr().out == text + "\n"
