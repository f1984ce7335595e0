"""Blocking clients behind asyncio: a few threads, each with a client of its own, a bounded queue before them. Knows no SQL."""

import asyncio
import contextlib
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from kite_common.errors import ApiError, Unavailable
from kite_common.runtime.observe import get_logger

log = get_logger("kite.replay.clickhouse")

T = TypeVar("T")


class ClientPool:
    """`size` calls run at a time, `waiting` more may queue. A client is opened when it is first needed and then kept."""

    def __init__(self, name: str, open_client: Callable[[], Client], *, size: int, waiting: int) -> None:
        self._name, self._open, self._limit = name, open_client, size + waiting
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=f"clickhouse-{name}")
        self._idle: SimpleQueue[Client] = SimpleQueue()
        self._in_flight = 0

    async def run(self, work: Callable[[Client], T]) -> T:
        """Run `work` in a thread with a client. A cancelled call is carried through, its result dropped.

        Raises Unavailable when ClickHouse cannot be reached or refuses, ApiError `overloaded` when too many calls wait.
        """
        if self._in_flight >= self._limit:
            raise ApiError("overloaded", retry_after_s=1)
        self._in_flight += 1
        running = asyncio.get_running_loop().run_in_executor(self._executor, self._with_client, work)
        running.add_done_callback(self._ended)
        with away_is_unavailable(self._name):
            return await running

    def adopt(self, client: Client) -> None:
        """Take over a client that is already open."""
        self._idle.put(client)

    def close(self) -> None:
        """Wait for the calls that run, then close all clients. Blocks."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().close()

    def _with_client(self, work: Callable[[Client], T]) -> T:
        client = self._idle.get() if not self._idle.empty() else self._open()
        try:
            return work(client)
        finally:
            self._idle.put(client)

    def _ended(self, running: "asyncio.Future[Any]") -> None:
        self._in_flight -= 1
        if not running.cancelled():
            running.exception()  # seen: a call that nobody waits for any more must not be reported as forgotten


@contextlib.contextmanager
def away_is_unavailable(doing: str) -> Generator[None, None, None]:
    """Whatever ClickHouse or the network answers instead of a result becomes Unavailable.

    The text names tables and settings, never rows or credentials; it stays in the log.
    """
    try:
        yield
    except (ClickHouseError, OSError) as error:
        log.warning("clickhouse.call_failed", doing=doing, reason=_first_line(error))
        raise Unavailable("ClickHouse is away or refuses") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
