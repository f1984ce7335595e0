"""A small HTTP server on the loopback, for commands that receive webhooks themselves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from kite_cli.local.ports import LOOPBACK


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    """Serve on a free port while inside; the base URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, 0).start()
        yield f"http://{LOOPBACK}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
