"""What became of taking a page from the wallet. Decides from what the account and its wallet said in one atomic step; fetches nothing."""

from dataclasses import dataclass

from kite_common.ids import EventId, TeamId
from kite_replay.domain.price import Standing


@dataclass(frozen=True, slots=True)
class PageUsage:
    """A page that is to be paid from the wallet. `received_ms` is the wall clock before anything was reserved."""

    team_id: TeamId
    usage_id: EventId
    rows: int
    received_ms: int


@dataclass(frozen=True, slots=True)
class WalletFacts:
    """What stood there at the moment of asking. `amount_atomic` is the page's price by the subscription of that moment; if `reserved`, it
    is held for the usage since `at_ms` (time of Redis)."""

    standing: Standing
    subscription_id: str
    amount_atomic: int
    reserved: bool
    at_ms: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """The amount is held: it is charged once the usage is in the log."""

    amount_atomic: int
    subscription_id: str
    reserved_at_ms: int


@dataclass(frozen=True, slots=True)
class NothingDue:
    """By the subscription of this moment the page is included."""


@dataclass(frozen=True, slots=True)
class TooLow:
    """The wallet does not hold the amount any more."""

    amount_atomic: int


@dataclass(frozen=True, slots=True)
class NoSubscription:
    """The subscription has ended meanwhile."""


def decide(facts: WalletFacts) -> Reserved | NothingDue | TooLow | NoSubscription:
    """What the facts mean. What is held is held, whatever the subscription says."""
    if facts.reserved:
        return Reserved(facts.amount_atomic, facts.subscription_id, facts.at_ms)
    if facts.standing == "no_subscription":
        return NoSubscription()
    return TooLow(facts.amount_atomic) if facts.amount_atomic else NothingDue()
