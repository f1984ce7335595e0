"""Log files of the children: bounded at a start and while they are written, and read back for a report. Parses nothing."""

import os
import shutil
from pathlib import Path

_KEPT = 3
_TURN_OVER_BYTES = 8 * 1024 * 1024  # four files of a child stay below what fits an editor


def open_log(path: Path) -> int:
    """Turn `path` over if it has grown large and return a descriptor that appends to it. The caller closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _TURN_OVER_BYTES:
        turn_over(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def turn_over(path: Path) -> None:
    """Rename name.log to name.log.1, that to name.log.2 and so on; the oldest is dropped."""
    for number in range(_KEPT, 0, -1):
        newer = path if number == 1 else _older(path, number - 1)
        if newer.exists():
            newer.replace(_older(path, number))


def bound(path: Path, most: int = _TURN_OVER_BYTES) -> None:
    """Turn over a log of more than `most` bytes that a child is writing: its end is copied, and the file emptied.

    The child goes on in the same file, as it appends. What it writes between the two is lost. Raises OSError, and then
    the log is as it was.
    """
    if not path.exists() or path.stat().st_size <= most:
        return
    _older(path, _KEPT).unlink(missing_ok=True)  # so that a disk that is nearly full has room for the copy
    copy = path.with_name(f".{path.name}.new")
    try:
        copy.touch(0o600)
        with path.open("rb") as written, copy.open("wb") as kept:
            written.seek(-most, os.SEEK_END)
            shutil.copyfileobj(written, kept)
        os.truncate(path, 0)
    except OSError:
        copy.unlink(missing_ok=True)
        raise
    for number in range(_KEPT, 1, -1):
        if (newer := _older(path, number - 1)).exists():
            newer.replace(_older(path, number))
    copy.replace(_older(path, 1))


def _older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log, or a word that there is none. Reads 64 KiB at most."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 65_536))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"
