"""What one process and then two have done, read off looks at their metrics."""

import pytest

from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.sharing import Counter, Look, Shared, Work, shared, table

WORK = Work("billing", 1_000, lambda _: 0.0)
LOOKS = (
    Look(0, 100), Look(1, 200), Look(2, 300),  # 100/s alone
    Look(3, 310), Look(4, 320),  # the second one starts, and takes the CPU for it
    Look(5, 400, 10), Look(7, 520, 190),
)  # fmt: skip


def test_the_time_in_which_the_second_one_starts_counts_for_neither() -> None:
    assert shared(WORK, LOOKS, second_comes_s=2) == Shared("billing", 1_000, alone_per_s=100, both_per_s=150, second_share=0.6)


@pytest.mark.parametrize("looks", [LOOKS[:5], LOOKS[:6], LOOKS[2:]])
def test_without_two_looks_of_each_kind_there_is_no_figure(looks: tuple[Look, ...]) -> None:
    with pytest.raises(BenchFailed, match="billing: all was done before a second process"):
        shared(WORK, looks, second_comes_s=2)


def test_the_table_says_what_the_second_is_worth() -> None:
    (row,) = table([Shared("replay", 2_000, 1_000, 1_500, 0.4)]).rows
    assert row == ("archiver: rows", "2,000", "1,000", "1,500", "1.50", "40%")


def test_a_process_that_was_started_again_has_done_what_it_did_before() -> None:
    counter = Counter()
    assert [counter.saw(count) for count in (None, 0, 10, None, 30, 5, 7)] == [0, 0, 10, 10, 30, 35, 37]
