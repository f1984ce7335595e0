"""A webhook receiver on loopback, as a user would write one. Answers 204, keeps what came, verifies nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from kite_cli.listening import listening


@dataclass(frozen=True, slots=True)
class Received:
    """One POST; `at_s` is the time of the running loop."""

    webhook_id: str
    timestamp: str
    signature: str
    body: bytes
    at_s: float


class Receiver:
    """What came, in order; `arrived` wakes whoever waits for more."""

    def __init__(self) -> None:
        self.url = ""
        self._received: list[Received] = []
        self._arrived = asyncio.Condition()

    async def first(self, webhook_id: str) -> Received:
        """The first POST of an event; waits for it."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: any(one.webhook_id == webhook_id for one in self._received))
        return next(one for one in self._received if one.webhook_id == webhook_id)

    async def take(self, request: web.Request) -> web.Response:
        """The route."""
        body, head = await request.read(), request.headers
        at_s = asyncio.get_running_loop().time()
        one = Received(head.get("webhook-id", ""), head.get("webhook-timestamp", ""), head.get("webhook-signature", ""), body, at_s)
        async with self._arrived:
            self._received.append(one)
            self._arrived.notify_all()
        return web.Response(status=204)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Listen on a free port while inside."""
    receiver, app = Receiver(), web.Application()
    app.router.add_post("/kite-smoke", receiver.take)
    async with listening(app) as url:
        receiver.url = f"{url}/kite-smoke"
        yield receiver
