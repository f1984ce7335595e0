"""What a team has and uses at one moment, as Redis found it in one step, and what follows from it. Fetches nothing."""

from dataclasses import dataclass
from typing import Final

from kite_common.money import UNLIMITED, affordable
from kite_gateway.domain.period import current_period

_RUNNING: Final = frozenset({"active", "past_due"})


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """What the subscription's plan grants besides its quotas. None of it is known while an older billing has projected the account."""

    max_payload_bytes: int
    active_sources_limit: int | None
    price_atomic_monthly: int
    price_atomic_per_replayed_event: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Counters include what is reserved, so they are those the next 202 would go on from. Times in ms; `at_ms` is the time of Redis.

    `charged_atomic` is of this period, replays included; `reserved_atomic` is held for events and pages not yet in the ledger.
    `requests_per_minute` 0 = no limit. `price_atomic` is what an event takes from the wallet: 0 on flat plans.
    """

    at_ms: int
    events_used: int
    events_limit: int
    events_today: int
    day_limit: int
    projected_start: int
    projected_end: int
    charged_atomic: int
    balance_atomic: int
    reserved_atomic: int
    price_atomic: int
    debt_atomic: int
    revision: int
    status: str
    provider: str
    subscription_id: str
    plan_id: str
    plan_name: str
    requests_per_minute: int
    terms: PlanTerms | None = None

    @property
    def has_subscription(self) -> bool:
        """Whether there is a subscription that was not cancelled, paid for or not."""
        return self.status in _RUNNING

    @property
    def period(self) -> tuple[int, int]:
        """Start and end of the period of this moment, also when the projected one has ended."""
        return current_period(self.projected_start, self.projected_end, self.at_ms)

    @property
    def events_remaining(self) -> int:
        """Events of this period that are left."""
        return UNLIMITED if self.events_limit == UNLIMITED else max(0, self.events_limit - self.events_used)

    @property
    def events_affordable(self) -> int | None:
        """Events the free part of the wallet pays for; None if they cost nothing."""
        return affordable(self.balance_atomic, self.reserved_atomic, self.price_atomic)
