"""Arrivals over Redis and the followed credentials: looks until it is there or the time is over."""

import asyncio
from collections.abc import Callable
from typing import Final

from kite_common.clock import Clock
from kite_common.errors import Unavailable
from kite_common.ids import TeamId
from kite_common.runtime import faults
from kite_common.runtime.system import pause
from kite_gateway.adapters.place import Place
from kite_gateway.adapters.scripts import ScriptRunner, load_script
from kite_gateway.application.ports import Credentials

_BETWEEN_LOOKS_S: Final = 0.01


class PolledArrivals:
    """Projections take a few milliseconds after a credit, so looking again is as good as being told."""

    def __init__(self, runner: ScriptRunner, place_of: Callable[[TeamId], Place], credentials: Credentials, clock: Clock) -> None:
        self._runner, self._place_of, self._credentials, self._clock = runner, place_of, credentials, clock
        self._position = load_script("position")

    async def of_account(self, team_id: TeamId, applied: int | None, timeout_s: float) -> bool:
        """Positions only rise, so one that is reached stays reached."""
        never = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                while not await self._is_projected(team_id, applied or 0):
                    await pause(_BETWEEN_LOOKS_S, never)
        except (TimeoutError, Unavailable):
            return False
        faults.reached("credit.projected")
        return True

    async def of_team(self, team_id: TeamId, api_key: str | None, timeout_s: float) -> bool:
        """Account first: it is there last."""
        never = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                arrived = await self.of_account(team_id, None, timeout_s)
                while arrived and api_key is not None and self._credentials.identify(api_key, self._clock.unix_ms()) is None:
                    await pause(_BETWEEN_LOOKS_S, never)
                return arrived
        except (TimeoutError, Unavailable):
            return False

    async def _is_projected(self, team_id: TeamId, applied: int) -> bool:
        account, *_ = self._place_of(team_id).admission
        position: int = await self._runner.run(self._position, (account,), ())
        return position >= applied
