"""Whether ClickHouse answers and has all its parts, also while nobody reads and nothing is archived. Decides nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from kite_common.errors import ApiError, Unavailable
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.pulse import LATE_AFTER_S, Pulse
from kite_common.runtime.system import pause

log = get_logger("kite.replay.clickhouse")

_EVERY_S: Final = 5.0


class ClickHouseWatch:
    """Component: asks every `every_s` seconds, never twice at a time.

    `ask` answers how many parts are broken (their rows are missing: told by metric and log, as readers are served what is there); it raises
    Unavailable, or ApiError while too many calls wait.
    """

    name = "clickhouse"

    def __init__(
        self, ask: Callable[[], Awaitable[int]], metrics: Metrics, *, every_s: float = _EVERY_S, late_s: float = LATE_AFTER_S
    ) -> None:
        self._ask, self._every_s = ask, every_s
        self._broken = metrics.gauge("kite_archive_broken_parts")
        self._told = 0
        self._pulse = Pulse("clickhouse", metrics, within_s=late_s)
        self._refuses = False

    def readiness(self) -> Readiness:
        """Ready while it answers; not while it refuses, nor once it has said nothing at all for a while."""
        if self._refuses:
            return Readiness(ready=False, reason="ClickHouse is away or refuses")
        late = self._pulse.late
        return READY if late is None else Readiness(ready=False, reason=f"ClickHouse does not answer: {late}")

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until stopped; a question without an answer is waited for, not repeated: each would keep a connection busy."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                asking = asyncio.ensure_future(self._asked())
                await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not asking.done():
                    asking.cancel()
                    break
                asking.result()
                await pause(self._every_s, stop)
        finally:
            stopping.cancel()

    async def _asked(self) -> None:
        try:
            broken = await self._ask()
        except Unavailable:
            self._refuses = True
        except ApiError:
            # Too many wait for an answer: if they get none, we get none either.
            return
        else:
            self._refuses = False
            self._pulse.beat()
            self._tell(broken)

    def _tell(self, broken: int) -> None:
        self._broken.set(broken)
        if broken > self._told:
            log.error("archive.parts_broken", parts=broken, remedy="rows are missing: kitectl rebuild archive")
        self._told = broken
