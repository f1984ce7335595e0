"""A tier whose head is not due yet keeps nothing else back."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from kite_common.clock import FrozenClock, to_unix_ms
from kite_common.events.codec import encode
from kite_common.stream.input import Input
from kite_common.testing import make
from kite_delivery.adapters.partition_loop import LoopTimes
from kite_delivery.adapters.retries_consumer import RetriesOwner

NOW = datetime(2026, 4, 30, tzinfo=UTC)
TIER, DELAY_MS = "kite.deliveries.retry.1", 1_200_000


class SleepsFor(Exception):
    """The tier would sleep now, for so long."""


class Feed:
    """A delivery that was parked more than once, so long ago; the delay of the first is over, the last one's has just begun."""

    partition = 3

    def __init__(self, ago_ms: Sequence[int] = (DELAY_MS, 0)) -> None:
        self.closing = asyncio.Event()
        fact = encode(make.delivery_parked(held=True, parking="0123456789abcdef"))
        times = [to_unix_ms(NOW) - ago for ago in ago_ms]
        self.inputs = [Input(TIER, 3, offset, at, fact.key, fact.value, fact.headers) for offset, at in enumerate(times)]

    async def batch(self, *_topics: str, **_settings: Any) -> Sequence[Input]:
        return self.inputs

    def seek(self, _topic: str, _offset: int) -> None: ...
    def pause(self, _topic: str) -> None: ...

    def sleep(self, _topic: str, for_s: float) -> None:
        raise SleepsFor(for_s)


class Work:
    """Remembers what was accepted, and what of it was handed on to be written."""

    def __init__(self) -> None:
        self.accepted: list[int] = []
        self.flushed: list[int] = []
        self.finished: list[int] = []

    async def begin(self, offset: int) -> None: ...
    def finish(self, offset: int) -> None:
        self.finished.append(offset)

    async def accept(self, offset: int, _delivery: object) -> None:
        self.accepted.append(offset)

    def flush(self) -> None:
        self.flushed = list(self.accepted)


class Endpoints:
    async def refreshed(self, _partition: int) -> None: ...


async def read_until_it_sleeps(feed: Feed) -> Work:
    work, nobody = Work(), cast(Any, None)
    times = cast(LoopTimes, None)
    owner = RetriesOwner(cast(Any, Endpoints()), nobody, nobody, FrozenClock(NOW), times, topics=[TIER], delays_ms=[DELAY_MS])
    with pytest.raises(SleepsFor):
        await owner._read(TIER, DELAY_MS, cast(Any, feed), cast(Any, work))
    return work


async def test_what_ended_before_a_head_that_is_not_due_is_written_before_the_tier_sleeps() -> None:
    """The end of a delivery whose config was deleted stood nowhere until the next one of its tier was due: up to hours."""
    work = await read_until_it_sleeps(Feed())
    assert work.accepted == work.flushed == [0]


async def test_a_delivery_the_tier_holds_twice_goes_on_once() -> None:
    """A story: a park whose answer got lost was repeated, and two schedules of one delivery went on side by side to the tenth attempt."""
    work = await read_until_it_sleeps(Feed([DELAY_MS + 1, DELAY_MS, 0]))
    assert (work.accepted, work.finished) == ([0], [1])
