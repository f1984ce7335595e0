"""What becomes of a message that wants in: the facts Redis found in one atomic step, and the decision they lead to. Fetches nothing.

The check and the reservation are one step of Redis (adapters/lua/admit.lua), so the facts already say which check failed first and
hold the counters as they were at that moment. Here they become an admission, the first answer again, or a refusal with its wait.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

from kite_common.ids import EventId, TeamId
from kite_gateway.domain.period import end_of_current_period, end_of_utc_day
from kite_gateway.domain.rate_limit import RateLimit, describe


class Outcome(IntEnum):
    """Which check ended the step; the numbers are those admit.lua returns. Their order is that of the wire contract, 2.3."""

    ADMITTED = 0
    UNKNOWN_ACCOUNT = 1
    RATE_LIMITED = 2
    REPLAYED = 3
    IN_PROGRESS = 4
    KEY_REUSED = 5
    NO_SUBSCRIPTION = 6
    MONTH_USED_UP = 7
    DAY_USED_UP = 8
    WALLET_TOO_LOW = 9
    PAYLOAD_TOO_LARGE = 10
    DUPLICATE = 11
    DELIVERY_IN_FLIGHT = 12
    PROVIDER_CHANGING = 13
    PAID_IN_FLIGHT = 14


@dataclass(frozen=True, slots=True)
class Claim:
    """An Idempotency-Key of a team: a digest of scope and key, and the digest of the body it came with."""

    id: str
    body_digest: str


@dataclass(frozen=True, slots=True)
class PaidWith:
    """The payment an event was paid with: a digest that names it among all others, and what the event's answer tells of it."""

    claim: str
    receipt: str


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """One event that wants in. `event_id` is what its reservation is held under; `received_ms` the time of receipt.

    `delivery` is a digest of what names a delivery to a hook among all others: the second of two is a duplicate. `body_bytes` is held
    against the plan's largest payload; 0 where the route has a limit of its own. `payment` claims that payment for this event alone.
    `takes_token` False: the request has taken its token before, when it was looked at.
    """

    team_id: TeamId
    event_id: EventId
    received_ms: int
    claim: Claim | None = None
    delivery: str | None = None
    body_bytes: int = 0
    payment: PaidWith | None = None
    takes_token: bool = True


