"""Whether a loop still turns: one that waits for something that never comes looks exactly like one that has nothing to do."""

from collections.abc import Callable
from typing import Final

from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import monotonic_s

# A loop that has not come round for so long is told of (architecture: red within 30 s).
LATE_AFTER_S: Final = 20.0


class Pulse:
    """A loop that is to come round at least every `within_s` seconds, and says `beat` each time it has done what it is there for.

    `kite_loop_age_seconds` shows how long ago that was, as of the moment it is asked for.
    """

    def __init__(
        self, loop: str, metrics: Metrics | None, *, partition: int | None = None, within_s: float = LATE_AFTER_S,
        now_s: Callable[[], float] = monotonic_s,
    ) -> None:  # fmt: skip
        self._loop, self._within_s, self._now_s = loop, within_s, now_s
        self._labels = (loop, "" if partition is None else str(partition))
        self._at_s = now_s()
        self._gauge = None if metrics is None else metrics.gauge("kite_loop_age_seconds")
        if self._gauge is not None:
            self._gauge.labels(*self._labels).set_function(lambda: self.age_s)

    @property
    def age_s(self) -> float:
        """Seconds since the last beat, or since the beginning."""
        return self._now_s() - self._at_s

    def beat(self) -> None:
        """The loop has come round."""
        self._at_s = self._now_s()

    @property
    def late(self) -> str | None:
        """What is wrong, None while the loop comes round in time."""
        age_s = self.age_s
        return f"{self._loop} has not come round for {age_s:.0f} s" if age_s > self._within_s else None

    def end(self) -> None:
        """The loop is over: nobody has to wait for it."""
        if self._gauge is not None:
            self._gauge.remove(*self._labels)
            self._gauge = None
