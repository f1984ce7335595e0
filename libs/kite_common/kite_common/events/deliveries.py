"""What happened to a delivery: every attempt, every final outcome, parked work, dead letters. No bodies but for parked ones."""

from base64 import b64encode
from collections.abc import Iterable
from typing import ClassVar, Final, Literal

from kite_common.events.fact import Count, TeamFact, UnixMs

# What of an original record a dead letter holds at most, bytes; the log takes 2 MiB a record.
_LARGEST_VALUE: Final = 1024 * 1024
_LARGEST_HEADERS: Final = 64 * 1024
_LARGEST_KEY: Final = 1024

# Whose fault a dead letter is: the receiver's (its endpoint failed, is gone, or may not be dialled) or ours (a record that cannot be read
# or processed, a secret that cannot be opened).
Fault = Literal["receiver", "ours"]
DeliveryStatus = Literal["pending", "retrying", "delivered", "dead", "cancelled", "filtered", "no_endpoint", "blocked"]


class DeliveryAttempted(TeamFact):
    """One POST and what came of it. `attempt` counts from 1 and goes on after a redrive. `status` is the delivery's after it.

    `redrives` is how often it had been redriven. `test`: of a test event, which is in no stream: then `kiteseq` is no event's, only the
    place it is listed at.

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
    redrives: Count = 0
    test: bool = False


class DeliveryConcluded(TeamFact):
    """A delivery that ended without one more attempt: no endpoint, filtered, blocked, cancelled, dead while its endpoint was left alone.

    `redrives`, `test` as in an attempt.
    """

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
    redrives: Count = 0
    test: bool = False


class DeliveryPending(TeamFact):
    """A delivery that was asked for and has not been attempted since: a redrive, or a test event. `attempts` are those made before.

    It may be on record more than once, also after an attempt that followed: what speaks of the same round and is no attempt counts less.
    """

    kind: ClassVar[str] = "delivery-pending"

    delivery_id: str
    event_id: str
    event_type: str
    kiteseq: Count
    webhook_config_id: str
    attempts: Count
    redrives: Count = 0
    test: bool = False
    at: UnixMs

    @property
    def status(self) -> DeliveryStatus:
        """As of the other facts about deliveries."""
        return "pending"


class DeliveryOrdered(TeamFact):
    """A command to deliver an event now: round number `redrives` of a delivery that had `attempts`, or a test event (`test`, round 0).

    `id` is derived (`kite_common.ids.redrive_of`; the delivery's id for a test): the same order again is the same round. `body` is the
    exact CloudEvent as text, so that nobody needs to find the event again; `webhook_config_id` the config that was active for whoever
    ordered it.
    """

    kind: ClassVar[str] = "delivery-ordered"

    id: str
    delivery_id: str
    event_id: str
    event_type: str
    kiteseq: Count
    webhook_config_id: str
    attempts: Count
    redrives: Count
    test: bool = False
    requested_at: UnixMs
    traceparent: str | None = None
    body: str


class DeliveryParked(TeamFact):
    """A delivery that waits in a retry tier. `due_at` is when its next attempt may start; attempts so far in `attempts`.

    `held`: its endpoint is left alone because it only fails; the attempt may come before `due_at` once it answers again, and if it never
    does, the delivery ends at `ends_at`.
    `body` is the exact CloudEvent (with kiteseq) as text, so that every attempt sends the same bytes. `attempts_before` are those of
    earlier rounds, which the schedule of this one does not count.
    `parking` names this one parking: where it stands twice, a write was repeated.
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
    held: bool = False
    ends_at: UnixMs | None = None
    redrives: Count = 0
    attempts_before: Count = 0
    test: bool = False
    parking: str | None = None
    body: str


class DeadLetter(TeamFact):
    """What could not be processed: why, whose fault, by whom, where it stood, and the original bytes in base64.

    `reason` of a delivery that was given up is a word: `attempts_exhausted`, `endpoint_down` (held until its schedule was over), `gone`
    (410), `blocked` (target not allowed), all `fault` `receiver`; `secret_unreadable`, `ours`. Of a record nobody can read, or that
    nobody can process, it is free text and `fault` is `ours`. Letters written before there was `fault` have none.
    """

    kind: ClassVar[str] = "dead-letter"

    service: str
    reason: str
    fault: Fault | None = None
    topic: str
    partition: Count
    offset: Count
    at: UnixMs
    original_key: str | None
    original_value: str | None
    original_headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls, service: str, reason: str, place: tuple[str, int, int], at_ms: int,
        key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]],
    ) -> "DeadLetter":  # fmt: skip
        """The dead letter of a record at `place` (topic, partition, offset), of a size that the log takes whatever the record was.

        A value above 1 MiB, or headers above 64 KiB together, are left out, because base64 makes them a third larger; `reason` says so, and
        the place tells where they still are.
        """
        topic, partition, offset = place
        headers = tuple(headers)
        if value is not None and len(value) > _LARGEST_VALUE:
            reason, value = f"{reason} (value of {len(value)} bytes left out)", None
        if sum(len(name) + len(content) for name, content in headers) > _LARGEST_HEADERS:
            reason, headers = f"{reason} ({len(headers)} headers left out)", ()
        return cls(
            team_id=(key or b"")[:_LARGEST_KEY].decode("utf-8", "replace"), service=service, reason=reason, fault="ours",
            topic=topic, partition=partition, offset=offset, at=at_ms,
            original_key=None if key is None else _base64(key[:_LARGEST_KEY]),
            original_value=None if value is None else _base64(value),
            original_headers=tuple((name, _base64(content)) for name, content in headers),
        )  # fmt: skip


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
