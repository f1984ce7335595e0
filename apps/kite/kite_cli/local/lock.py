"""One supervisor per data folder: a lock the kernel drops with the process that holds it. Knows no children."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from kite_cli.local.identity import Identity, boot_id, is_alive
from kite_cli.local.step import StepFailed

_SIZE = 1024


@dataclass(frozen=True, slots=True)
class Holder:
    """Who runs the stack of a data folder, as written into the lock file. `gateway` is empty until it listens."""

    pid: int
    started: str
    boot: str
    gateway: str = ""

    @property
    def identity(self) -> Identity:
        """The holder as a process."""
        return Identity(self.pid, self.started)


class DataLock:
    """The lock of one data folder. The file stays, the lock does not outlive its process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, holder: Holder) -> None:
        """Take the lock without waiting. Raises StepFailed naming who has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise already_running(self._path) from error
        self._descriptor = descriptor
        self.describe(holder)

    def describe(self, holder: Holder) -> None:
        """Write who holds the lock, for others to read."""
        if self._descriptor is not None:
            self._write(json.dumps(asdict(holder)))

    def release(self) -> None:
        """Give the lock back; does nothing without it."""
        if self._descriptor is not None:
            self._write("")
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, text: str) -> None:
        # One write of one size: a reader sees the old or the new text, never parts of both.
        if self._descriptor is not None:
            os.pwrite(self._descriptor, text.ljust(_SIZE).encode("utf-8"), 0)


def holder_of(path: Path) -> Holder | None:
    """Return who holds the lock at `path`, or None if nobody does. Does not touch the lock, so disturbs no start."""
    holder = _read(path)
    return holder if holder and holder.boot == boot_id() and is_alive(holder.identity) else None


def already_running(path: Path) -> StepFailed:
    """Return the error for a second start in one data folder."""
    holder = _read(path)
    who = f"pid {holder.pid}" if holder else "another process"
    where = f", gateway at {holder.gateway}" if holder and holder.gateway else ""
    return StepFailed(
        "data folder",
        f"a stack is already running in {path.parent} ({who}{where})",
        "Use it as it is, stop it with `kitectl down`, or give this one another folder with --data.",
    )


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
