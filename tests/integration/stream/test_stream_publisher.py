"""Publishing on a real broker: pairs stay together, offsets are right, and what is refused is never written."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from kite_cli.local.stack import LocalStack, StackOptions
from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.errors import Malformed, OutcomeOpen, Unavailable
from kite_common.projection.keys import PUBLISH_TIMEOUT_MS
from kite_common.runtime.metrics import Metrics
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher, PublishLimits
from kite_common.testing.eventually import eventually
from kite_common.topics import MAX_MESSAGE_BYTES
from support.log import PARTITIONS, new_topic, read_all, record, running


async def test_each_call_gets_the_offset_of_its_first_record_and_its_records_stay_together(kafka: Kafka) -> None:
    topic, metrics = await new_topic(kafka), Metrics()
    publisher = Publisher(kafka, topic, PARTITIONS, metrics)
    async with running(publisher):
        offsets = await asyncio.gather(
            *(publisher.publish(number % PARTITIONS, [record(f"{number}", "event"), record(f"{number}", "usage")]) for number in range(300))
        )
    found = {(partition, offset): (key, value) for partition, offset, key, value in await read_all(kafka, topic)}
    assert len(found) == 600
    for number, offset in enumerate(offsets):
        assert found[number % PARTITIONS, offset] == (str(number), "event")
        assert found[number % PARTITIONS, offset + 1] == (str(number), "usage")
    groups = metrics.histogram("kite_publish_group_size").labels(topic=topic)
    assert sum(bucket.get() for bucket in groups._buckets) < 100  # far fewer batches than calls


async def test_headers_and_large_records_arrive_as_they_are(kafka: Kafka) -> None:
    topic = await new_topic(kafka)
    publisher = Publisher(kafka, topic, PARTITIONS)
    large = "x" * (MAX_MESSAGE_BYTES - 4096)
    async with running(publisher):
        await publisher.publish(0, [record("large", large, ("kite-record", b"event"))])
        with pytest.raises(Malformed, match="larger than the log takes"):
            await publisher.publish(0, [record("huge", "x" * MAX_MESSAGE_BYTES)])
    assert await read_all(kafka, topic) == [(0, 0, "large", large)]


async def test_before_it_runs_and_after_it_has_stopped_writes_are_refused(kafka: Kafka) -> None:
    topic = await new_topic(kafka)
    publisher = Publisher(kafka, topic, PARTITIONS)
    with pytest.raises(Unavailable):
        await publisher.publish(0, [record("early")])
    async with running(publisher):
        await publisher.publish(0, [record("in time")])
    with pytest.raises(Unavailable):
        await publisher.publish(0, [record("late")])
    assert [key for _, _, key, _ in await read_all(kafka, topic)] == ["in time"]


async def test_what_is_queued_when_it_stops_is_written_first(kafka: Kafka) -> None:
    topic = await new_topic(kafka)
    publisher = Publisher(kafka, topic, PARTITIONS, limits=PublishLimits(group_calls=3))
    async with running(publisher):
        calls = [asyncio.create_task(publisher.publish(0, [record(f"{number:02}")])) for number in range(40)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*calls) == list(range(40))


async def test_what_comes_too_late_is_refused_although_no_timer_has_seen_the_time_pass(kafka: Kafka) -> None:
    topic, clock = await new_topic(kafka), FrozenClock(from_unix_ms(1_000_000))
    publisher = Publisher(kafka, topic, PARTITIONS, clock=clock)
    async with running(publisher):
        await publisher.publish(0, [record("in time")], not_after_ms=1_000_000)
        waiting = asyncio.create_task(publisher.publish(0, [record("frozen meanwhile")], not_after_ms=1_005_000))
        clock.advance(timedelta(seconds=60))
        with pytest.raises(Unavailable, match="too late"):
            await waiting
    assert [key for _, _, key, _ in await read_all(kafka, topic)] == ["in time"]


async def test_it_stops_although_the_brokers_never_answered() -> None:
    publisher, stop = Publisher(Kafka("127.0.0.1:1"), "any", PARTITIONS), asyncio.Event()
    running = asyncio.create_task(publisher.run(stop))
    await asyncio.sleep(0.2)
    stop.set()
    async with asyncio.timeout(10):
        await running


def test_a_reservation_cannot_lapse_before_a_publish_has_given_up() -> None:
    limits = PublishLimits()
    assert (limits.hand_over_s + limits.acknowledge_s) * 1000 < PUBLISH_TIMEOUT_MS


@pytest.fixture
async def own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """A stack of the test's own, to do harm to."""
    async with LocalStack(StackOptions(tmp_path_factory.mktemp("own"))) as stack:
        yield stack


