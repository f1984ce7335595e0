"""What replay says of itself while it ends."""

import asyncio

import httpx

from kite_common.runtime.http import HttpServer
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_replay.main import build
from kite_replay.settings import ReplaySettings

SETTINGS = ReplaySettings(
    kafka_bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:1/0", clickhouse_url="http://127.0.0.1:1/kite",
    api_key_pepper=make.PEPPER.decode(), port=0, host="127.0.0.1",
)  # fmt: skip


async def test_a_server_that_says_farewell_is_not_ready() -> None:
    """A story: /readyz was made of the parts there were before the server; so it stayed green until the port was closed."""
    server = build(SETTINGS)[-1]
    assert isinstance(server, HttpServer)
    stop = asyncio.Event()
    running = asyncio.create_task(server.run(stop))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=server._app), base_url="http://replay") as client:
        await eventually(lambda: server.readiness().ready, what="it listens")
        assert "http" not in (await client.get("/readyz")).text
        stop.set()
        await running
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "draining" in answer.text
