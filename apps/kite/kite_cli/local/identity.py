"""Who a pid is right now: its start time, session and memory as the system tells them. Sends no signals.

A pid alone names nobody, because it is given out again; pid, start time and boot together do.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_HAS_PROC = (_PROC / "self" / "stat").exists()


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, for ever: `started` is opaque and compared only for equality."""

    pid: int
    started: str


def boot_id() -> str:
    """Name this boot of the machine: start times are counted from it. Empty where the system has no such name."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def identify(pid: int) -> Identity | None:
    """Return who `pid` is now, or None if there is no such process. A zombie still is one."""
    if _HAS_PROC:
        fields = stat_fields(pid)
        return Identity(pid, fields[19]) if fields else None
    started = _ps(pid, "lstart")
    return Identity(pid, started) if started else None


def is_alive(identity: Identity) -> bool:
    """Say whether exactly this process still runs; a zombie does not."""
    if not _HAS_PROC:
        return identify(identity.pid) == identity and not _ps(identity.pid, "stat").startswith("Z")
    fields = stat_fields(identity.pid)
    return bool(fields) and fields[19] == identity.started and fields[0] not in "ZX"


def is_stopped(pid: int) -> bool:
    """Say whether every thread of the process stands still (SIGSTOP); also if it is gone. Threads stop one after the other."""
    if not _HAS_PROC:
        return _ps(pid, "stat")[:1] in ("", "T")
    try:
        threads = [int(entry.name) for entry in (_PROC / str(pid) / "task").iterdir()]
    except OSError:
        return True
    return all((stat_fields(thread) or ["T"])[0] in "TtZX" for thread in threads)


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the command name: [0] state, [3] session, [19] start. See proc(5)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return []
    # The name stands in parentheses and may itself hold spaces and parentheses.
    return text.rpartition(")")[2].split()


def session_members(session: int) -> list[Identity]:
    """Return the processes of a session; empty where the system cannot tell."""
    if not _HAS_PROC:
        return []
    members = []
    for entry in _PROC.iterdir():
        fields = stat_fields(int(entry.name)) if entry.name.isdigit() else []
        if fields and fields[3] == str(session):
            members.append(Identity(int(entry.name), fields[19]))
    return members


def carries(pid: int, name: str, value: str) -> bool:
    """Say whether the process was started with this environment variable; no where the system cannot tell."""
    try:
        block = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return f"{name}={value}".encode() in block.split(b"\0")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 if it is gone."""
    if _HAS_PROC:
        try:
            pages = (_PROC / str(pid) / "statm").read_text("ascii").split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return int(_ps(pid, "rss") or 0) * 1024


def _ps(pid: int, column: str) -> str:
    command = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
