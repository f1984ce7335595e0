"""Sends a command to billing and waits for what becomes of it. Decides nothing; billing writes the outcome after its commit."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from redis.asyncio import Redis

from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.codec import Record, decode_as, encode
from kite_common.events.commands import Command, CommandOutcome
from kite_common.ids import CommandId
from kite_common.log_position import partition_of
from kite_common.projection import keys
from kite_common.projection.wakeups import Wakeups
from kite_common.runtime.component import READY, Readiness


class Publishes(Protocol):
    """What is needed of `kite_common.stream.publisher.Publisher` on kite.commands."""

    async def publish(self, partition: int, records: Sequence[Record], *, not_after_ms: int | None = None) -> int:
        """Append the records together; raises Unavailable (nothing written, also later) or OutcomeOpen."""
        ...


class CommandSender:
    """Component: while it runs, senders are woken as soon as billing has spoken; when it does not, they look a few times a second.

    The client belongs to the caller, who closes it after `run` has returned.
    """

    name = "commands"

    def __init__(self, redis: Redis, publisher: Publishes, partitions: int, *, timeout_s: float = 10.0) -> None:
        self._wakeups = Wakeups(redis, self.name)
        self._publisher, self._partitions, self._timeout_s = publisher, partitions, timeout_s

    def readiness(self) -> Readiness:
        """Always ready: a lost wake-up only makes an answer later."""
        return READY

    async def run(self, stop: asyncio.Event) -> None:
        """Listen for wake-ups until stopped."""
        await self._wakeups.run(stop)

    async def send(self, command: Command, *, not_after_ms: int | None = None) -> CommandOutcome:
        """Publish a command and wait for its outcome; a repeat of a command id that has an outcome gets that one.

        After `not_after_ms` (wall clock) it is not published any more: what it was decided on may have changed meanwhile.

        Raises Unavailable if nothing was written, OutcomeOpen if the outcome did not come in time: send the same command again.
        """
        outcome_key = keys.outcome(CommandId(command.command_id))
        known = await self._known(outcome_key)
        if known is not None:
            return known
        with self._wakeups.expect(command.command_id) as expected:
            partition = partition_of(command.team_id.encode(), self._partitions)
            await self._publisher.publish(partition, (encode(command),), not_after_ms=not_after_ms)
            try:
                async with asyncio.timeout(self._timeout_s):
                    return decode_as(CommandOutcome, await expected.outcome(outcome_key))
            except TimeoutError as error:
                raise OutcomeOpen("billing has not answered in time") from error

    async def _known(self, outcome_key: str) -> CommandOutcome | None:
        """What is known of the command; nothing also while Redis is away, because billing may still speak in time."""
        try:
            found = await self._wakeups.look(outcome_key)
        except Unavailable:
            return None
        return None if found is None else decode_as(CommandOutcome, found)
