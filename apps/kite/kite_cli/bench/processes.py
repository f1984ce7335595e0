"""CPU time and memory of processes, as the system counts them in /proc. Starts and signals none."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kite_cli.local.identity import resident_bytes, session_members, stat_fields

# Where the fields stand behind the command name in /proc/<pid>/stat: user and system time in clock ticks. See proc(5).
_UTIME, _STIME = 11, 12


@dataclass(frozen=True, slots=True)
class CpuSample:
    """Seconds of CPU each part had used when `at_s` (time.monotonic()) was."""

    at_s: float
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CpuUse:
    """Seconds of CPU by part, over `wall_s` seconds."""

    wall_s: float
    seconds: Mapping[str, float]

    def share(self, name: str) -> float:
        """The part of one core this part kept busy."""
        return self.seconds.get(name, 0.0) / self.wall_s if self.wall_s else 0.0


def cpu_seconds(fields: Sequence[str], ticks_per_s: int) -> float:
    """User and system time of the fields that follow the command name in /proc/<pid>/stat; 0 for a process that is gone."""
    return (int(fields[_UTIME]) + int(fields[_STIME])) / ticks_per_s if fields else 0.0


def use_between(before: CpuSample, after: CpuSample) -> CpuUse:
    """What was used between two samples, by the parts that are in both."""
    return CpuUse(
        after.at_s - before.at_s,
        {name: max(0.0, after.seconds[name] - before.seconds[name]) for name in before.seconds if name in after.seconds},
    )


def sample(pids: Mapping[str, int]) -> CpuSample:
    """The CPU time of each part: of the session that its process leads, with all its threads."""
    ticks = os.sysconf("SC_CLK_TCK")
    used = {name: sum(cpu_seconds(stat_fields(one), ticks) for one in _all_of(pid)) for name, pid in pids.items()}
    return CpuSample(time.monotonic(), used)


def resident_mib(pids: Mapping[str, int]) -> dict[str, float]:
    """The resident memory of each part in MiB. What processes share is counted in each of them."""
    return {name: sum(map(resident_bytes, _all_of(pid))) / 2**20 for name, pid in pids.items()}


def _all_of(pid: int) -> Iterable[int]:
    return {pid, *(member.pid for member in session_members(pid))}
