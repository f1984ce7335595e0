"""What happened to a delivery: every attempt, every final outcome, parked work, dead letters. No bodies but for parked ones."""

from typing import ClassVar, Literal

from kite_common.events.fact import Count, TeamFact, UnixMs

DeliveryStatus = Literal["pending", "retrying", "delivered", "dead", "cancelled", "filtered", "no_endpoint", "blocked"]


class DeliveryAttempted(TeamFact):
    """One POST and what came of it. `attempt` counts from 1. `status` is the delivery's after it.

    `error` is a short word (`timeout`, `connect`, `tls`, `body_too_slow`, ...), `response_excerpt` the first 512 characters.
    """

    kind: ClassVar[str] = "delivery-attempted"

    delivery_id: str
    event_id: str
    event_type: str
    kiteseq: Count
    webhook_config_id: str
    url: str
    attempt: Count
    started_at: UnixMs
    duration_ms: Count
    response_status: int | None = None
    error: str | None = None
    response_excerpt: str | None = None
    status: DeliveryStatus
    reason: str | None = None
    next_attempt_at: UnixMs | None = None


class DeliveryConcluded(TeamFact):
    """A delivery that ended without an attempt: no endpoint, filtered, blocked, cancelled."""

    kind: ClassVar[str] = "delivery-concluded"

    delivery_id: str
    event_id: str
    event_type: str
    kiteseq: Count
    webhook_config_id: str | None = None
    url: str | None = None
    status: DeliveryStatus
    reason: str | None = None
    at: UnixMs


class DeliveryParked(TeamFact):
    """A delivery that waits in a retry tier. `due_at` is when its next attempt may start; attempts so far in `attempts`.

    `body` is the exact CloudEvent (with kiteseq) as text, so that every attempt sends the same bytes.
    """

    kind: ClassVar[str] = "delivery-parked"

    delivery_id: str
    event_id: str
    event_type: str
    kiteseq: Count
    webhook_config_id: str
    attempts: Count
    due_at: UnixMs
    parked_at: UnixMs
    appended_at: UnixMs
    traceparent: str | None = None
    body: str


class DeadLetter(TeamFact):
    """What could not be processed: why, by whom, where it stood, and the original bytes in base64."""

    kind: ClassVar[str] = "dead-letter"

    service: str
    reason: str
    topic: str
    partition: Count
    offset: Count
    at: UnixMs
    original_key: str | None
    original_value: str | None
    original_headers: tuple[tuple[str, str], ...] = ()
