"""Whether this process has stood still for so long that others may do its work by now. Asked right before a write that nobody fences."""

from collections.abc import Callable
from typing import Final

from kite_common.runtime.system import boottime_s

SESSION_S: Final = 6.0
BEAT_S: Final = 0.5
_STILL_S: Final = SESSION_S / 2 + BEAT_S


class Pulse:
    """Beats while the event loop runs. `time_s` goes on while the process is frozen. May be asked in any thread."""

    def __init__(self, time_s: Callable[[], float] = boottime_s) -> None:
        self._time_s = time_s
        self._beat_s = time_s()

    @property
    def still_s(self) -> float:
        """Seconds since the last beat."""
        return self._time_s() - self._beat_s

    @property
    def is_regular(self) -> bool:
        """Whether what was ours at the last beat is surely still ours. Once it is not, no beat makes it so again: `beat` is not called."""
        return self.still_s <= _STILL_S

    def beat(self) -> None:
        """The loop runs."""
        self._beat_s = self._time_s()
