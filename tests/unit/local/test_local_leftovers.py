"""Which processes belong to an earlier run, and what is kept to know it."""

from pathlib import Path

import pytest

from kite_cli.local.identity import Identity
from kite_cli.local.leftovers import State, read_state, to_end, write_state

KAFKA = Identity(100, "5000")
WORKER_OF_KAFKA = Identity(101, "5100")
STATE = State(run="r1", boot="b1", children={"kafka": KAFKA}, ports={"kafka": 20_001})


def test_a_recorded_child_that_still_runs_is_ended() -> None:
    assert to_end(STATE, "b1", [KAFKA], []) == [KAFKA]


def test_a_pid_that_was_given_to_another_process_is_left_alone() -> None:
    assert to_end(STATE, "b1", [Identity(KAFKA.pid, "99999")], []) == []


def test_a_process_that_carries_the_name_of_the_run_is_ended_too() -> None:
    assert to_end(STATE, "b1", [WORKER_OF_KAFKA], [WORKER_OF_KAFKA]) == [WORKER_OF_KAFKA]


def test_a_stranger_in_the_same_session_is_left_alone() -> None:
    assert to_end(STATE, "b1", [KAFKA, Identity(102, "5200")], []) == [KAFKA]


def test_after_a_reboot_nothing_is_ours() -> None:
    assert to_end(STATE, "b2", [KAFKA, WORKER_OF_KAFKA], [WORKER_OF_KAFKA]) == []


def test_a_state_without_a_run_ends_nothing() -> None:
    assert to_end(State(), "", [KAFKA], []) == []


def test_the_state_reads_back_as_it_was_written(tmp_path: Path) -> None:
    state = STATE.with_child("valkey", Identity(200, "6000"))
    write_state(tmp_path / "state.json", state)
    assert read_state(tmp_path / "state.json") == state


def test_a_child_that_ended_is_forgotten() -> None:
    assert STATE.with_child("kafka", None).children == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": 1}', '{"run": "r", "boot": "", "children": 3}'])
def test_a_damaged_state_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text, "utf-8")
    assert read_state(tmp_path / "state.json") == State()
