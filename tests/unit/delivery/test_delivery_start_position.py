"""Where delivery begins to read: never anew in a partition it has worked on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from kite_common.clock import FrozenClock, to_unix_ms
from kite_common.errors import Unavailable
from kite_common.stream.input import Input
from kite_delivery.adapters.start_position import PositionLost, Positions, begin_reading, holds_old_records

NOW = datetime(2026, 4, 30, tzinfo=UTC)
TOPIC = "kite.deliveries.retry.1"


@dataclass
class FakeFeed:
    """A partition whose records have these append times, the first one at offset 4."""

    partition: int = 3
    position: int | None = None
    appended: Sequence[datetime] = ()
    is_readable: bool = True
    at: int | None = None
    resumed: set[str] = field(default_factory=set)

    async def committed(self, topic: str) -> int | None:  # noqa: ARG002 - there is one topic
        return self.position

    async def commit(self, offsets: Mapping[str, int]) -> None:
        self.position = offsets[TOPIC]

    def seek(self, topic: str, offset: int) -> None:  # noqa: ARG002
        self.at = offset

    async def seek_to_beginning(self, topic: str) -> int:  # noqa: ARG002
        self.at = 4
        return 4

    async def end_offset(self, topic: str) -> int:  # noqa: ARG002
        return 4 + len(self.appended)

    async def batch(self, *topics: str, max_records: int, timeout_s: float) -> Sequence[Input]:  # noqa: ARG002
        assert self.at is not None
        assert self.resumed >= {*topics}
        records = [Input(TOPIC, self.partition, 4 + number, to_unix_ms(at), b"t", b"", ()) for number, at in enumerate(self.appended)]
        found = records[self.at - 4 :][:max_records] if self.is_readable else []
        self.at += len(found)
        return found

    def pause(self, *topics: str) -> None:
        self.resumed -= {*topics}

    def resume(self, *topics: str) -> None:
        self.resumed |= {*topics}


async def never(_feed: Positions, _topic: str) -> bool:
    return False


async def before(_feed: Positions, _topic: str) -> bool:
    return True


async def test_it_goes_on_where_the_group_stands() -> None:
    feed = FakeFeed(position=9)
    await begin_reading(feed, TOPIC, before)
    assert (feed.at, feed.position, feed.resumed) == (9, 9, {TOPIC})


async def test_a_partition_nobody_has_worked_on_is_read_from_its_beginning_and_that_is_on_record_before_anything_is_sent() -> None:
    feed = FakeFeed()
    await begin_reading(feed, TOPIC, never)
    assert (feed.at, feed.position, feed.resumed) == (4, 4, {TOPIC})


async def test_a_position_that_expired_is_not_taken_for_a_beginning() -> None:
    feed = FakeFeed()
    with pytest.raises(PositionLost, match="no position in kite.deliveries.retry.1-3"):
        await begin_reading(feed, TOPIC, before)
    assert (feed.position, feed.resumed) == (None, set())


@pytest.mark.parametrize(("age_h", "is_old"), [(0.1, False), (23.9, False), (24.1, True), (24 * 89, True)])
async def test_a_tier_that_holds_what_is_older_than_a_day_was_read_before(age_h: float, is_old: bool) -> None:
    feed = FakeFeed(appended=[NOW - timedelta(hours=age_h), NOW])
    if is_old:
        with pytest.raises(PositionLost):
            await begin_reading(feed, TOPIC, holds_old_records(FrozenClock(NOW)))
    else:
        await begin_reading(feed, TOPIC, holds_old_records(FrozenClock(NOW)))
        assert (feed.at, feed.position, feed.resumed) == (4, 4, {TOPIC})


async def test_an_empty_tier_is_not_waited_for_and_one_that_cannot_be_read_is_not_guessed_about() -> None:
    empty, unreadable = FakeFeed(is_readable=False), FakeFeed(appended=[NOW], is_readable=False)
    await begin_reading(empty, TOPIC, holds_old_records(FrozenClock(NOW)))
    assert empty.position == 4
    with pytest.raises(Unavailable, match="cannot be read"):
        await begin_reading(unreadable, TOPIC, holds_old_records(FrozenClock(NOW)))
    assert unreadable.position is None
