"""`python -m kite_cli.bench.sampler kite_gateway.main OUT`: runs a service and notes where its CPU time goes, by a timer of that time.

Between SIGUSR1 and SIGUSR2, then OUT is written. A sample for about every tick of the system (4 or 10 ms) that the process has computed; it
weighs what the main thread has computed since the last one. C code counts for the Python that called it, the event loop for
`asyncio.runners`. Of other threads the system tells how much each has computed, not where. Changes nothing else about the service; not for
anything but benchmarks.
"""

import json
import os
import runpy
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Final

# As often as the system can: it counts in ticks.
_EVERY_S: Final = 0.001
_TASKS: Final = Path("/proc/self/task")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class Sampler:
    """Seconds by place "module:function": `own` the innermost place, `within` every place on the stack, once a sample; so `modules`."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._samples = 0
        self._own: defaultdict[str, float] = defaultdict(float)
        self._within: defaultdict[str, float] = defaultdict(float)
        self._modules: defaultdict[str, float] = defaultdict(float)
        self._main_s, self._process_s = 0.0, 0.0
        self._threads: Mapping[tuple[str, str], float] = {}

    def install(self) -> None:
        """Listen to the two signals."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, lambda _number, _frame: self._begin())
        signal.signal(signal.SIGUSR2, lambda _number, _frame: self._write())

    def _begin(self) -> None:
        self._main_s, self._process_s, self._threads = time.thread_time(), time.process_time(), other_threads(os.getpid())
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        # Handlers run in the main thread, whichever thread's computing has set the timer off.
        before, self._main_s = self._main_s, time.thread_time()
        if frame is None:
            return
        weight_s = self._main_s - before
        self._samples += 1
        self._own[_place(frame)] += weight_s
        places: set[str] = set()
        while frame is not None:
            places.add(_place(frame))
            frame = frame.f_back
        for place in places:
            self._within[place] += weight_s
        for module in {place.partition(":")[0] for place in places}:
            self._modules[module] += weight_s

    def _write(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        found = {
            "samples": self._samples, "cpu_s": time.process_time() - self._process_s, "own": self._own, "within": self._within,
            "modules": self._modules, "threads": by_name(self._threads, other_threads(os.getpid())),
        }  # fmt: skip
        aside = self._out.with_suffix(".part")
        aside.write_text(json.dumps(found))
        aside.rename(self._out)


def other_threads(main: int, tasks: Path = _TASKS) -> dict[tuple[str, str], float]:
    """Seconds that each thread but `main`, the id of the process, has computed, by id and name, as the system counts them."""
    found: dict[tuple[str, str], float] = {}
    for task in tasks.iterdir():
        try:
            head, _, tail = (task / "stat").read_text().rpartition(")")
        except OSError:
            continue  # it has just ended
        number, _, name = head.partition(" (")
        user, system = tail.split()[11:13]
        if number != str(main):
            found[number, name] = (int(user) + int(system)) / _TICKS_PER_S
    return found


def by_name(before: Mapping[tuple[str, str], float], after: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """What threads of each name have computed between two looks. What a thread did that has ended in between is not known."""
    found: defaultdict[str, float] = defaultdict(float)
    for key, seconds in after.items():
        found[key[1]] += seconds - before.get(key, 0.0)
    return {name: seconds for name, seconds in found.items() if seconds > 0}


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
