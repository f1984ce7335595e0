"""Ports for the parts of a stack: picked, held against other stacks of this user, and who has one that is taken.

Nothing is picked from the range the system gives to outgoing connections: a client that keeps knocking while a part
restarts could be given that very port as its own, and the part would never get it back.
"""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path

from kite_cli.local.step import StepFailed

LOOPBACK = "127.0.0.1"
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  what somebody asks for with --host, never the default

_FREE_FROM, _FREE_TO = 20_000, 32_000  # below Linux's ephemeral range (32768) and macOS' (49152)
_TRIES = 200
_NEXT = 100


class PortBook:
    """The ports of one stack. A picked one stays held until `release`, also while nothing listens on it."""

    def __init__(self, seed: int | None = None) -> None:
        self._held: dict[int, int] = {}
        self._random = random.Random(seed)  # noqa: S311  a spread over the range, no secret

    def pick(self, preferred: Iterable[int] = (), *, after: int | None = None, avoid: Collection[int] = ()) -> int:
        """Return the first usable one of `preferred`, else the next `after` a port, else any, but none to `avoid`."""
        following = range(after + 1, after + _NEXT) if after else ()
        for port in chain(preferred, following, self._anywhere()):
            if port not in avoid and self.take(port):
                return port
        raise StepFailed(
            "ports",
            f"no free port found between {_FREE_FROM} and {_FREE_TO}",
            "End some of the servers on this machine, or name free ports yourself.",
        )

    def take(self, port: int) -> bool:
        """Hold `port` if nothing listens there and no other stack holds it."""
        if port in self._held or not is_free(port):
            return False
        descriptor = os.open(_hold_folder() / str(port), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held[port] = descriptor
        return True

    def release(self) -> None:
        """Give all ports back."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def _anywhere(self) -> Iterator[int]:
        return (self._random.randrange(_FREE_FROM, _FREE_TO) for _ in range(_TRIES))


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Say whether a server could listen on `port` now; connections in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def reached_at(host: str) -> str:
    """Return where a client on this machine finds a server that listens on `host`."""
    return LOOPBACK if host == EVERY_ADDRESS else host


def holder_text(port: int) -> str:
    """Name who listens on `port`, as far as this user may see: `pid 123 (nginx)`, else `another process`."""
    inodes = listening_inodes(_read("/proc/net/tcp") + _read("/proc/net/tcp6"), port)
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        if _sockets_of(process) & inodes:
            return f"pid {process.name} ({_read(process / 'comm').strip()})"
    return "another process"


def listening_inodes(table: str, port: int) -> set[str]:
    """Return the socket inodes that listen on `port` in text of the form of /proc/net/tcp, see proc(5)."""
    rows = (line.split() for line in table.splitlines())
    listening = "0A"
    return {row[9] for row in rows if len(row) > 9 and row[3] == listening and row[1].endswith(f":{port:04X}")}


def _sockets_of(process: Path) -> set[str]:
    links = [_link(process / "fd" / name) for name in _names(process / "fd")]
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # another user's, or gone meanwhile
        return []


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed meanwhile
        return ""


def _hold_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"kite-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        advice = "Remove it or set TMPDIR to a folder of your own."
        raise StepFailed("ports", f"{folder} belongs to somebody else", advice)
    return folder


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""
