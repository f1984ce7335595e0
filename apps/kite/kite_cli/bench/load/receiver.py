"""The endpoint webhooks go to: says 204 to every POST, at once unless told to hang, and remembers when each event came first.

Checks no signature.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import httptools

from kite_cli.bench.load.client import now_s
from kite_cli.local.ports import LOOPBACK

_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Arrivals:
    """When each event arrived, by its id (`webhook-id`), in seconds of time.monotonic(). POSTs are answered after `hang_s` seconds."""

    def __init__(self) -> None:
        self.at_s: dict[str, float] = {}
        self.hang_s = 0.0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Receive while inside; gives the URL."""
        server = await asyncio.get_running_loop().create_server(lambda: _Receiving(self), LOOPBACK, 0)
        try:
            yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/in"
        finally:
            server.close()

    def came(self, event_id: str) -> None:
        """An event is here."""
        self.at_s.setdefault(event_id, now_s())


class _Receiving(asyncio.Protocol):
    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals, self._parser = arrivals, httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"webhook-id":
            self._arrivals.came(value.decode("ascii", "replace"))

    def on_message_complete(self) -> None:
        if self._arrivals.hang_s > 0:
            asyncio.get_running_loop().call_later(self._arrivals.hang_s, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_ANSWER)
