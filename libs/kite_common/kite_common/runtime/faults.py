"""Deliberate deaths, for tests only: a process kills itself at the point that KITE_FAULT_POINT names. Without it nothing happens.

`KITE_FAULT_POINT=payment.settling.committed` dies when that point is reached for the first time, `...:3` at the third. The death is
SIGKILL: nothing is flushed, closed or told. `stop@transaction.open:2` stands still there instead (SIGSTOP), until somebody sends SIGCONT.
Points are named where they are; `reached` costs a comparison.
"""

import os
import signal
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from kite_common.errors import ConfigurationError
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import CLOCK_OFFSET_MS

log = get_logger("kite.faults")

FAULT_POINT: Final = "KITE_FAULT_POINT"
_STOP: Final = "stop@"


@dataclass(slots=True)
class Fault:
    """A point, and how many more times it is passed by before the process gets the signal there."""

    point: str
    left: int
    number: signal.Signals = signal.SIGKILL

    def due(self, point: str) -> bool:
        """Whether this is the time."""
        if point != self.point:
            return False
        self.left -= 1
        return self.left == 0


def parse_fault(text: str) -> Fault | None:
    """`[stop@]<point>` or `[stop@]<point>:<n-th time, from 1>`; None for an empty text. Raises ConfigurationError."""
    stops = text.strip().startswith(_STOP)
    point, colon, times = text.strip().removeprefix(_STOP).partition(":")
    if colon and not (times.isascii() and times.isdigit() and int(times) > 0):
        raise ConfigurationError([f"{FAULT_POINT}: must be a point's name, or name:N with N from 1"])
    return Fault(point, int(times) if colon else 1, signal.SIGSTOP if stops else signal.SIGKILL) if point else None


def announce() -> None:
    """Say at start, and loudly, that this process is going to kill itself, or has a wrong clock. Raises ConfigurationError."""
    if CLOCK_OFFSET_MS:
        log.error("faults.clock", offset_ms=CLOCK_OFFSET_MS, warning="THE CLOCK OF THIS PROCESS IS WRONG ON PURPOSE: FOR TESTS ONLY")
    fault = _armed()
    if fault is not None:
        log.error("faults.armed", point=fault.point, times=fault.left, warning="THIS PROCESS KILLS ITSELF AT THAT POINT: FOR TESTS ONLY")


def reached(point: str) -> None:
    """Die, or stand still, here if this point was named."""
    fault = _armed()
    if fault is not None and fault.due(point):
        log.error("faults.dying", point=point, signal=fault.number.name)
        os.kill(os.getpid(), fault.number)


@lru_cache(maxsize=1)
def _armed() -> Fault | None:
    # No setting: nobody should find it in the list of what can be configured.
    return parse_fault(os.environ.get(FAULT_POINT, ""))  # noqa: TID251
