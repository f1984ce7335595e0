"""Deliveries as the facts the log keeps of them, and back. Builds values only; every id is given or derived."""

import base64
from dataclasses import dataclass, replace
from typing import Final, assert_never

from kite_common.events.deliveries import (
    DeadLetter,
    DeliveryAttempted,
    DeliveryConcluded,
    DeliveryOrdered,
    DeliveryParked,
    DeliveryPending,
    DeliveryStatus,
    Fault,
)
from kite_common.events.envelope import recipient_of
from kite_common.ids import DeliveryId, EventId, TeamId, WebhookConfigId, delivery_of
from kite_common.log_position import position_of
from kite_delivery.domain.delivery import Delivery, Endpoint
from kite_delivery.domain.outcome import Answer, Outcome, Reply
from kite_delivery.domain.retry import Done, GiveUp, NextStep, RetryAt
from kite_delivery.domain.route import End

_RECEIVERS: Final = frozenset(("attempts_exhausted", "endpoint_down", "gone", "blocked"))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that is over: what was sent where, what came back, what follows. Times are milliseconds since 1970.

    `delivery` is as it was before the attempt; its number is `delivery.attempt`. One that was blocked is no attempt on record.
    `speaks` says whether its outcome counts for the endpoint: of those that shared a POST, one does.
    """

    delivery: Delivery
    endpoint: Endpoint
    reply: Reply
    outcome: Outcome
    step: NextStep
    started_ms: int
    ended_ms: int
    traceparent: str | None = None
    speaks: bool = True

    @property
    def status(self) -> DeliveryStatus:
        """The delivery's status after it."""
        match self.step:
            case Done():
                return "delivered"
            case RetryAt():
                return "retrying"
            case GiveUp():
                return "dead"
            case _ as unreachable:
                assert_never(unreachable)


def bound(delivery: Delivery, endpoint: Endpoint) -> Delivery:
    """The delivery with the endpoint it has met; unchanged if it has met one before."""
    if delivery.config_id is not None:
        return delivery
    return replace(delivery, config_id=endpoint.config_id, delivery_id=delivery_of(delivery.event_id, endpoint.config_id))


def attempted(attempt: Attempt) -> DeliveryAttempted:
    """The record of an attempt. Repeated for the same attempt it is the same fact but for its times."""
    delivery, reply = attempt.delivery, attempt.reply
    answer = reply if isinstance(reply, Answer) else None
    return DeliveryAttempted(
        team_id=delivery.team_id,
        delivery_id=_id_of(delivery),
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        kiteseq=delivery.kiteseq,
        webhook_config_id=attempt.endpoint.config_id,
        url=attempt.endpoint.url,
        attempt=delivery.attempt,
        started_at=attempt.started_ms,
        duration_ms=max(0, attempt.ended_ms - attempt.started_ms),
        response_status=answer.status if answer else None,
        error=reply.error,
        response_excerpt=answer.excerpt if answer else None,
        status=attempt.status,
        reason=attempt.step.reason if isinstance(attempt.step, GiveUp) else None,
        next_attempt_at=attempt.step.due_ms if isinstance(attempt.step, RetryAt) else None,
        redrives=delivery.redrives,
        test=delivery.test,
    )


def concluded(delivery: Delivery, end: End, now_ms: int) -> DeliveryConcluded:
    """The record of a delivery that ended without a further attempt."""
    config_id = delivery.config_id or end.config_id
    return DeliveryConcluded(
        team_id=delivery.team_id,
        delivery_id=delivery.delivery_id or delivery_of(delivery.event_id, config_id),
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        kiteseq=delivery.kiteseq,
        webhook_config_id=config_id,
        url=end.url,
        status=end.status,
        reason=end.reason,
        at=now_ms,
        redrives=delivery.redrives,
        test=delivery.test,
    )


def ordered(fact: DeliveryOrdered, partition: int, appended_ms: int) -> Delivery:
    """The delivery that an order asks for, which was appended at `appended_ms`. It is due at once."""
    return Delivery(
        partition=partition,
        team_id=TeamId(fact.team_id),
        event_id=EventId(fact.event_id),
        event_type=fact.event_type,
        kiteseq=fact.kiteseq,
        body=fact.body.encode(),
        appended_ms=appended_ms,
        attempts=fact.attempts,
        config_id=WebhookConfigId(fact.webhook_config_id),
        delivery_id=DeliveryId(fact.delivery_id),
        traceparent=fact.traceparent,
        redrives=fact.redrives,
        attempts_before=fact.attempts,
        test=fact.test,
    )


