"""Stream time of every partition, polled from Redis in the background, and whether Redis answers. Decides nothing.

Stream time only rises, so a value that is a second old is only later, never wrong: a reservation lapses a second later. Nor does an old
server id harm: it names a process that held the accounts, and calls that ask for it do not run on any other.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kite_common.projection import keys
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import pause

log = get_logger("kite.gateway.redis")

_EVERY_S: Final = 1.0
_NEVER_ASKED: Final = Readiness(ready=False, reason="not asked yet")
_AWAY: Final = Readiness(ready=False, reason="no answer")


class StreamTime:
    """`of(partition)`: the newest known stream time in ms, 0 if unknown; `lag_s(partition)`: how far it is behind Redis' clock;
    `server_of(partition)`: the server process whose accounts billing vouches for."""

    name = "redis"

    def __init__(self, redis: Redis, timeout_s: float, metrics: Metrics | None = None) -> None:
        self._redis, self._timeout_s = redis, timeout_s
        self._age = None if metrics is None else metrics.gauge("kite_gateway_stream_time_age_seconds")
        self._times: dict[int, int] = {}
        self._servers: Mapping[str, str] = {}
        self._redis_ms = 0
        self._readiness = _NEVER_ASKED

    async def run(self, stop: asyncio.Event) -> None:
        """Ask once a second until stopped, then close the client."""
        try:
            while True:
                await self._refresh()
                if await pause(_EVERY_S, stop):
                    return
        finally:
            await self._redis.aclose()

    def readiness(self) -> Readiness:
        """Ready while Redis answers."""
        return self._readiness

    def of(self, partition: int) -> int:
        """Every record of kite.events appended before this time (ms) has been applied; 0 if that is not known."""
        return self._times.get(partition, 0)

    def server_of(self, partition: int) -> str | None:
        """The id of the server process that billing projects the partition's accounts to; None if there is none, or it is not known."""
        return self._servers.get(keys.server_field(partition))

    def lag_s(self, partition: int) -> float:
        """How old the stream time was when it was last asked for; 0 if it is not known."""
        known = self._times.get(partition)
        return 0.0 if known is None else max(0, self._redis_ms - known) / 1000

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                pipeline = self._redis.pipeline(transaction=False)
                pipeline.execute_command("TIME")
                pipeline.execute_command("HGETALL", keys.STREAM_TIME)
                pipeline.execute_command("HGETALL", keys.PROJECTED)
                (seconds, _), times, projected = await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            if self._readiness.ready:
                log.warning("redis.unavailable", reason=type(error).__name__)
            self._readiness = _AWAY
            return
        self._redis_ms = int(seconds) * 1000
        self._times |= {int(partition): int(time) for partition, time in _read_pairs(times)}
        self._servers = {_text(name): _text(value) for name, value in _read_pairs(projected)}
        self._readiness = READY
        if self._age is not None:
            for partition in self._times:
                self._age.labels(partition=str(partition)).set(self.lag_s(partition))


def _read_pairs(reply: Any) -> Iterable[tuple[Any, Any]]:
    """Redis gives a mapping, or, through older protocols, a flat list."""
    return reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)


def _text(part: bytes | str) -> str:
    return part.decode() if isinstance(part, bytes) else part
