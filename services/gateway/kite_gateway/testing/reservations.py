"""For tests: Reservations in memory.

The reference of adapters/lua/admit.lua: the same checks in plain Python over the same account fields.
"""

from dataclasses import dataclass, field, replace

from kite_common.clock import utc_day
from kite_common.ids import EventId, TeamId
from kite_common.projection import keys
from kite_gateway.domain.admission import AdmissionRequest, Claim, Facts, FirstAnswer, Outcome, Usage
from kite_gateway.domain.rate_limit import Bucket, full, refill, take
from kite_gateway.testing.accounts import WITHOUT_SUBSCRIPTION_PER_MINUTE, Account


@dataclass(slots=True)
class _Held:
    request: AdmissionRequest
    at_ms: int
    amount: int


@dataclass(slots=True)
class _ClaimState:
    claim: Claim | None
    first: FirstAnswer
    accepted: bool = False


@dataclass(slots=True)
class FakeReservations:
    """Reservations of teams in memory. Tests set `accounts`, `now_ms` and `stream_time_ms`."""

    accounts: dict[TeamId, Account] = field(default_factory=dict)
    now_ms: int = 0
    stream_time_ms: int = 0
    held: dict[EventId, _Held] = field(default_factory=dict)
    _buckets: dict[TeamId, Bucket] = field(default_factory=dict)
    # What stands under the ids of Idempotency-Keys and of deliveries, as in Redis side by side.
    _claims: dict[tuple[TeamId, str], _ClaimState] = field(default_factory=dict)

    async def admit(self, request: AdmissionRequest) -> Facts:
        return self._run(request, reserves=True)

    async def peek(self, request: AdmissionRequest) -> Facts:
        return self._run(request, reserves=False)

    def _run(self, request: AdmissionRequest, *, reserves: bool) -> Facts:
        account = self.accounts.get(request.team_id)
        if account is None:
            return Facts(Outcome.UNKNOWN_ACCOUNT, self.now_ms)
        if 0 < account.max_payload < request.body_bytes:
            return Facts(Outcome.PAYLOAD_TOO_LARGE, self.now_ms, largest_bytes=account.max_payload)
        self._lapse(request.team_id)
        rate = account.rate_per_min if account.status == "active" else WITHOUT_SUBSCRIPTION_PER_MINUTE
        level, allowed = self._take(request.team_id, rate, takes=request.takes_token)
        facts = Facts(Outcome.RATE_LIMITED, self.now_ms, rate, level)
        if not allowed:
            return facts
        return self._claimed(request, facts) or self._paid(request, facts) or self._checked(request, account, facts, reserves=reserves)

    async def confirm(self, request: AdmissionRequest) -> None:
        for name in self._own_claims(request):
            self._claims[name].accepted = True

    async def release(self, request: AdmissionRequest, reserved_at_ms: int) -> None:
        held = self.held.get(request.event_id)
        if held is None or held.at_ms != reserved_at_ms:
            return
        for name in self._own_claims(request):
            del self._claims[name]
        del self.held[request.event_id]

    def settle(self, event_id: EventId) -> None:
        """What billing does: the reservation is gone, the account has the usage, the claims are accepted."""
        held = self.held.pop(event_id)
        team_id = held.request.team_id
        account = self.accounts[team_id]
        self.accounts[team_id] = replace(account, used=account.used + 1, balance=account.balance - held.amount)
        for name in self._own_claims(held.request):
            self._claims[name].accepted = True

    def _lapse(self, team_id: TeamId) -> None:
        before = self.stream_time_ms - keys.LAPSE_MS
        for event_id in [one for one, held in self._of(team_id).items() if held.at_ms < before]:
            del self.held[event_id]

    def _take(self, team_id: TeamId, rate: int, *, takes: bool) -> tuple[int, bool]:
        if rate == 0:
            return 0, True
        if not takes:
            return refill(self._buckets.get(team_id, full(rate, self.now_ms)), rate, self.now_ms).level, True
        bucket, allowed = take(self._buckets.get(team_id, full(rate, self.now_ms)), rate, self.now_ms)
        self._buckets[team_id] = bucket
        return bucket.level, allowed

    def _claimed(self, request: AdmissionRequest, facts: Facts) -> Facts | None:
        state = self._held_by(request.team_id, request.claim.id if request.claim else None)
        if state is None:
            return None
        if state.claim != request.claim:
            return replace(facts, outcome=Outcome.KEY_REUSED)
        if not state.accepted:
            return replace(facts, outcome=Outcome.IN_PROGRESS)
        return replace(facts, outcome=Outcome.REPLAYED, first=state.first)

    def _paid(self, request: AdmissionRequest, facts: Facts) -> Facts | None:
        state = self._held_by(request.team_id, request.payment.claim if request.payment else None)
        if state is None:
            return None
        if not state.accepted:
            return replace(facts, outcome=Outcome.PAID_IN_FLIGHT)
        return replace(facts, outcome=Outcome.REPLAYED, first=state.first)

    def _held_by(self, team_id: TeamId, claim_id: str | None) -> _ClaimState | None:
        state = self._claims.get((team_id, claim_id)) if claim_id else None
        return state if state is not None and (state.accepted or state.first.event_id in self.held) else None

    def _checked(self, request: AdmissionRequest, account: Account, facts: Facts, *, reserves: bool) -> Facts:
        if account.status != "active":
            return replace(facts, outcome=Outcome.NO_SUBSCRIPTION)
        delivered = self._held_by(request.team_id, request.delivery)
        if delivered is not None:
            outcome = Outcome.DUPLICATE if delivered.accepted else Outcome.DELIVERY_IN_FLIGHT
            return replace(facts, outcome=outcome, first=delivered.first if delivered.accepted else None)
        price = account.price if account.provider == "x402" else 0
        held = self._of(request.team_id).values()
        found = replace(
            self._counted(request.team_id, account, facts), price_atomic=price, subscription_id=account.subscription,
            available_atomic=account.balance - sum(one.amount for one in held), debt_atomic=account.debt,
        )  # fmt: skip
        outcome = _first_failing(found)
        if outcome is not Outcome.ADMITTED or not reserves:
            return replace(found, outcome=outcome)
        admitted = replace(found, outcome=outcome, month_used=found.month_used + 1, day_used=found.day_used + 1)
        self.held[request.event_id] = _Held(request, self.now_ms, price)
        receipt = request.payment.receipt if request.payment else ""
        first = FirstAnswer(request.event_id, request.received_ms, Usage(admitted.month_used, admitted.month_limit, price), receipt)
        for name in _names(request):
            self._claims[name] = _ClaimState(request.claim, first)
        return admitted

    def _counted(self, team_id: TeamId, account: Account, facts: Facts) -> Facts:
        ended, today = self.now_ms >= account.period_end, utc_day(self.now_ms)
        begins = account.period_end if ended else account.period_start
        times = [held.at_ms for held in self._of(team_id).values()]
        return replace(
            facts,
            month_used=(0 if ended else account.used) + sum(at >= begins for at in times),
            day_used=(account.day_used if account.day >= today else 0) + sum(utc_day(at) >= today for at in times),
            month_limit=account.month_limit, day_limit=account.day_limit,
            period_start=account.period_start, period_end=account.period_end,
        )  # fmt: skip

    def _of(self, team_id: TeamId) -> dict[EventId, _Held]:
        return {event_id: held for event_id, held in self.held.items() if held.request.team_id == team_id}

    def _own_claims(self, request: AdmissionRequest) -> list[tuple[TeamId, str]]:
        return [name for name in _names(request) if name in self._claims and self._claims[name].first.event_id == request.event_id]


def _names(request: AdmissionRequest) -> list[tuple[TeamId, str]]:
    ids = (request.claim.id if request.claim else None, request.payment.claim if request.payment else None, request.delivery)
    return [(request.team_id, one) for one in ids if one is not None]


def _first_failing(found: Facts) -> Outcome:
    if found.month_used >= found.month_limit:
        return Outcome.MONTH_USED_UP
    if found.day_used >= found.day_limit:
        return Outcome.DAY_USED_UP
    return Outcome.WALLET_TOO_LOW if found.available_atomic < found.price_atomic else Outcome.ADMITTED
