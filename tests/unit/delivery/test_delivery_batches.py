"""Batches: what is joined, who gets which answer, and what becomes of those that are taken out."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from kite_common.clock import FrozenClock
from kite_common.events.deliveries import DeliveryAttempted
from kite_common.ids import EventId, batch_of
from kite_common.runtime.system import SystemClock
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_delivery.application.batches import MAX_BATCH_BYTES, Batches, Joined
from kite_delivery.application.deliver_message import DeliverMessage
from kite_delivery.domain.delivery import Batching, Delivery, Endpoint
from kite_delivery.domain.facts import Attempt
from kite_delivery.domain.outcome import Answer, Reply
from kite_delivery.domain.request import BATCH_CONTENT_TYPE, build_batch
from kite_delivery.domain.retry import RetryPolicy
from kite_delivery.domain.route import End
from kite_delivery.testing import SECRET, FakeEndpoints, FakeLog, FakeSender, SilentObserver, a_delivery, an_endpoint

NEVER_MS = 3_600_000
ENDPOINT = replace(an_endpoint(), batching=Batching(3, NEVER_MS))


def event(number: int, size: int = 0) -> Delivery:
    body = b'{"number":%d,"pad":"%s"}' % (number, b"x" * size)
    return a_delivery(event_id=make.event_id(number), body=body, offset=number)


def delivering(endpoints: FakeEndpoints, sender: FakeSender, log: FakeLog) -> DeliverMessage:
    return DeliverMessage(
        endpoints, sender, log, log, SilentObserver(), policy=RetryPolicy(),
        clock=FrozenClock(datetime(2026, 4, 30, 10, tzinfo=UTC)), jitter=lambda: 0.5, trace=lambda _parent: "trace",
    )  # fmt: skip


class Posts:
    """What was posted; the answer is held back until `go` is set."""

    def __init__(self) -> None:
        self.batches: list[list[EventId]] = []
        self.go = asyncio.Event()

    async def __call__(self, deliveries: Sequence[Delivery], _endpoint: Endpoint) -> Reply:
        self.batches.append([delivery.event_id for delivery in deliveries])
        await self.go.wait()
        return Answer(200 + len(self.batches[-1]))


async def test_a_full_batch_goes_at_once_and_the_rest_waits_for_more() -> None:
    posts = Posts()
    posts.go.set()
    batches = Batches(posts, most=16)
    first = await asyncio.gather(*(batches.send(event(number), ENDPOINT, Batching(3, NEVER_MS)) for number in range(3)))
    later = [asyncio.create_task(batches.send(event(number), ENDPOINT, Batching(3, 0))) for number in (3, 4)]
    assert first == [Joined(Answer(203), one == 0) for one in range(3)]
    assert await asyncio.gather(*later) == [Joined(Answer(202), one == 0) for one in range(2)]
    assert posts.batches == [[make.event_id(number) for number in batch] for batch in ((0, 1, 2), (3, 4))]


async def test_a_batch_never_waits_for_more_than_can_be_under_way() -> None:
    posts = Posts()
    posts.go.set()
    batches = Batches(posts, most=2)
    sent = await asyncio.gather(*(batches.send(event(n), ENDPOINT, Batching(100, NEVER_MS)) for n in range(4)))
    assert sent == [Joined(Answer(202), n % 2 == 0) for n in range(4)]


async def test_versions_of_a_config_and_endpoints_are_not_mixed_and_large_events_not_joined_beyond_the_limit() -> None:
    posts = Posts()
    posts.go.set()
    batches, rule = Batches(posts, most=16), Batching(16, 0)
    others = [ENDPOINT, replace(ENDPOINT, updated_at=ENDPOINT.updated_at + 1), an_endpoint(config_id="another")]
    await asyncio.gather(*(batches.send(event(number), endpoint, rule) for number, endpoint in enumerate(others)))
    assert [len(batch) for batch in posts.batches] == [1, 1, 1]
    await asyncio.gather(*(batches.send(event(number, MAX_BATCH_BYTES // 2), ENDPOINT, rule) for number in range(3)))
    assert [len(batch) for batch in posts.batches[3:]] == [1, 1, 1]


async def test_one_that_is_cancelled_before_the_post_is_not_sent_and_stops_no_other() -> None:
    posts = Posts()
    posts.go.set()
    batches = Batches(posts, most=16)
    tasks = [asyncio.create_task(batches.send(event(number), ENDPOINT, Batching(3, NEVER_MS))) for number in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    tasks += [asyncio.create_task(batches.send(event(number), ENDPOINT, Batching(2, NEVER_MS))) for number in (2,)]
    assert await asyncio.gather(*tasks[1:]) == [Joined(Answer(202), speaks=True), Joined(Answer(202), speaks=False)]
    assert posts.batches == [[make.event_id(1), make.event_id(2)]]


async def test_one_that_is_cancelled_during_the_post_leaves_the_answer_to_the_others_and_the_last_one_ends_it() -> None:
    posts = Posts()
    batches = Batches(posts, most=16)
    tasks = [asyncio.create_task(batches.send(event(number), ENDPOINT, Batching(2, NEVER_MS))) for number in range(4)]
    await eventually(lambda: len(posts.batches) == 2, every_s=0, what="both are posted")
    tasks[0].cancel()
    for task in tasks[2:]:
        task.cancel()
    await asyncio.wait([tasks[0], *tasks[2:]])
    posts.go.set()
    assert await tasks[1] == Joined(Answer(202), speaks=False)
    assert batches._gathering == {}
    assert all(task.cancelled() for task in (tasks[0], *tasks[2:]))


@given(st.lists(st.tuples(st.integers(0, 1), st.booleans()), min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 5))
def test_every_event_is_posted_once_unless_it_was_cancelled_and_gets_the_answer_of_its_batch(
    events: list[tuple[int, bool]], max_events: int, most: int
) -> None:
    posts = Posts()

    async def run() -> None:
        posts.go.set()
        batches, endpoints = Batches(posts, most), (ENDPOINT, an_endpoint(config_id="another"))
        tasks = [
            asyncio.create_task(batches.send(event(number), endpoints[which], Batching(max_events, 0)))
            for number, (which, _) in enumerate(events)
        ]
        for task, (_, is_cancelled) in zip(tasks, events, strict=True):
            if is_cancelled:
                task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        posted = [one for batch in posts.batches for one in batch]
        assert sorted(posted) == [make.event_id(number) for number, (_, is_cancelled) in enumerate(events) if not is_cancelled]
        for number, answer in enumerate(answers):
            if not events[number][1]:
                [mine] = [batch for batch in posts.batches if make.event_id(number) in batch]
                assert answer == Joined(Answer(200 + len(mine)), mine[0] == make.event_id(number))
        assert all(0 < len(batch) <= min(max_events, most) for batch in posts.batches)
        assert batches._gathering == {}

    asyncio.run(run())


def test_the_request_of_a_batch_is_a_signed_array_of_the_exact_events() -> None:
    events = [event(number) for number in range(3)]
    request = build_batch(events, ENDPOINT, [SECRET], SystemClock().unix_ms())
    headers = dict(request.headers)
    assert request.body == b"[" + b",".join(one.body for one in events) + b"]"
    assert headers["Content-Type"] == BATCH_CONTENT_TYPE
    assert Webhook(SECRET).verify(request.body, headers) == [json.loads(one.body) for one in events]
    assert headers["X-Kite-Signature"] == "sha256=" + hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()
    assert (headers["X-Kite-Batch-Size"], headers["X-Kite-Delivery-Attempt"]) == ("3", "1")
    with pytest.raises(ValueError, match="at least one"):
        build_batch([], ENDPOINT, [SECRET], 0)


def test_the_same_events_in_the_same_order_have_the_same_id_and_others_another() -> None:
    ids = [make.event_id(number) for number in range(3)]
    assert batch_of(ids) == batch_of(list(ids))
    assert len({batch_of(ids), batch_of(ids[::-1]), batch_of(ids[:2]), batch_of(ids[:1]), *ids}) == 6
    assert batch_of(ids[:1]) == ids[0]


async def test_a_failed_batch_is_retried_event_by_event_and_each_has_records_of_its_own() -> None:
    sender, log = FakeSender(lambda request: Answer(500) if request.body.startswith(b"[") else Answer(200)), FakeLog()
    deliver = delivering(FakeEndpoints(ENDPOINT), sender, log)
    attempts = await asyncio.gather(*(deliver.attempt(event(number)) for number in range(3)))
    for attempt in attempts:
        assert isinstance(attempt, Attempt)
        await deliver.settle(attempt)
    for attempt in attempts:
        assert isinstance(attempt, Attempt)
        again = await deliver.attempt(replace(attempt.delivery, attempts=1))
        assert isinstance(again, Attempt)
        await deliver.settle(again)
    recorded = [(fact.event_id, fact.attempt, fact.status) for fact in log.facts if isinstance(fact, DeliveryAttempted)]
    ids = [make.event_id(number) for number in range(3)]
    assert recorded == [(one, 1, "retrying") for one in ids] + [(one, 2, "delivered") for one in ids]
    assert [dict(request.headers)["webhook-id"] for request in sender.sent] == [batch_of(ids), *ids]


async def test_a_batch_whose_config_changes_while_it_gathers_goes_to_the_new_address_in_a_new_batch() -> None:
    """A story: the old address got a POST signed with the new secret, which it could not verify."""
    endpoints, sender, log = FakeEndpoints(replace(ENDPOINT, batching=Batching(3, 50))), FakeSender(), FakeLog()
    deliver = delivering(endpoints, sender, log)
    attempts = [asyncio.create_task(deliver.attempt(event(number))) for number in range(2)]
    await asyncio.sleep(0)
    moved = replace(ENDPOINT, url="https://moved.example.com", updated_at=ENDPOINT.updated_at + 1, batching=Batching(3, 0))
    endpoints.by_team[ENDPOINT.team_id] = moved
    done = await asyncio.gather(*attempts)
    assert [isinstance(one, Attempt) and one.endpoint.url for one in done] == [moved.url] * 2
    assert [(request.url, dict(request.headers)["X-Kite-Batch-Size"]) for request in sender.sent] == [(moved.url, "2")]


async def test_a_batch_whose_config_goes_while_it_gathers_is_not_sent() -> None:
    endpoints, sender, log = FakeEndpoints(replace(ENDPOINT, batching=Batching(3, 50))), FakeSender(), FakeLog()
    deliver = delivering(endpoints, sender, log)
    attempt = asyncio.create_task(deliver.attempt(event(1)))
    await asyncio.sleep(0)
    del endpoints.by_team[ENDPOINT.team_id]
    assert isinstance(await attempt, End)
    assert sender.sent == []
