"""`python -m kite_cli.bench.sampler kite_gateway.main OUT`: runs a service and counts where it is, by a timer of its own CPU time.

Between SIGUSR1 and SIGUSR2, then OUT is written. A sample for every tick of the system (4 or 10 ms) that the process has computed: C code
counts for the Python that called it, the event loop for `asyncio.runners`, other threads for whatever the main one is at. Changes nothing
else about the service; not for anything but benchmarks.
"""

import json
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

# As often as the system can: it counts in ticks.
_EVERY_S: Final = 0.001


class Sampler:
    """Counts by place "module:function": `own` the innermost place, `within` every place on the stack, once a sample."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._own: Counter[str] = Counter()
        self._within: Counter[str] = Counter()

    def install(self) -> None:
        """Listen to the two signals."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, lambda _number, _frame: signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S))
        signal.signal(signal.SIGUSR2, lambda _number, _frame: self._write())

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        self._own[_place(frame)] += 1
        places: set[str] = set()
        while frame is not None:
            places.add(_place(frame))
            frame = frame.f_back
        self._within.update(places)

    def _write(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        aside = self._out.with_suffix(".part")
        aside.write_text(json.dumps({"own": self._own, "within": self._within}))
        aside.rename(self._out)


def _place(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__', '?')}:{frame.f_code.co_qualname}"


def main() -> None:
    """Run the module of the first argument as `python -m` would."""
    module, out = sys.argv[1], Path(sys.argv[2])
    Sampler(out).install()
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