@dataclass(frozen=True, slots=True)
class Usage:
    """The counters an accepted event leaves behind: events of this period with it, the period's limit, its price."""

    events_used: int
    events_limit: int
    charged_atomic: int


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """What an Idempotency-Key, a payment or a delivery was answered with first; `receipt` tells of its payment, "" if there was none."""

    event_id: EventId
    received_ms: int
    usage: Usage
    receipt: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one admission step found. Counters include pending reservations, and this event if it was admitted.

    `at_ms` is the time of Redis; periods and days are judged by it. `level` is the token bucket's, `per_minute` 0 = no limit.
    `first` is set on REPLAYED and DUPLICATE only, `largest_bytes` on PAYLOAD_TOO_LARGE only.
    `debt_atomic` is what the next credits pay before the wallet has anything of them.
    """

    outcome: Outcome
    at_ms: int
    per_minute: int = 0
    level: int = 0
    month_used: int = 0
    month_limit: int = 0
    day_used: int = 0
    day_limit: int = 0
    period_start: int = 0
    period_end: int = 0
    price_atomic: int = 0
    available_atomic: int = 0
    subscription_id: str = ""
    first: FirstAnswer | None = None
    largest_bytes: int = 0
    debt_atomic: int = 0


RefusalCode = Literal[
    "service_unavailable", "rate_limit_exceeded", "request_in_progress", "idempotency_key_reused", "no_active_subscription",
    "quota_exceeded", "insufficient_funds", "payload_too_large",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class QuotaUsed:
    """The quota that is used up."""

    scope: Literal["month", "day"]
    events_used: int
    events_limit: int


@dataclass(frozen=True, slots=True)
class FundsMissing:
    """What one event costs and what the wallet has free for it; and what credits pay first."""

    required_atomic: int
    available_atomic: int
    debt_atomic: int = 0


@dataclass(frozen=True, slots=True)
class PayloadLimit:
    """The most bytes the plan takes in one body."""

    max_bytes: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """The event is reserved: publish it."""

    usage: Usage
    price_atomic: int
    subscription_id: str
    reserved_at_ms: int
    rate: RateLimit | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """The key has been answered before: give that answer again."""

    first: FirstAnswer
    rate: RateLimit | None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The delivery has been accepted before, as this event: nothing is stored or charged."""

    first: FirstAnswer
    rate: RateLimit | None


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was stored and nothing is held. `code` is a public error code; the wait is whole seconds, at least 1."""

    code: RefusalCode
    rate: RateLimit | None = None
    retry_after_s: int | None = None
    detail: QuotaUsed | FundsMissing | PayloadLimit | None = None


Decision = Admitted | Replayed | Duplicate | Refused

# Refusals that say nothing but their code, and after how many seconds to try again. A first request in flight answers within
# milliseconds as a rule, so does a change of the provider; a missing account is written again within seconds of billing's start.
_PLAIN: Final[Mapping[Outcome, tuple[RefusalCode, int | None]]] = {
    Outcome.UNKNOWN_ACCOUNT: ("service_unavailable", 2),
    Outcome.IN_PROGRESS: ("request_in_progress", 1),
    Outcome.KEY_REUSED: ("idempotency_key_reused", None),
    Outcome.NO_SUBSCRIPTION: ("no_active_subscription", None),
    # Whether the first one will be accepted is open, so the second must not be told that it was.
    Outcome.DELIVERY_IN_FLIGHT: ("service_unavailable", 1),
    Outcome.PROVIDER_CHANGING: ("service_unavailable", 1),
    # The payment is credited and another copy of the request is being published, or died when it was: the same again finds its answer.
    Outcome.PAID_IN_FLIGHT: ("service_unavailable", 1),
}


def decide(facts: Facts) -> Decision:
    """The decision the facts lead to. Same facts, same decision; raises ValueError for a repeat without its first answer."""
    rate = describe(facts.level, facts.per_minute)
    if facts.outcome is Outcome.ADMITTED:
        usage = Usage(facts.month_used, facts.month_limit, facts.price_atomic)
        return Admitted(usage, facts.price_atomic, facts.subscription_id, facts.at_ms, rate)
    if facts.outcome in (Outcome.REPLAYED, Outcome.DUPLICATE):
        if facts.first is None:
            raise ValueError("a repeat needs its first answer")
        return Replayed(facts.first, rate) if facts.outcome is Outcome.REPLAYED else Duplicate(facts.first, rate)
    return _refused(facts, rate)


def _refused(facts: Facts, rate: RateLimit | None) -> Refused:
    if facts.outcome is Outcome.RATE_LIMITED:
        return Refused("rate_limit_exceeded", rate, rate.retry_after_s if rate else 1)
    if facts.outcome is Outcome.PAYLOAD_TOO_LARGE:
        return Refused("payload_too_large", detail=PayloadLimit(facts.largest_bytes))
    if facts.outcome in (Outcome.MONTH_USED_UP, Outcome.DAY_USED_UP):
        return _quota_exceeded(facts, rate)
    if facts.outcome is Outcome.WALLET_TOO_LOW:
        funds = FundsMissing(facts.price_atomic, max(0, facts.available_atomic), facts.debt_atomic)
        return Refused("insufficient_funds", rate, detail=funds)
    code, retry_after_s = _PLAIN[facts.outcome]
    return Refused(code, rate, retry_after_s)


def _quota_exceeded(facts: Facts, rate: RateLimit | None) -> Refused:
    if facts.outcome is Outcome.MONTH_USED_UP:
        ends_ms = end_of_current_period(facts.period_start, facts.period_end, facts.at_ms)
        quota = QuotaUsed("month", facts.month_used, facts.month_limit)
    else:
        ends_ms = end_of_utc_day(facts.at_ms)
        quota = QuotaUsed("day", facts.day_used, facts.day_limit)
    return Refused("quota_exceeded", rate, max(1, -(-(ends_ms - facts.at_ms) // 1000)), quota)
