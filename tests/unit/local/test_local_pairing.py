"""Chain and log of a data folder: which starts go on, and which end because one of the two is gone."""

from pathlib import Path

import pytest

from kite_cli.local.chain.pairing import Half, note_saved, pair
from kite_cli.local.step import StepFailed

MARK = "generation"


class Folder:
    """A data folder: each start pairs what is there."""

    def __init__(self, path: Path) -> None:
        self.log, self.chain = path / "kafka", path / "chain"
        self.log_has_data = self.chain_has_data = False

    def start(self) -> None:
        """A start with payments, up to where Kafka and the chain run."""
        pair(Half(self.log, self.log_has_data), Half(self.chain, self.chain_has_data))
        self.log_has_data = True

    def save_chain(self) -> None:
        """What the keeper does once the state is in its place."""
        self.chain_has_data = True
        note_saved(self.chain)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A new one."""
    return Folder(tmp_path)


@pytest.fixture
def used(folder: Folder) -> Folder:
    """One whose chain was saved."""
    folder.start()
    folder.save_chain()
    return folder


def test_what_was_started_together_is_started_again(used: Folder) -> None:
    mark = (used.log / MARK).read_text("ascii")
    used.start()
    assert [(half / MARK).read_text("ascii") for half in (used.log, used.chain)] == [mark, mark]


def test_a_state_of_the_chain_that_is_gone_ends_the_start_even_if_its_mark_is_still_there(used: Folder) -> None:
    used.chain_has_data = False
    with pytest.raises(StepFailed, match="the chain is gone"):
        used.start()


def test_a_chain_whose_folder_is_gone_ends_the_start(used: Folder) -> None:
    used.chain.rename(used.chain.with_name("elsewhere"))
    used.chain_has_data = False
    with pytest.raises(StepFailed, match="the chain is gone"):
        used.start()


def test_a_log_that_is_gone_ends_the_start(used: Folder) -> None:
    used.log_has_data = False
    with pytest.raises(StepFailed, match="its log is gone"):
        used.start()


def test_a_chain_that_was_ended_before_it_had_a_state_starts_anew(folder: Folder) -> None:
    folder.start()
    folder.start()


def test_both_dropped_are_a_new_start_and_so_is_a_kill_right_after_it(used: Folder) -> None:
    used.log_has_data = used.chain_has_data = False
    used.start()
    used.start()


def test_a_log_without_payments_gets_its_first_chain(folder: Folder) -> None:
    folder.log_has_data = True
    folder.start()
    folder.start()


@pytest.mark.parametrize("unwritten", ["kafka", "chain"])
def test_a_first_start_that_ends_before_both_are_marked_can_be_repeated(folder: Folder, tmp_path: Path, unwritten: str) -> None:
    folder.log_has_data = True  # by `up --no-payments`
    (tmp_path / unwritten).write_text("no folder, so its mark cannot be written")
    with pytest.raises(OSError, match="exists"):
        folder.start()
    (tmp_path / unwritten).unlink()
    folder.start()


def test_a_chain_saved_by_an_earlier_version_is_missed_from_its_next_start_on(used: Folder) -> None:
    (used.chain / "saved").unlink()
    used.start()
    used.chain_has_data = False
    with pytest.raises(StepFailed, match="the chain is gone"):
        used.start()
