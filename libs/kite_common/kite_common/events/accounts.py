"""Account snapshots: all that billing knows of a team after a step. Written by billing only."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from kite_common.events.fact import Amount, Count, TeamFact, UnixMs

Provider = Literal["x402", "clerk"]
SubscriptionStatus = Literal["active", "past_due", "cancelled"]


class Terms(BaseModel):
    """What a subscription grants and costs, frozen at the start of each period. None = unlimited."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    requests_per_minute: Count | None
    events_per_month: Count
    events_per_day: Count
    active_sources_limit: Count | None
    max_payload_bytes: Count
    price_atomic_monthly: Amount
    price_atomic_per_event: Amount
    price_atomic_per_replayed_event: Amount


class Subscription(BaseModel):
    """The team's current subscription. Periods are half-open [start, end), anchored at `anchored_at`."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    id: str
    plan_id: str
    plan_name: str
    provider: Provider
    status: SubscriptionStatus
    anchored_at: UnixMs
    period_start: UnixMs
    period_end: UnixMs
    terms: Terms

    @property
    def price_atomic_per_event(self) -> int:
        """What one accepted event takes from the wallet: nothing on flat plans (wire contract, 11.2)."""
        return self.terms.price_atomic_per_event if self.provider == "x402" else 0

    @property
    def price_atomic_per_replayed_event(self) -> int:
        """What one row of a replayed page takes from the wallet."""
        return self.terms.price_atomic_per_replayed_event if self.provider == "x402" else 0


class AccountSnapshot(TeamFact):
    """One team's account. `applied` is the position the snapshot stands for: it rises with every step of the partition.

    `period_used` and `period_charged_atomic` count since `subscription.period_start`, `day_used` on the UTC day number `day`.
    `recent_commands` holds short digests of the last commands that were applied, oldest first: a repeat of one changes nothing.
    """

    kind: ClassVar[str] = "account"

    opened_at: UnixMs
    subscription: Subscription | None = None
    period_used: Count = 0
    period_charged_atomic: Amount = 0
    day: Count = 0
    day_used: Count = 0
    balance_atomic: Amount = 0
    applied: Count = 0
    recent_commands: tuple[str, ...] = ()
