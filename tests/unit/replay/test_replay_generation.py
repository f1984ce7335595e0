"""Which archive is served while another takes over, whoever dies when; and where the steps are written."""

from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kite_replay.adapters.clickhouse.address import InProcess
from kite_replay.adapters.clickhouse.generations import generations_of
from kite_replay.domain.generation import (
    GIVEN_UP_AFTER_MS,
    OPENS_WITHIN_MS,
    Generation,
    closing,
    next_number,
    opening,
    serving,
)

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("last", "after_ms", "served"),
    [
        (None, 0, 0),
        (Generation(1, 0, opened=True, at_ms=NOW), 0, 1),
        (Generation(2, 1, opened=False, at_ms=NOW), 0, None),
        (Generation(2, 1, opened=False, at_ms=NOW), GIVEN_UP_AFTER_MS - 1, None),
        (Generation(2, 1, opened=False, at_ms=NOW), GIVEN_UP_AFTER_MS, 1),
    ],
)
def test_what_is_served(last: Generation | None, after_ms: int, served: int | None) -> None:
    assert serving(last, NOW + after_ms) == served


@pytest.mark.parametrize(
    ("last", "number", "before"),
    [
        (None, 1, 0),
        (Generation(1, 0, opened=True, at_ms=NOW), 2, 1),
        # Begun and never opened: the same one goes on, also after it was given up.
        (Generation(2, 1, opened=False, at_ms=NOW), 2, 1),
    ],
)
def test_which_one_a_rebuild_makes(last: Generation | None, number: int, before: int) -> None:
    assert next_number(last) == number
    assert closing(last, NOW + 1) == Generation(number, before, opened=False, at_ms=NOW + 1)


def test_a_clock_behind_the_last_step_does_not_hide_the_next() -> None:
    """The change-over of a rebuild on a machine whose clock was late was seen by nobody, and told to have succeeded."""
    last = Generation(1, 0, opened=True, at_ms=NOW + 60_000)
    assert closing(last, NOW).at_ms > last.at_ms


def test_who_comes_late_opens_nothing() -> None:
    closed = closing(None, NOW)
    assert opening(closed, NOW + OPENS_WITHIN_MS) is None
    opened = opening(closed, NOW + OPENS_WITHIN_MS - 1)
    assert opened == Generation(1, 0, opened=True, at_ms=NOW + OPENS_WITHIN_MS - 1)
    # A clock that stands still does not hide the step behind the one before.
    assert opening(closed, NOW) == Generation(1, 0, opened=True, at_ms=NOW + 1)


class Changes(RuleBasedStateMachine):
    """Rebuilds that close, open, die and come again, and a process that is started again whenever what it serves has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.last: Generation | None = None
        self.closed: Generation | None = None
        self.served: list[int] = [0]
        # What is whole: a rebuild opens only after it has stored all that the one before can have served.
        self.whole = {0}

    @rule(by=st.sampled_from([1, 1_000, OPENS_WITHIN_MS, GIVEN_UP_AFTER_MS]))
    def time_passes(self, by: int) -> None:
        self.now += by

    @rule()
    def a_rebuild_closes(self) -> None:
        self.last = self.closed = closing(self.last, self.now)

    @rule()
    def it_opens(self) -> None:
        opened = None if self.closed is None else opening(self.closed, self.now)
        if opened is not None:
            self.last, self.closed = opened, None
            self.whole = {opened.number}

    @rule()
    def it_dies(self) -> None:
        self.closed = None

    @invariant()
    def only_what_is_whole_is_served(self) -> None:
        number = serving(self.last, self.now)
        assert number is None or number in self.whole
        if number is not None and number != self.served[-1]:
            self.served.append(number)

    @invariant()
    def nobody_goes_back(self) -> None:
        assert self.served == sorted(set(self.served))


Changes.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestChanges = Changes.TestCase


def test_the_steps_of_a_folder_are_a_file_beside_it(tmp_path: Path) -> None:
    generations = generations_of(InProcess(str(tmp_path / "clickhouse")))
    assert generations.last() is None
    for step in (closing(None, NOW), Generation(1, 0, opened=True, at_ms=NOW + 5)):
        generations.write(step)
        assert generations_of(InProcess(f"{tmp_path}/clickhouse/")).last() == step
    assert [generations.address(number) for number in (0, 1)] == [
        InProcess(str(tmp_path / "clickhouse")), InProcess(str(tmp_path / "clickhouse.g1"))
    ]  # fmt: skip
    (tmp_path / "clickhouse.g1").mkdir()
    (tmp_path / "clickhouse").mkdir()
    generations.drop(1)
    generations.drop(1)
    assert (tmp_path / "clickhouse").exists()
    assert not (tmp_path / "clickhouse.g1").exists()
