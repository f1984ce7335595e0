"""What the sender of commands hands over. Its Redis is away: what is known of outcomes is in the tests with Redis."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from kite_common.errors import Unavailable
from kite_common.events.codec import Record
from kite_common.projection.outcomes import CommandSender
from kite_common.testing import make


@dataclass
class ClosedLog:
    """Takes nothing; remembers until when it was to take it."""

    deadlines: list[int | None] = field(default_factory=list)

    async def publish(self, _partition: int, _records: Sequence[Record], *, not_after_ms: int | None = None) -> int:
        self.deadlines.append(not_after_ms)
        raise Unavailable("away")


@pytest.mark.parametrize("not_after_ms", [None, 1_777_543_205_000])
async def test_a_command_is_handed_over_with_the_time_until_which_it_may_be_written(not_after_ms: int | None) -> None:
    log = ClosedLog()
    async with contextlib.aclosing(Redis.from_url("redis://127.0.0.1:1")) as redis:
        with pytest.raises(Unavailable):
            await CommandSender(redis, log, 8).send(make.subscribe(), not_after_ms=not_after_ms)
    assert log.deadlines == [not_after_ms]
