"""The position of a partition: the highest offset below which nothing is open."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_delivery.domain.progress import Progress


@given(st.data())
def test_whatever_the_order_the_position_is_the_highest_without_a_gap(data: st.DataObject) -> None:
    offsets = sorted(data.draw(st.sets(st.integers(0, 200), min_size=1, max_size=40)))
    order = data.draw(st.permutations(offsets))
    progress = Progress(capacity=len(offsets))
    for offset in offsets:
        progress.begin(offset)
    finished: set[int] = set()
    for offset in order:
        progress.finish(offset)
        finished.add(offset)
        contiguous = [o for i, o in enumerate(offsets) if finished.issuperset(offsets[: i + 1])]
        assert progress.position == (contiguous[-1] + 1 if contiguous else None)
    assert progress.position == offsets[-1] + 1
    assert progress.open == 0
    assert not progress.full


def test_nothing_finished_has_no_position() -> None:
    assert Progress(3).position is None


def test_offsets_the_log_leaves_out_do_not_hold_it_up() -> None:
    progress = Progress(10)
    for offset in (5, 9):
        progress.begin(offset)
        progress.finish(offset)
    assert progress.position == 10


def test_what_is_finished_behind_an_open_offset_counts_against_the_capacity() -> None:
    progress = Progress(2)
    progress.begin(0)
    progress.begin(1)
    progress.finish(1)
    assert progress.full
    with pytest.raises(ValueError, match="no room"):
        progress.begin(2)
    progress.finish(0)
    progress.begin(2)


@pytest.mark.parametrize("offset", [3, 2])
def test_offsets_begin_in_log_order(offset: int) -> None:
    progress = Progress(5)
    progress.begin(3)
    with pytest.raises(ValueError, match="after"):
        progress.begin(offset)


@pytest.mark.parametrize("offset", [0, 2, 4])
def test_only_what_is_open_can_be_finished(offset: int) -> None:
    progress = Progress(5)
    for begun in (1, 2, 3):
        progress.begin(begun)
    progress.finish(2)
    with pytest.raises(ValueError, match="not open"):
        progress.finish(offset)
