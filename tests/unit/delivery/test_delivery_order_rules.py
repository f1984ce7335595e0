"""Orders: a redrive is a round of its own, a test one attempt; and whoever orders twice orders once."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.clock import FrozenClock
from kite_common.events.deliveries import DeadLetter, DeliveryAttempted, DeliveryConcluded, DeliveryParked
from kite_common.ids import WebhookConfigId
from kite_common.testing import make
from kite_delivery.adapters.recently import Recently
from kite_delivery.application.deliver_message import DeliverMessage
from kite_delivery.domain import facts
from kite_delivery.domain.delivery import Delivery
from kite_delivery.domain.facts import Attempt
from kite_delivery.domain.outcome import Answer, Failure, Reply
from kite_delivery.domain.retry import RetryPolicy
from kite_delivery.domain.route import End, Send, route
from kite_delivery.testing import FakeEndpoints, FakeLog, FakeSender, SilentObserver, a_delivery, an_endpoint

NOW = datetime(2026, 4, 30, 10, tzinfo=UTC)
ENDPOINT = an_endpoint(event_types=("com.github.*",))


def redriven(attempts: int = 10, *, test: bool = False) -> Delivery:
    return replace(
        a_delivery(), config_id=ENDPOINT.config_id, attempts=attempts, attempts_before=attempts, redrives=0 if test else 1, test=test
    )


async def run(delivery: Delivery, reply: Reply) -> tuple[FakeLog, FakeEndpoints]:
    log, endpoints = FakeLog(), FakeEndpoints(ENDPOINT)
    deliver = DeliverMessage(
        endpoints, FakeSender(lambda _request: reply), log, log, SilentObserver(),
        policy=RetryPolicy(), clock=FrozenClock(NOW), jitter=lambda: 0.5, trace=lambda _parent: "trace",
    )  # fmt: skip
    result = await deliver.attempt(delivery)
    assert isinstance(result, Attempt)
    await deliver.settle(result)
    return log, endpoints


async def test_a_redrive_has_ten_attempts_of_its_own_and_goes_on_counting() -> None:
    log, _ = await run(redriven(10), Answer(500))
    attempted, parked = log.facts
    assert isinstance(attempted, DeliveryAttempted)
    assert (attempted.attempt, attempted.status, attempted.redrives) == (11, "retrying", 1)
    assert isinstance(parked, DeliveryParked)
    again = facts.unparked(parked, 3)
    assert (again.attempt_of_round, again.attempts_before, again.redrives) == (2, 10, 1)
    last, _ = await run(replace(again, attempts=19), Answer(500))
    assert [(type(one), getattr(one, "status", None)) for one in last.facts] == [(DeliveryAttempted, "dead"), (DeadLetter, None)]


def test_what_was_ordered_passes_every_filter_and_goes_to_its_config_only() -> None:
    filtered = replace(redriven(0), event_type="com.stripe.charge")
    assert route(filtered, ENDPOINT) == Send(ENDPOINT)
    assert isinstance(route(replace(filtered, redrives=0), ENDPOINT), End)
    other = replace(ENDPOINT, config_id=WebhookConfigId("22222222-2222-4222-8222-222222222222"))
    assert route(redriven(), other) == End("cancelled", "config_deleted", ENDPOINT.config_id)
    assert route(redriven(), replace(ENDPOINT, active=False)) == End("cancelled", "config_deactivated", ENDPOINT.config_id, ENDPOINT.url)


@pytest.mark.parametrize(
    ("reply", "status", "reason"),
    [(Answer(200), "delivered", None), (Answer(500), "dead", "attempts_exhausted"), (Failure("timeout"), "dead", "attempts_exhausted")],
)
async def test_a_test_event_is_one_attempt_with_a_verdict_and_leaves_no_dead_letter(reply: Reply, status: str, reason: str | None) -> None:
    log, _ = await run(redriven(0, test=True), reply)
    [attempted] = log.facts
    assert isinstance(attempted, DeliveryAttempted)
    assert (attempted.status, attempted.reason, attempted.test, attempted.next_attempt_at) == (status, reason, True, None)


async def test_a_test_event_whose_target_may_not_be_dialled_is_dead() -> None:
    log, _ = await run(redriven(0, test=True), Failure("blocked"))
    [concluded] = log.facts
    assert isinstance(concluded, DeliveryConcluded)
    assert (concluded.status, concluded.reason, concluded.test) == ("dead", "target_not_allowed", True)


async def test_a_test_that_is_answered_410_ends_the_endpoint_as_any_delivery_does() -> None:
    log, endpoints = await run(redriven(0, test=True), Answer(410))
    assert (log.statuses, endpoints.deactivated) == (["dead"], [ENDPOINT])


def test_an_order_is_the_delivery_it_names_due_at_once() -> None:
    order = make.delivery_ordered()
    delivery = facts.ordered(order, 3, 7_000)
    assert (delivery.delivery_id, delivery.event_id, delivery.kiteseq) == (order.delivery_id, order.event_id, order.kiteseq)
    assert (delivery.attempt, delivery.attempt_of_round, delivery.redrives, delivery.due_ms) == (11, 1, 1, 0)
    assert (delivery.body, delivery.appended_ms) == (order.body.encode(), 7_000)
    pending = facts.pending(delivery, 8_000)
    assert (pending.status, pending.attempts, pending.redrives, pending.at) == ("pending", 10, 1, 8_000)


def test_nobody_puts_a_delivery_on_record_as_pending_that_was_not_ordered() -> None:
    with pytest.raises(ValueError, match="ordered"):
        facts.pending(a_delivery(), 1)


@given(st.lists(st.integers(0, 9)), st.integers(1, 20))
def test_an_order_is_carried_out_once_while_it_is_remembered(numbers: list[int], most: int) -> None:
    seen = Recently(most)
    carried = [number for number in numbers if seen.add(str(number))]
    if most >= 10:
        assert carried == list(dict.fromkeys(numbers))
    assert all(seen.add(str(number)) is False for number in carried[-1:])