async def test_while_the_broker_hangs_calls_are_answered_and_those_refused_are_never_written(own: LocalStack) -> None:
    kafka = Kafka(own.addresses.kafka_bootstrap)
    topic = await new_topic(kafka)
    limits = PublishLimits(hand_over_s=0.5, acknowledge_s=1.5)
    publisher = Publisher(kafka, topic, PARTITIONS, limits=limits)
    answers: dict[str, str] = {}

    async def call(key: str) -> None:
        try:
            await publisher.publish(0, [record(key)])
        except Unavailable:
            answers[key] = "refused"
        except OutcomeOpen:
            answers[key] = "open"
        else:
            answers[key] = "written"

    async with running(publisher):
        await call("before")
        await own.child("kafka").freeze()
        calls = [asyncio.create_task(call("handed over"))]
        await asyncio.sleep(0.1)
        calls += [asyncio.create_task(call(f"queued {number}")) for number in range(3)]
        await asyncio.wait(calls)
        assert answers == {"before": "written", "handed over": "open"} | {f"queued {number}": "refused" for number in range(3)}
        await call("meanwhile")
        assert answers["meanwhile"] == "refused"
        own.child("kafka").thaw()

        async def again() -> bool:
            await call("after")
            return answers["after"] == "written"

        await eventually(again, within_s=30, what="it writes again by itself")
    written = {key for _, _, key, _ in await read_all(kafka, topic)}
    assert {"before", "after"} <= written <= {"before", "after", "handed over"}


async def test_a_process_that_stood_still_sends_nothing_after_its_time(own: LocalStack) -> None:
    kafka, clock = Kafka(own.addresses.kafka_bootstrap), FrozenClock(from_unix_ms(1_000_000))
    topic = await new_topic(kafka)
    # The library's retries go on for a minute as its timers see it; the wall clock says that more has passed.
    publisher = Publisher(kafka, topic, PARTITIONS, limits=PublishLimits(hand_over_s=60, acknowledge_s=60), clock=clock)
    async with running(publisher):
        await publisher.publish(0, [record("before")])
        await own.child("kafka").kill9(restart=False)
        waiting = asyncio.create_task(publisher.publish(0, [record("frozen meanwhile")]))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        clock.advance(timedelta(seconds=61))
        await own.child("kafka").start()
        with pytest.raises(OutcomeOpen):
            await waiting

        async def again() -> bool:
            try:
                await publisher.publish(0, [record("after")])
            except Unavailable:
                return False
            return True

        await eventually(again, within_s=30, what="it writes again by itself")
    assert [key for _, _, key, _ in await read_all(kafka, topic)] == ["before", "after"]


async def test_when_a_caller_hears_that_the_outcome_is_open_no_retry_is_sent_any_more(own: LocalStack) -> None:
    kafka = Kafka(own.addresses.kafka_bootstrap)
    topic = await new_topic(kafka)
    publisher = Publisher(kafka, topic, PARTITIONS, limits=PublishLimits(acknowledge_s=0.5))
    async with running(publisher):
        await publisher.publish(0, [record("before")])
        await own.child("kafka").kill9(restart=False)
        with pytest.raises(OutcomeOpen):
            await publisher.publish(0, [record("given up")])
        # The producer is abandoned a few turns of the loop later; in between the client library may come to a retry.
        assert not publisher._in_time()
        await own.child("kafka").start()


async def test_a_broker_that_is_killed_and_comes_back_loses_nothing_acknowledged_and_doubles_nothing(own: LocalStack) -> None:
    kafka = Kafka(own.addresses.kafka_bootstrap)
    topic = await new_topic(kafka)
    publisher = Publisher(kafka, topic, PARTITIONS)
    written: set[str] = set()
    refused: set[str] = set()

    async def call(key: str) -> None:
        try:
            await publisher.publish(hash(key) % PARTITIONS, [record(key), record(key)])
            written.add(key)
        except Unavailable:
            refused.add(key)
        except OutcomeOpen:
            pass

    async with running(publisher):
        calls = []
        for number in range(600):
            if number == 200:
                await own.child("kafka").kill9(restart=True)
            calls.append(asyncio.create_task(call(f"{number}")))
            await asyncio.sleep(0.005)
        await asyncio.wait(calls)

        async def again() -> bool:
            await call("after")
            return "after" in written

        await eventually(again, within_s=60, what="it writes again by itself")
    refused.discard("after")
    keys = [key for _, _, key, _ in await read_all(kafka, topic)]
    counts = {key: keys.count(key) for key in set(keys)}
    assert written <= counts.keys()
    assert not refused & counts.keys()
    assert all(count == 2 for count in counts.values()), "pairs are whole and written once"
