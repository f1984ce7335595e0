"""Webhook receivers on loopback: good ones, and ones that fail, hang, ask for time or are gone.

All but the last take everything in the end.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

from aiohttp import web

from kite_cli.chaos.memory import Arrived, Memory
from kite_cli.listening import listening

Manner = Literal["good", "fails", "hangs", "busy", "gone"]
# Ten tries there are: what was refused so often is taken from then on.
_REFUSED_AT_MOST: Final = 3
_REFUSED_SHARE: Final = 0.4
_GONE_SHARE: Final = 0.02
# Longer than an attempt may take here.
_HANGS_S: Final = 4.0


class Receivers:
    """All receivers: one path each, `/<manner>/<team>`."""

    def __init__(self, memory: Memory, chance: random.Random) -> None:
        self._memory, self._chance = memory, chance
        self.url = ""

    def url_of(self, manner: Manner, team_id: str, which: str = "") -> str:
        """Where a team's webhooks go."""
        return f"{self.url}/{manner}/{team_id}{which}"

    async def take(self, request: web.Request) -> web.Response:
        """The route."""
        body, event_id = await request.read(), request.headers.get("webhook-id", "")
        team_id = request.match_info["team"].partition("+")[0]
        arrived = self._memory.arrived.setdefault(event_id, Arrived(team_id, time.monotonic()))
        arrived.count += 1
        arrived.bodies.add(hashlib.blake2b(body, digest_size=8).digest())
        status, headers = await self._answer(request.match_info["manner"], arrived)
        arrived.answers[status] += 1
        return web.Response(status=status, headers=headers)

    async def _answer(self, manner: str, arrived: Arrived) -> tuple[int, dict[str, str]]:
        refuses = arrived.count <= _REFUSED_AT_MOST and self._chance.random() < _REFUSED_SHARE
        if manner == "gone" and self._chance.random() < _GONE_SHARE:
            return 410, {}
        if not refuses or manner in ("good", "gone"):
            return 204, {}
        if manner == "busy":
            return 429, {"Retry-After": "1"}
        if manner == "hangs":
            await asyncio.sleep(_HANGS_S)
            return 204, {}
        return 500, {}


@asynccontextmanager
async def receiving(memory: Memory, chance: random.Random) -> AsyncIterator[Receivers]:
    """Listen on a free port while inside."""
    receivers, app = Receivers(memory, chance), web.Application()
    app.router.add_post("/{manner}/{team}", receivers.take)
    async with listening(app) as receivers.url:
        yield receivers
