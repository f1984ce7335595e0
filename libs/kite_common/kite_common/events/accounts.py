"""Account snapshots: all that billing knows of a team after a step. Written by billing only."""

from typing import ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from kite_common.events.fact import Amount, Count, TeamFact, UnixMs

Provider = Literal["x402", "clerk"]
SubscriptionStatus = Literal["active", "past_due", "cancelled"]
# What can stand between a team with an active subscription and its ingest.
BlockReason = Literal["month", "day", "wallet"]


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
    """The team's current subscription. Periods are half-open [start, end), anchored at `anchored_at`.

    `revision` counts what commands have changed of it: with the id it names the state a change starts from.
    """

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
    revision: Count = 0

    @property
    def price_atomic_per_event(self) -> int:
        """What one accepted event takes from the wallet: nothing on flat plans (wire contract, 11.2)."""
        return self.terms.price_atomic_per_event if self.provider == "x402" else 0

    @property
    def price_atomic_per_replayed_event(self) -> int:
        """What one row of a replayed page takes from the wallet."""
        return self.terms.price_atomic_per_replayed_event if self.provider == "x402" else 0


class AppliedPayment(NamedTuple):
    """The newest command of a payment key this account has applied: a digest of the key, the command's `seq`, the UTC day number."""

    digest: str
    seq: int
    day: int


class Block(NamedTuple):
    """Ingest is refused for this reason, and the team was told so by the event `notice_id`."""

    reason: BlockReason
    notice_id: str


class AccountSnapshot(TeamFact):
    """One team's account. `applied` is the position the snapshot stands for: it rises with every step of the partition.

    `period_used` and `period_charged_atomic` count since `subscription.period_start`, `day_used` on the UTC day number `day`.
    `recent_commands` holds short digests of the last commands that were applied, oldest first: a repeat of one changes nothing.
    `payments` does the same for commands of payments, oldest first. `debt_atomic` is what reversals could not take back: the next credits
    pay it. `warned_month` and `warned_day` are the limits whose 80 % this period's and day's warning was about (0 = none yet).
    `commands_to` is the offset in kite.commands behind the last command that changed the account (0 = not known).
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
    debt_atomic: Amount = 0
    payments: tuple[AppliedPayment, ...] = ()
    warned_month: Count = 0
    warned_day: Count = 0
    blocks: tuple[Block, ...] = ()
    commands_to: Count = 0