def pending(delivery: Delivery, now_ms: int) -> DeliveryPending:
    """The record that an ordered delivery is under way. Raises ValueError for one that nobody ordered."""
    if delivery.config_id is None or not delivery.ordered:
        raise ValueError("only an ordered delivery is on record before its attempt")
    return DeliveryPending(
        team_id=delivery.team_id,
        delivery_id=_id_of(delivery),
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        kiteseq=delivery.kiteseq,
        webhook_config_id=delivery.config_id,
        attempts=delivery.attempts,
        redrives=delivery.redrives,
        test=delivery.test,
        at=now_ms,
    )


def parked(delivery: Delivery, now_ms: int) -> DeliveryParked:
    """The delivery as a retry tier keeps it, whole: nothing else is needed to go on. Raises ValueError if it has met no endpoint."""
    if delivery.config_id is None:
        raise ValueError("only a delivery to an endpoint can be parked")
    return DeliveryParked(
        team_id=delivery.team_id,
        delivery_id=_id_of(delivery),
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        kiteseq=delivery.kiteseq,
        webhook_config_id=delivery.config_id,
        attempts=delivery.attempts,
        due_at=delivery.due_ms,
        parked_at=now_ms,
        appended_at=delivery.appended_ms,
        traceparent=delivery.traceparent,
        held=delivery.held,
        ends_at=delivery.ends_ms,
        redrives=delivery.redrives,
        attempts_before=delivery.attempts_before,
        test=delivery.test,
        body=delivery.body.decode(),
    )


def unparked(fact: DeliveryParked, partition: int) -> Delivery:
    """The delivery that was parked; `unparked(parked(d, t), d.partition) == d` as far as its body names its recipient."""
    body = fact.body.encode()
    return Delivery(
        partition=partition,
        team_id=TeamId(fact.team_id),
        event_id=EventId(fact.event_id),
        event_type=fact.event_type,
        kiteseq=fact.kiteseq,
        body=body,
        appended_ms=fact.appended_at,
        due_ms=fact.due_at,
        attempts=fact.attempts,
        config_id=WebhookConfigId(fact.webhook_config_id),
        delivery_id=DeliveryId(fact.delivery_id),
        traceparent=fact.traceparent,
        recipient=recipient_of(body) if not fact.attempts else None,
        held=fact.held,
        ends_ms=fact.ends_at,
        redrives=fact.redrives,
        attempts_before=fact.attempts_before,
        test=fact.test,
    )


def burial(attempt: Attempt, reason: str) -> str:
    """The reason on the dead letter of an attempt that was the last for `reason`: what we could not sign is no fault of the receiver."""
    unsigned = reason == "attempts_exhausted" and attempt.reply.error == "secret"
    return "secret_unreadable" if unsigned else reason


def fault_of(reason: str) -> Fault:
    """Whose fault a delivery is that was given up: see `DeadLetter.fault`."""
    return "receiver" if reason in _RECEIVERS else "ours"


def given_up(delivery: Delivery, reason: str, events_topic: str, now_ms: int) -> DeadLetter:
    """The dead letter of a delivery: whose fault, where its event stands in the log, and the event's bytes as they stand there."""
    offset, partition = position_of(delivery.kiteseq)
    return DeadLetter(
        team_id=delivery.team_id,
        service="delivery",
        reason=reason,
        fault=fault_of(reason),
        topic=events_topic,
        partition=partition,
        offset=offset,
        at=now_ms,
        original_key=_base64(delivery.team_id.encode()),
        original_value=_base64(_without_kiteseq(delivery)),
        original_headers=(("kite-record", _base64(b"event")), ("kite-delivery-id", _base64(_id_of(delivery).encode()))),
    )


def _without_kiteseq(delivery: Delivery) -> bytes:
    """What `envelope.with_kiteseq` was given."""
    return delivery.body.removesuffix(b',"kiteseq":%d}' % delivery.kiteseq) + b"}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _id_of(delivery: Delivery) -> DeliveryId:
    return delivery.delivery_id or delivery_of(delivery.event_id, delivery.config_id)
