"""Sends a command to billing and waits for what becomes of it. Decides nothing; billing writes the outcome after its commit."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kite_common.errors import OutcomeOpen
from kite_common.events.codec import Record, decode_as, encode
from kite_common.events.commands import Command, CommandOutcome
from kite_common.ids import CommandId
from kite_common.log_position import partition_of
from kite_common.projection import keys
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import pause

log = get_logger("kite.projection")

# A wake-up may be lost with a connection: the outcome itself is looked for again after this time.
_POLL_S: Final = 0.25
_LISTEN_AGAIN_S: Final = 1.0


class Publishes(Protocol):
    """What is needed of `kite_common.stream.publisher.Publisher` on kite.commands."""

    async def publish(self, partition: int, records: Sequence[Record]) -> int:
        """Append the records together; raises Unavailable (nothing written) or OutcomeOpen."""
        ...


class CommandSender:
    """Component: while it runs, senders are woken as soon as billing has spoken; when it does not, they look a few times a second.

    The client belongs to the caller, who closes it after `run` has returned.
    """

    name = "commands"

    def __init__(self, redis: Redis, publisher: Publishes, partitions: int, *, timeout_s: float = 10.0) -> None:
        self._redis, self._publisher, self._partitions, self._timeout_s = redis, publisher, partitions, timeout_s
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def readiness(self) -> Readiness:
        """Always ready: a lost wake-up only makes an answer later."""
        return READY

    async def run(self, stop: asyncio.Event) -> None:
        """Listen for wake-ups until stopped."""
        listening = asyncio.create_task(self._listen_always(), name="commands.listen")
        try:
            await stop.wait()
        finally:
            listening.cancel()
            await asyncio.wait({listening})

    async def send(self, command: Command) -> CommandOutcome:
        """Publish a command and wait for its outcome; a repeat of a command id that has an outcome gets that one.

        Raises Unavailable if nothing was written, OutcomeOpen if the outcome did not come in time: send the same command again.
        """
        command_id = CommandId(command.command_id)
        known = await self._outcome(command_id)
        if known is not None:
            return known
        key = command.team_id.encode()
        woken = asyncio.Event()
        self._waiting.setdefault(command_id, set()).add(woken)
        try:
            await self._publisher.publish(partition_of(key, self._partitions), (encode(command),))
            async with asyncio.timeout(self._timeout_s):
                return await self._wait(command_id, woken)
        except TimeoutError as error:
            raise OutcomeOpen("billing has not answered in time") from error
        finally:
            self._forget(command_id, woken)

    async def _wait(self, command_id: CommandId, woken: asyncio.Event) -> CommandOutcome:
        while True:
            outcome = await self._outcome(command_id)
            if outcome is not None:
                return outcome
            await pause(_POLL_S, woken)
            woken.clear()

    async def _outcome(self, command_id: CommandId) -> CommandOutcome | None:
        """What is known of the command; nothing also while Redis is away, because billing may still speak in time."""
        try:
            found = await self._redis.get(keys.outcome(command_id))
        except (RedisError, OSError) as error:
            log.warning("commands.redis_away", reason=type(error).__name__)
            return None
        return None if found is None else decode_as(CommandOutcome, _bytes(found))

    def _forget(self, command_id: CommandId, woken: asyncio.Event) -> None:
        waiting = self._waiting.get(command_id, set())
        waiting.discard(woken)
        if not waiting:
            self._waiting.pop(command_id, None)

    async def _listen_always(self) -> None:
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                log.warning("commands.listening_ended", reason=type(error).__name__)
            await asyncio.sleep(_LISTEN_AGAIN_S)

    async def _listen(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(keys.OUTCOME_CHANNEL)
            while True:
                message: Any = await channel.get_message(timeout=None)
                if message is not None:
                    for woken in self._waiting.get(_bytes(message["data"]).decode(), ()):
                        woken.set()


def _bytes(reply: bytes | str) -> bytes:
    return reply.encode() if isinstance(reply, str) else reply
