"""Files that hold a key: readable by their owner only, whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from kite_cli.private_file import read_private, write_private
from kite_cli.target import TeamKey, read_team


def test_what_is_written_can_be_read_and_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    path.write_text("{}", "utf-8")
    path.chmod(0o644)
    write_private(path, {"team_id": "team_a", "api_key": "kite_a"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_team(path) == TeamKey("team_a", "kite_a")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"team_id": "team_a"}', '{"team_id": 1, "api_key": "kite_a"}'])
def test_a_file_that_holds_no_team_is_no_team(tmp_path: Path, text: str) -> None:
    path = tmp_path / "demo.json"
    path.write_text(text, "utf-8")
    assert read_team(path) is None


def test_what_cannot_be_written_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    write_private(path, {"api_key": "kite_a"})
    with pytest.raises(TypeError):
        write_private(path, {"api_key": object()})
    assert read_private(path) == {"api_key": "kite_a"}
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_on_the_disk_when_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The disk itself cannot be asked: what the kernel is asked for, in which order, is all there is to see.
    synced: list[tuple[bool, bool]] = []
    path, fsync = tmp_path / "demo.json", os.fsync

    def seen(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", seen)
    write_private(path, {"private_key": "4c"})
    assert synced == [(False, False), (True, True)]


def test_no_file_is_no_team(tmp_path: Path) -> None:
    assert read_private(tmp_path / "none.json") is None
