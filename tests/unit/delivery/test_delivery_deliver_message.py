"""The use case over fakes: what is sent, what is recorded, in which order."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from kite_common.clock import FrozenClock
from kite_common.crypto import SigningKey
from kite_common.events.deliveries import DeadLetter, DeliveryAttempted, DeliveryConcluded, DeliveryParked
from kite_common.ids import WebhookConfigId, delivery_of
from kite_delivery.application.deliver_message import DeliverMessage
from kite_delivery.domain import facts
from kite_delivery.domain.delivery import Delivery
from kite_delivery.domain.facts import Attempt
from kite_delivery.domain.outcome import Answer, Failure, Reply
from kite_delivery.domain.retry import RetryPolicy
from kite_delivery.domain.route import End
from kite_delivery.testing import FakeEndpoints, FakeLog, FakeSender, SilentObserver, a_delivery, an_endpoint

NOW = datetime(2026, 4, 30, 10, tzinfo=UTC)
NOW_MS = 1_777_543_200_000
ENDPOINT = an_endpoint()


class Scene:
    def __init__(self, reply: Reply | None = None, endpoints: FakeEndpoints | None = None) -> None:
        self.endpoints = endpoints or FakeEndpoints(ENDPOINT)
        self.sender = FakeSender(lambda _request: reply or Answer(200))
        self.log = FakeLog()
        self.deliver = DeliverMessage(
            self.endpoints, self.sender, self.log, self.log, SilentObserver(),
            policy=RetryPolicy(), clock=FrozenClock(NOW), jitter=lambda: 0.5, trace=lambda parent: f"child of {parent}",
        )  # fmt: skip

    async def run(self, delivery: Delivery) -> Attempt | End:
        result = await self.deliver.attempt(delivery)
        if isinstance(result, Attempt):
            await self.deliver.settle(result)
        else:
            await self.deliver.conclude([(delivery, result)])
        return result


async def test_a_delivered_event_is_one_signed_post_and_one_record() -> None:
    scene = Scene(Answer(204))
    await scene.run(a_delivery())
    [request] = scene.sender.sent
    assert (request.url, request.body) == (ENDPOINT.url, a_delivery().body)
    [fact] = scene.log.facts
    assert isinstance(fact, DeliveryAttempted)
    assert (fact.status, fact.attempt, fact.response_status, fact.next_attempt_at) == ("delivered", 1, 204, None)
    assert fact.delivery_id == delivery_of(a_delivery().event_id, ENDPOINT.config_id)


async def test_a_failed_attempt_is_recorded_before_it_is_parked_for_the_next() -> None:
    scene = Scene(Answer(500, excerpt="oops"))
    await scene.run(a_delivery())
    attempted, parked = scene.log.facts
    assert isinstance(attempted, DeliveryAttempted)
    assert isinstance(parked, DeliveryParked)
    assert (attempted.status, attempted.response_excerpt, attempted.next_attempt_at) == ("retrying", "oops", NOW_MS + 5_500)
    assert (parked.due_at, parked.attempts, parked.parked_at) == (NOW_MS + 5_500, 1, NOW_MS)


async def test_a_parked_delivery_comes_back_as_it_went_and_sends_the_same_bytes_under_the_same_id() -> None:
    scene = Scene(Failure("timeout"))
    body = '{"data":"é \\u0000 \\"quoted\\" 🪁","kiteseq":8195}'.encode()
    await scene.run(a_delivery(body=body))
    again = facts.unparked(DeliveryParked.model_validate_json(scene.log.parked[0].to_json()), partition=3)
    await scene.run(again)
    first, second = scene.sender.sent
    assert first.body == second.body == body
    assert dict(first.headers)["webhook-id"] == dict(second.headers)["webhook-id"]
    assert dict(second.headers)["X-Kite-Delivery-Attempt"] == "2"


async def test_the_tenth_failure_ends_dead_with_a_dead_letter_that_holds_the_stored_bytes() -> None:
    scene = Scene(Failure("connect"))
    await scene.run(replace(facts.bound(a_delivery(), ENDPOINT), attempts=9))
    attempted, letter = scene.log.facts
    assert isinstance(attempted, DeliveryAttempted)
    assert isinstance(letter, DeadLetter)
    assert (attempted.status, attempted.reason, attempted.attempt, attempted.error) == ("dead", "attempts_exhausted", 10, "connect")
    assert (letter.topic, letter.partition, letter.offset) == ("kite.events", 3, 8)
    assert letter.original_value == "eyJzcGVjdmVyc2lvbiI6IjEuMCJ9"


async def test_410_ends_dead_and_only_then_switches_the_endpoint_off() -> None:
    scene = Scene(Answer(410))
    await scene.run(a_delivery())
    assert isinstance(scene.log.facts[0], DeliveryAttempted)
    assert (scene.log.facts[0].status, scene.log.facts[0].reason) == ("dead", "gone")
    assert scene.endpoints.deactivated == [ENDPOINT]
    waiting = replace(facts.bound(a_delivery(), ENDPOINT), attempts=1)
    await scene.run(waiting)
    assert scene.log.statuses == ["dead", "cancelled"]
    assert len(scene.sender.sent) == 1


async def test_410_leaves_a_config_alone_that_changed_meanwhile() -> None:
    scene = Scene(Answer(410))
    result = await scene.deliver.attempt(a_delivery())
    scene.endpoints.by_team[ENDPOINT.team_id] = replace(ENDPOINT, url="https://new.example.com", updated_at=9_000)
    assert isinstance(result, Attempt)
    await scene.deliver.settle(result)
    assert scene.endpoints.deactivated == []


async def test_a_blocked_address_ends_blocked_without_an_attempt_on_record() -> None:
    scene = Scene(Failure("blocked"))
    await scene.run(a_delivery())
    letter, fact = scene.log.facts
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.fault) == ("blocked", "receiver")
    assert isinstance(fact, DeliveryConcluded)
    assert (fact.status, fact.url, fact.delivery_id) == ("blocked", ENDPOINT.url, delivery_of(a_delivery().event_id, ENDPOINT.config_id))


@pytest.mark.parametrize(
    ("endpoints", "status"),
    [
        (FakeEndpoints(), "no_endpoint"),
        (FakeEndpoints(an_endpoint(event_types=("com.stripe.*",))), "filtered"),
        (FakeEndpoints(an_endpoint(active=False, changed_ms=5_000)), "cancelled"),
    ],
)
async def test_an_event_nobody_waits_for_is_recorded_and_not_sent(endpoints: FakeEndpoints, status: str) -> None:
    scene = Scene(endpoints=endpoints)
    await scene.run(a_delivery())
    assert scene.log.statuses == [status]
    assert scene.sender.sent == []


async def test_a_retry_uses_the_url_of_the_moment() -> None:
    scene = Scene()
    waiting = replace(facts.bound(a_delivery(), ENDPOINT), attempts=1)
    scene.endpoints.by_team[ENDPOINT.team_id] = replace(ENDPOINT, url="https://new.example.com")
    await scene.run(waiting)
    assert scene.sender.sent[0].url == "https://new.example.com"


async def test_a_config_made_after_a_deletion_does_not_inherit_what_waits() -> None:
    scene = Scene(endpoints=FakeEndpoints(replace(ENDPOINT, config_id=WebhookConfigId("another"))))
    await scene.run(replace(facts.bound(a_delivery(), ENDPOINT), attempts=1))
    assert scene.log.statuses == ["cancelled"]


async def test_what_cannot_be_signed_is_never_sent_and_tried_again() -> None:
    scene = Scene()
    scene.endpoints.unreadable = True
    await scene.run(a_delivery())
    assert scene.sender.sent == []
    assert isinstance(scene.log.facts[0], DeliveryAttempted)
    assert (scene.log.facts[0].error, scene.log.facts[0].status) == ("secret", "retrying")


async def test_stepping_aside_is_not_an_attempt() -> None:
    scene = Scene()
    await scene.deliver.set_aside(a_delivery(), ENDPOINT)
    [parked] = scene.log.parked
    assert (parked.attempts, parked.due_at, parked.webhook_config_id) == (0, NOW_MS + 5_000, ENDPOINT.config_id)
    assert scene.log.statuses == []


LATER = replace(facts.bound(a_delivery(), ENDPOINT), attempts=1, due_ms=NOW_MS + 60_000)


async def test_to_be_held_is_not_an_attempt_and_keeps_the_due_time() -> None:
    scene = Scene()
    await scene.deliver.hold(LATER, ENDPOINT, 30.0)
    [parked] = scene.log.parked
    assert (parked.held, parked.attempts, parked.due_at, scene.log.rests_until_ms) == (True, 1, LATER.due_ms, [NOW_MS + 30_000])
    assert parked.ends_at is not None
    assert parked.ends_at > LATER.due_ms + 70 * 3_600_000


async def test_a_test_that_is_held_until_its_schedule_is_over_ends_with_a_verdict_and_without_a_dead_letter() -> None:
    scene = Scene()
    await scene.deliver.hold(replace(LATER, attempts=0, test=True, held=True, ends_ms=NOW_MS), ENDPOINT, 30.0)
    [end] = scene.log.facts
    assert isinstance(end, DeliveryConcluded)
    assert (end.status, end.reason, end.test) == ("dead", "endpoint_down", True)


async def test_what_is_held_again_ends_no_later() -> None:
    scene = Scene()
    await scene.deliver.hold(replace(LATER, held=True, ends_ms=NOW_MS + 1), ENDPOINT, 30.0)
    assert scene.log.parked[0].ends_at == NOW_MS + 1


async def test_what_is_held_until_its_schedule_is_over_ends_dead_without_a_post_and_its_bytes_are_kept() -> None:
    scene = Scene()
    await scene.deliver.hold(replace(LATER, held=True, ends_ms=NOW_MS), ENDPOINT, 30.0)
    letter, end = scene.log.facts
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.fault) == ("endpoint_down", "receiver")
    assert isinstance(end, DeliveryConcluded)
    assert (end.status, end.reason, end.delivery_id) == ("dead", "endpoint_down", LATER.delivery_id)
    assert scene.sender.sent == []


async def test_a_failure_that_leaves_the_endpoint_alone_is_held_and_one_that_does_not_waits_by_the_schedule() -> None:
    scene, rests = Scene(Answer(500)), [2.0, None, 1_800.0]
    for _ in range(3):
        result = await scene.deliver.attempt(a_delivery())
        assert isinstance(result, Attempt)
        await scene.deliver.settle(result, partial(rests.pop, 0))
    held, waiting, probe = scene.log.parked
    assert [parked.held for parked in scene.log.parked] == [True, False, True]
    assert held.due_at == waiting.due_at == probe.due_at
    # One that failed is never away for longer than its schedule says: not even the probe of an outage of an hour.
    assert scene.log.rests_until_ms == [NOW_MS + 2_000, waiting.due_at, waiting.due_at]


async def test_an_early_attempt_that_fails_waits_for_its_schedule_though_the_endpoint_is_left_alone() -> None:
    scene = Scene(Answer(500))
    result = await scene.deliver.attempt(replace(LATER, held=True))
    assert isinstance(result, Attempt)
    await scene.deliver.settle(result, lambda: 60.0)
    [parked] = scene.log.parked
    assert (parked.held, parked.attempts, parked.due_at) == (False, 2, LATER.due_ms + 330_000)
    assert scene.log.rests_until_ms == [parked.due_at]


async def test_what_is_held_and_put_back_or_finds_its_lane_full_is_held_still_and_looks_soon() -> None:
    scene = Scene()
    held = replace(LATER, held=True, ends_ms=NOW_MS + 9)
    await scene.deliver.put_back(held)
    await scene.deliver.set_aside(held, ENDPOINT)
    assert [(parked.held, parked.due_at, parked.ends_at) for parked in scene.log.parked] == [(True, LATER.due_ms, NOW_MS + 9)] * 2
    assert scene.log.rests_until_ms == [NOW_MS, NOW_MS + 5_000]


async def test_what_is_never_signed_ends_as_our_fault() -> None:
    scene = Scene()
    scene.endpoints.unreadable = True
    await scene.run(replace(facts.bound(a_delivery(), ENDPOINT), attempts=9))
    letter = scene.log.facts[-1]
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.fault) == ("secret_unreadable", "ours")


async def test_what_is_put_back_is_parked_as_it_is_or_ends() -> None:
    scene = Scene()
    waiting = replace(facts.bound(a_delivery(), ENDPOINT), attempts=3, due_ms=NOW_MS + 9)
    await scene.deliver.put_back(waiting)
    [parked] = scene.log.parked
    assert (parked.attempts, parked.due_at) == (3, NOW_MS + 9)
    scene.endpoints.by_team.clear()
    await scene.deliver.put_back(waiting)
    assert scene.log.statuses == ["cancelled"]


async def test_an_endpoint_that_asks_for_v1a_gets_it_or_nothing_and_others_never_do() -> None:
    scene = Scene(endpoints=FakeEndpoints(replace(ENDPOINT, signature="v1a")))
    await scene.run(a_delivery())
    assert (scene.sender.sent, scene.log.statuses) == ([], ["retrying"])
    scene.endpoints.keys = (SigningKey(bytes(32)),)
    await scene.run(a_delivery())
    assert dict(scene.sender.sent[0].headers)["webhook-signature"].startswith("v1a,")
    plain = Scene()
    plain.endpoints.keys = scene.endpoints.keys
    await plain.run(a_delivery())
    assert "v1a" not in dict(plain.sender.sent[0].headers)["webhook-signature"]


def test_an_unreadable_record_is_kept_byte_by_byte() -> None:
    letter = DeadLetter.of("delivery", "not JSON", ("kite.events", 3, 8), NOW_MS, b"team_a", None, (("kite-record", b"event"),))
    assert (letter.original_key, letter.original_value, letter.original_headers) == ("dGVhbV9h", None, (("kite-record", "ZXZlbnQ="),))


async def test_the_trace_of_the_event_goes_on() -> None:
    scene = Scene()
    await scene.run(replace(a_delivery(), traceparent="the sender's"))
    assert dict(scene.sender.sent[0].headers)["traceparent"] == "child of the sender's"


async def test_a_delivery_that_met_no_endpoint_cannot_be_parked() -> None:
    with pytest.raises(ValueError, match="to an endpoint"):
        facts.parked(a_delivery(), NOW_MS)
