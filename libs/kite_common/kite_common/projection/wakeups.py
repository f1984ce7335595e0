"""Waits for outcomes that another process writes into Redis: looked for now and then, and at once when it says so. Decides nothing."""

import asyncio
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kite_common.errors import Unavailable
from kite_common.projection import keys
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import monotonic_s, pause

log = get_logger("kite.projection")

# A wake-up may be lost with a connection: the outcome itself is looked for again after this time.
_POLL_S: Final = 0.25
_LISTEN_AGAIN_S: Final = 1.0
_SAY_AGAIN_S: Final = 1.0


class Wakeups:
    """While `run` is on, waiters are woken as soon as an outcome is there; when it is not, they look a few times a second.

    `name` is that of the component it belongs to. The client belongs to the caller, who closes it after `run` has returned.
    """

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis, self._name = redis, name
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._say_next_s = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Listen for wake-ups until stopped."""
        listening = asyncio.create_task(self._listen_always(), name=f"{self._name}.listen")
        try:
            await stop.wait()
        finally:
            listening.cancel()
            await asyncio.wait({listening})

    async def look(self, key: str) -> bytes | None:
        """The outcome at a key, None if there is none yet. Raises Unavailable if Redis is away."""
        try:
            found = await self._redis.get(key)
        except (RedisError, OSError) as error:
            self._say_away(type(error).__name__)
            raise Unavailable(f"Redis is away: {type(error).__name__}") from error
        return None if found is None else _bytes(found)

    def expect(self, identifier: str) -> "Expected":
        """A context inside which wake-ups for this id are heard; enter it before whatever leads to the outcome is sent."""
        return Expected(self, self._waiting, identifier)

    def _say_away(self, reason: str) -> None:
        """Every waiter looks a few times a second; the log needs to know once."""
        now_s = monotonic_s()
        if now_s >= self._say_next_s:
            log.warning(f"{self._name}.redis_away", reason=reason)
            self._say_next_s = now_s + _SAY_AGAIN_S

    async def _listen_always(self) -> None:
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                log.warning(f"{self._name}.listening_ended", reason=type(error).__name__)
            await asyncio.sleep(_LISTEN_AGAIN_S)

    async def _listen(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(keys.OUTCOME_CHANNEL)
            while True:
                message: Any = await channel.get_message(timeout=None)
                if message is not None:
                    for woken in self._waiting.get(_bytes(message["data"]).decode(), ()):
                        woken.set()


class Expected:
    """One waiter for the outcome of one id."""

    def __init__(self, wakeups: Wakeups, waiting: dict[str, set[asyncio.Event]], identifier: str) -> None:
        self._wakeups, self._waiting, self._identifier = wakeups, waiting, identifier
        self._woken = asyncio.Event()

    def __enter__(self) -> "Expected":
        self._waiting.setdefault(self._identifier, set()).add(self._woken)
        return self

    def __exit__(self, *_: object) -> None:
        others = self._waiting.get(self._identifier, set())
        others.discard(self._woken)
        if not others:
            self._waiting.pop(self._identifier, None)

    async def outcome(self, key: str) -> bytes:
        """What is written at the key, as soon as it is there; without end, also while Redis is away: it may come back in time."""
        while True:
            try:
                found = await self._wakeups.look(key)
            except Unavailable:
                found = None
            if found is not None:
                return found
            await pause(_POLL_S, self._woken)
            self._woken.clear()


def _bytes(reply: bytes | str) -> bytes:
    return reply.encode() if isinstance(reply, str) else reply
