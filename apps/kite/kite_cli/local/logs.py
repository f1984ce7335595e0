"""Log files of the children: bounded by turning them over at a start, and read back for a report. Parses nothing."""

import os
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
        older = path.with_name(f"{path.name}.{number}")
        newer = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        if newer.exists():
            newer.replace(older)


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
