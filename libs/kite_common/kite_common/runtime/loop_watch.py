"""Tells when the event loop itself stands still: then no probe is answered, and nothing in it can say why. A thread does.

A blocked loop answers neither /livez nor /readyz, so a probe's timeout is what sees it; afterwards the gauge still shows how long it was,
and the log has the stack of what blocked.
"""

import asyncio
import sys
import threading
import traceback
from collections import deque
from typing import Final

from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import monotonic_s, pause

log = get_logger("kite.runtime")

_BEAT_S: Final = 0.25
# Nothing of ours computes for longer than some ten milliseconds at a time.
BLOCKED_S: Final = 5.0
_REMEMBERED_S: Final = 60.0
_FRAMES: Final = 12


class LoopWatch:
    """Component: measures how late the loop is, and reports a loop that does not turn for `blocked_s` while it does not."""

    name = "event-loop"

    def __init__(self, metrics: Metrics, *, blocked_s: float = BLOCKED_S) -> None:
        self._blocked_s = blocked_s
        self._beat_at_s = monotonic_s()
        self._late: deque[tuple[float, float]] = deque()
        self._over = threading.Event()
        self._blocked = metrics.counter("kite_event_loop_blocked_total")
        metrics.gauge("kite_event_loop_late_seconds").set_function(self._worst_s)

    def readiness(self) -> Readiness:
        """Ready: whoever is answered at all is answered by this loop."""
        return READY

    async def run(self, stop: asyncio.Event) -> None:
        """Measure until stopped."""
        self._beat_at_s = monotonic_s()
        watcher = threading.Thread(target=self._watch, args=(threading.get_ident(),), name="loop-watch", daemon=True)
        watcher.start()
        try:
            while not await pause(_BEAT_S, stop):
                self._beat()
        finally:
            self._over.set()

    def _beat(self) -> None:
        now = monotonic_s()
        self._late.append((now, max(0.0, now - self._beat_at_s - _BEAT_S)))
        self._beat_at_s = now
        while self._late[0][0] < now - _REMEMBERED_S:
            self._late.popleft()

    def _worst_s(self) -> float:
        """The longest that the loop was late within the last minute."""
        return max((late for _, late in list(self._late)), default=0.0)

    def _watch(self, loop_thread: int) -> None:
        """Runs in a thread of its own: once for each time the loop stands still."""
        told = 0.0
        while not self._over.wait(self._blocked_s / 4):
            beat_at_s = self._beat_at_s
            if monotonic_s() - beat_at_s > self._blocked_s and beat_at_s != told:
                told = beat_at_s
                self._blocked.inc()
                log.error("event_loop.blocked", for_s=round(monotonic_s() - beat_at_s, 1), at=_stack(loop_thread))


def _stack(thread: int) -> list[str]:
    """Where that thread is, innermost last: files, lines and names, no values."""
    frame = sys._current_frames().get(thread)
    return [f"{one.filename}:{one.lineno} {one.name}" for one in traceback.extract_stack(frame)[-_FRAMES:]] if frame is not None else []
