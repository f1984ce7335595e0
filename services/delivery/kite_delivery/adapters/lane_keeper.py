"""Keeps lanes moving by time: starts what a rate or a full process held back, ends waits that are too long. No rules."""

import asyncio
from typing import Final

from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.system import pause
from kite_delivery.application.lanes import Lanes
from kite_delivery.application.ports import Observer

_EVERY_S: Final = 0.1


class LaneKeeper:
    """A Component around `Lanes.sweep`."""

    name = "lanes"

    def __init__(self, lanes: Lanes, observer: Observer) -> None:
        self._lanes, self._observer = lanes, observer

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop` is set."""
        while not await pause(_EVERY_S, stop):
            self._lanes.sweep()
            self._observer.load(self._lanes.open, self._lanes.in_flight, self._lanes.left_alone)

    def readiness(self) -> Readiness:
        """Always ready: there is nothing to wait for."""
        return READY
