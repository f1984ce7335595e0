"""What lies in a data folder: secrets, the lock, logs."""

import os
import stat
from pathlib import Path

import pytest

from kite_cli.local.identity import boot_id, identify
from kite_cli.local.lock import DataLock, Holder, holder_of
from kite_cli.local.logs import bound, open_log, tail, turn_over
from kite_cli.local.secrets import NAMES, load_or_draw
from kite_cli.local.step import StepFailed


def me(gateway: str = "") -> Holder:
    """This process as the holder of a lock."""
    own = identify(os.getpid())
    assert own is not None
    return Holder(own.pid, own.started, boot_id(), gateway)


def test_secrets_are_drawn_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    drawn = load_or_draw(path)
    assert load_or_draw(path) == drawn
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len({drawn[name] for name in NAMES}) == len(NAMES)
    assert all(len(bytes.fromhex(drawn[name])) == 32 for name in NAMES)


def test_secrets_that_cannot_be_read_are_an_error_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text('{"KITE_API_KEY_PEPPER": "short"}', "utf-8")
    with pytest.raises(StepFailed, match="KITE_API_KEY_PEPPER is not 64 hex digits"):
        load_or_draw(path)
    assert "short" in path.read_text("utf-8")


def test_a_missing_secret_is_added_and_the_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(f'{{"KITE_API_KEY_PEPPER": "{"ab" * 32}", "KITE_OTHER": "x"}}', "utf-8")
    assert load_or_draw(path)["KITE_API_KEY_PEPPER"] == "ab" * 32
    assert "KITE_OTHER" in path.read_text("utf-8")


def test_a_second_taker_is_told_who_has_the_folder(tmp_path: Path) -> None:
    first = DataLock(tmp_path / "lock")
    first.acquire(me("http://127.0.0.1:7700"))
    with pytest.raises(StepFailed, match=rf"already running .*pid {os.getpid()}, gateway at http://127.0.0.1:7700"):
        DataLock(tmp_path / "lock").acquire(me())
    assert holder_of(tmp_path / "lock") == me("http://127.0.0.1:7700")
    first.release()
    assert holder_of(tmp_path / "lock") is None


def test_a_released_folder_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        lock = DataLock(tmp_path / "lock")
        lock.acquire(me())
        lock.release()


def test_a_lock_file_of_a_dead_process_names_nobody(tmp_path: Path) -> None:
    lock = DataLock(tmp_path / "lock")
    lock.acquire(Holder(os.getpid(), "1", boot_id()))  # our pid, another start
    assert holder_of(tmp_path / "lock") is None
    lock.release()


def test_logs_are_turned_over_and_the_oldest_dropped(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for number in range(6):
        log.write_text(str(number), "utf-8")
        turn_over(log)
    assert [(tmp_path / f"a.log.{n}").read_text("utf-8") for n in (1, 2, 3)] == ["5", "4", "3"]
    assert not (tmp_path / "a.log.4").exists()


def test_a_log_that_grows_while_it_is_written_is_emptied_and_its_end_kept(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    descriptor = open_log(log)
    for number in range(5):
        os.write(descriptor, b"dropped" * number + f"kept {number}".encode())
        bound(log, most=6)
    os.write(descriptor, b"now")
    bound(log, most=6)
    os.close(descriptor)
    assert log.read_text("utf-8") == "now"
    assert [(tmp_path / f"a.log.{n}").read_text("utf-8") for n in (1, 2, 3)] == ["kept 4", "kept 3", "kept 2"]
    assert {(file.name, file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == {
        (name, 0o600) for name in ("a.log", "a.log.1", "a.log.2", "a.log.3")
    }


def test_a_log_that_cannot_be_copied_stays_as_it_was(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("a long line", "utf-8")
    (tmp_path / ".a.log.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        bound(log, most=4)
    assert log.read_text("utf-8") == "a long line"
    assert not (tmp_path / "a.log.1").exists()


def test_a_log_is_appended_to_and_its_end_read_back(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a.log"
    for number in range(40):
        descriptor = open_log(log)
        os.write(descriptor, f"line {number}\n".encode())
        os.close(descriptor)
    assert tail(log, 2) == "line 38\nline 39"
    assert tail(tmp_path / "none.log") == "(no log)"
