"""Payments handed to billing over a real Kafka, and outcomes told over a real Valkey; what happens while either is away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.asyncio import Redis

from kite_common.errors import ApiError, OutcomeOpen, Unavailable
from kite_common.events.codec import Record, decode_as
from kite_common.events.payments import PaymentOutcome, PaymentSubmitted
from kite_common.projection import keys
from kite_common.projection.payments import PaymentSender, tell
from kite_common.runtime.system import SystemClock
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.testing import payments
from kite_common.testing.eventually import eventually
from kite_common.x402.key import payment_partition
from support.log import PARTITIONS, new_topic, read_all, running
from support.stack import RunningStack
from support.switch import switch_to

# A database of our own, so that other tests may wipe theirs.
DATABASE = 7


@pytest.fixture
async def redis(stack: RunningStack) -> AsyncIterator[Redis]:
    client = Redis.from_url(url_of(stack.redis_url), decode_responses=True)
    yield client
    await client.aclose()


def url_of(redis_url: str) -> str:
    return redis_url.rsplit("/", 1)[0] + f"/{DATABASE}"


def submitted(number: int = 0, wait_ms: int = 20_000, **given: Any) -> PaymentSubmitted:
    """The n-th submission, each of another payer, sent now."""
    now, payer = SystemClock().unix_ms(), payments.payer(number + 1)
    fields = {"submission_id": f"s{number}-{now}", "sent_at": now, "deadline": now + wait_ms}
    made = payments.submitted(authorization=payments.authorization(payer), **(fields | given))
    return made.model_copy(update={"payment_key": made.payment_key.replace(payments.address(payments.payer()), payments.address(payer))})


def outcome_of(one: PaymentSubmitted, **given: Any) -> PaymentOutcome:
    return payments.outcome(payment_key=one.payment_key, submission_id=one.submission_id, **given)


@dataclass
class Log:
    """A publisher of ours that notes what it is given, or fails as told."""

    error: Exception | None = None
    published: list[Record] = field(default_factory=list)

    async def publish(self, partition: int, records: Sequence[Record], *, not_after_ms: int | None = None) -> int:
        self.published += records
        if self.error is not None:
            raise self.error
        return 0


async def refused(sender: PaymentSender, one: PaymentSubmitted) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await sender.submit(one)
    return caught.value


async def test_submissions_stand_in_the_log_and_every_caller_hears_of_its_own(stack: RunningStack, redis: Redis) -> None:
    kafka = Kafka(stack.kafka)
    topic = await new_topic(kafka)
    publisher = Publisher(kafka, topic, PARTITIONS)
    sender = PaymentSender(redis, publisher, PARTITIONS, 20)
    sent = [submitted(number) for number in range(20)]
    async with running(publisher, sender):
        waiting = [asyncio.create_task(sender.submit(one)) for one in sent]
        await eventually(lambda: _all_stand(kafka, topic, len(sent)), within_s=15, what="all submissions are in the log")
        assert sender.waiting == 20
        outcomes = [outcome_of(one, balance_after_atomic=number) for number, one in enumerate(sent)]
        await tell(redis, outcomes)
        assert await asyncio.gather(*waiting) == outcomes
    assert sender.waiting == 0
    records = await read_all(kafka, topic)
    assert sorted((partition, key) for partition, _, key, _ in records) == sorted(
        (payment_partition(one.payment_key, PARTITIONS), one.payment_key) for one in sent
    )
    assert {decode_as(PaymentSubmitted, value.encode()).submission_id for *_, value in records} == {one.submission_id for one in sent}


async def _all_stand(kafka: Kafka, topic: str, count: int) -> bool:
    return len(await read_all(kafka, topic)) == count


async def test_an_outcome_is_found_also_when_nobody_listens(redis: Redis) -> None:
    sender, one = PaymentSender(redis, Log(), 8, 20), submitted()
    waiting = asyncio.create_task(sender.submit(one))
    await eventually(lambda: sender.waiting == 1, what="it waits")
    await tell(redis, [outcome_of(one)])
    assert await waiting == outcome_of(one)
    assert 0 < await redis.ttl(keys.payment_outcome(one.submission_id)) <= keys.OUTCOME_TTL_S


async def test_without_an_outcome_in_time_the_payment_is_pending(redis: Redis) -> None:
    log, one = Log(), submitted()
    outcome = await PaymentSender(redis, log, 8, 0.3).submit(one)
    assert (outcome.result, outcome.submission_id, outcome.payment_key) == ("pending", one.submission_id, one.payment_key)
    assert len(log.published) == 1


async def test_without_redis_nothing_is_published(stack: RunningStack) -> None:
    async with switch_to(stack.redis_url) as switch:
        client = Redis.from_url(f"redis://127.0.0.1:{switch.port}/{DATABASE}")
        log = Log()
        sender = PaymentSender(client, log, 8, 20)
        await switch.off()
        error = await refused(sender, submitted())
        assert (error.status, error.code, error.retry_after_s, log.published) == (503, "service_unavailable", 2, [])
        with pytest.raises(Unavailable):
            await tell(client, [payments.outcome()])
        await client.aclose()


async def test_redis_may_go_and_come_while_a_payment_waits(stack: RunningStack, redis: Redis) -> None:
    async with switch_to(stack.redis_url) as switch:
        client = Redis.from_url(f"redis://127.0.0.1:{switch.port}/{DATABASE}")
        log, one = Log(), submitted()
        sender = PaymentSender(client, log, 8, 20)
        async with running(sender):
            waiting = asyncio.create_task(sender.submit(one))
            await eventually(lambda: len(log.published) == 1, what="it is published")
            await switch.off()
            await tell(redis, [outcome_of(one)])
            await switch.on()
            assert await waiting == outcome_of(one)
        await client.aclose()


async def test_while_redis_stays_away_a_published_payment_is_pending(stack: RunningStack) -> None:
    async with switch_to(stack.redis_url) as switch:
        client = Redis.from_url(f"redis://127.0.0.1:{switch.port}/{DATABASE}")
        log = Log()
        waiting = asyncio.create_task(PaymentSender(client, log, 8, 1.5).submit(submitted()))
        await eventually(lambda: len(log.published) == 1, what="it is published")
        await switch.off()
        assert (await waiting).result == "pending"
        await client.aclose()


async def test_over_the_limit_nothing_is_published(redis: Redis) -> None:
    log = Log()
    sender = PaymentSender(redis, log, 8, 20, max_waiting=2)
    waiting = [asyncio.create_task(sender.submit(submitted(number))) for number in range(2)]
    await eventually(lambda: len(log.published) == 2, what="two wait")
    error = await refused(sender, submitted(2))
    assert (error.status, error.code, error.retry_after_s, len(log.published)) == (503, "overloaded", 2, 2)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert sender.waiting == 0


async def test_without_the_log_nothing_is_taken(stack: RunningStack, redis: Redis) -> None:
    error = await refused(PaymentSender(redis, Publisher(Kafka(stack.kafka), "kite.payments", 8), 8, 20), submitted())
    assert (error.status, error.code, error.retry_after_s) == (503, "service_unavailable", 2)


async def test_after_its_deadline_a_submission_is_not_written_any_more(stack: RunningStack, redis: Redis) -> None:
    kafka = Kafka(stack.kafka)
    topic = await new_topic(kafka)
    publisher = Publisher(kafka, topic, PARTITIONS)
    async with running(publisher):
        error = await refused(PaymentSender(redis, publisher, PARTITIONS, 20), submitted(wait_ms=-1))
    assert error.code == "service_unavailable"
    assert await read_all(kafka, topic) == []


async def test_what_may_be_in_the_log_is_waited_for(redis: Redis) -> None:
    log, one = Log(OutcomeOpen("no acknowledgement")), submitted()
    sender = PaymentSender(redis, log, 8, 20)
    waiting = asyncio.create_task(sender.submit(one))
    await eventually(lambda: len(log.published) == 1, what="it is handed over")
    await tell(redis, [outcome_of(one)])
    assert await waiting == outcome_of(one)


async def test_an_outcome_that_cannot_be_read_leaves_the_payment_pending(redis: Redis) -> None:
    one = submitted()
    await redis.set(keys.payment_outcome(one.submission_id), b"{}", ex=60)
    assert (await PaymentSender(redis, Log(), 8, 20).submit(one)).result == "pending"


async def test_telling_nothing_needs_no_redis() -> None:
    client = Redis(host="127.0.0.1", port=1)
    await tell(client, [])
    await client.aclose()
