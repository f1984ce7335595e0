"""Wakes at an exact time: the timers of event loops count in whole milliseconds, and that would be half of what is measured here."""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Final

_CLOCK_MONOTONIC: Final = 1  # <time.h>
_TFD_TIMER_ABSTIME: Final = 1  # <sys/timerfd.h>


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class Alarm:
    """Calls `rung` in the running loop at the time that was last set; by timerfd on Linux, elsewhere by the loop's own timer."""

    def __init__(self, rung: Callable[[], None]) -> None:
        self._rung, self._loop = rung, asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self._descriptor = -1
        if self._libc is not None:
            self._descriptor = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            if self._descriptor < 0:
                raise OSError(ctypes.get_errno(), "timerfd_create")
            self._loop.add_reader(self._descriptor, self._ring)

    def set(self, at_s: float) -> None:
        """Ring at `at_s` of time.monotonic(), at once if that has passed."""
        if self._libc is None:
            self._timer = self._loop.call_later(max(0.0, at_s - time.monotonic()), self._rung)
            return
        seconds, nanoseconds = divmod(max(1, round(at_s * 1e9)), 1_000_000_000)
        wanted = _TimerSpec(_TimeSpec(0, 0), _TimeSpec(seconds, nanoseconds))
        self._libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(wanted), None)

    def close(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _ring(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:  # set anew between the event and this call
            return
        self._rung()
