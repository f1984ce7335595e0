"""Fakes of the gateway's ports, and what every implementation of Reservations must do. For tests only; no mocks.

FakeReservations is also the reference of adapters/lua/admit.lua: the same checks in plain Python over the same account fields.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, Protocol

from redis.asyncio import Redis

from kite_common.clock import FrozenClock, utc_day
from kite_common.crypto import new_webhook_secret
from kite_common.errors import KiteError, Unavailable
from kite_common.events.commands import Command, CommandOutcome, CommandRefusal, Subscribe
from kite_common.events.deliveries import DeliveryOrdered
from kite_common.events.payments import PaymentOutcome, PaymentPayer, PaymentResult, PaymentSubmitted
from kite_common.events.usage import UsageRecorded
from kite_common.events.webhooks import WebhookConfigured
from kite_common.ids import CommandId, EventId, TeamId, WebhookConfigId, uuid7
from kite_common.log_position import kiteseq
from kite_common.plans import shipped_catalog
from kite_common.projection import keys
from kite_common.projection.server import server_id
from kite_gateway.application.ports import Reservations
from kite_gateway.domain.access import Principal
from kite_gateway.domain.admission import AdmissionRequest, Claim, Facts, FirstAnswer, Outcome, PaidWith, Usage
from kite_gateway.domain.hooks.credentials import Endpoint, KnownHook, TokenState
from kite_gateway.domain.rate_limit import Bucket, RateLimit, describe, full, refill, take
from kite_gateway.domain.standing import PlanTerms, Standing
from kite_gateway.domain.subscription_change import Begun, SubscriptionChange

WITHOUT_SUBSCRIPTION_PER_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Account:
    """A projected account, with the field names of kite_common.projection.keys.ACCOUNT_FIELDS that admission reads."""

    status: str = "active"
    provider: str = "x402"
    subscription: str = "sub"
    rate_per_min: int = 0
    price: int = 100
    month_limit: int = 1_000
    day_limit: int = 1_000
    period_start: int = 0
    period_end: int = 1 << 47
    used: int = 0
    day: int = 0
    day_used: int = 0
    balance: int = 1_000_000
    max_payload: int = 262_144
    debt: int = 0


async def project(redis: Redis, team_id: TeamId, account: Account) -> None:
    """Write an account where admission reads it, as billing projects it. The only place of the gateway's tests that does."""
    values: dict[str, str | int] = {
        "applied": 1, "plan_id": "", "plan_name": "", "charged": 0, "replay_price": 0, "max_payload": 262_144,
        "sources_limit": 10, "monthly": 0, "revision": 0, **asdict(account),
    }  # fmt: skip
    await redis.hset(keys.account(team_id), mapping={name: values[name] for name in keys.ACCOUNT_FIELDS})


async def vouch(redis: Redis, partitions: int) -> str:
    """Say, as billing does, that the accounts of all partitions stand on the server process that answers; its id."""
    server = server_id(await redis.info("server"))
    await redis.hset(keys.PROJECTED, mapping={keys.server_field(partition): server for partition in range(partitions)})
    return server


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


@dataclass(slots=True)
class FakeMessageLog:
    """A log in memory. `failure` is raised instead of appending; `gate`, if set, is awaited before."""

    records: list[tuple[TeamId, bytes, str, UsageRecorded]] = field(default_factory=list)
    failure: KiteError | None = None
    gate: asyncio.Event | None = None

    async def append(self, team_id: TeamId, event: bytes, traceparent: str, usage: UsageRecorded, received_ms: int) -> None:  # noqa: ARG002
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.records.append((team_id, event, traceparent, usage))


@dataclass(slots=True)
class FakeCredentials:
    """Key texts and their holders."""

    holders: Mapping[str, Principal] = field(default_factory=dict)

    def identify(self, key_text: str, now_ms: int) -> Principal | None:  # noqa: ARG002 - the port's signature
        return self.holders.get(key_text)


@dataclass(slots=True)
class FakeHooks:
    """Endpoints by team and source, and the tokens of each with what they are worth."""

    endpoints: dict[tuple[str, str], Endpoint] = field(default_factory=dict)
    tokens: dict[tuple[str, str, str], TokenState] = field(default_factory=dict)

    def find(self, team_id: TeamId, source: str, token: str | None, now_ms: int) -> KnownHook:  # noqa: ARG002 - the port's signature
        state: TokenState = "none" if token is None else self.tokens.get((team_id, source, token), "wrong")
        return KnownHook(self.endpoints.get((team_id, source)), state)


@dataclass(slots=True)
class FakeRateLimits:
    """No limit, or one that is used up."""

    used_up: bool = False

    async def take(self, team_id: TeamId) -> tuple[bool, RateLimit | None]:  # noqa: ARG002 - the port's signature
        return (False, describe(0, 60)) if self.used_up else (True, None)


@dataclass(slots=True)
class FakeTopUpBilling:
    """What billing does with top-ups, in memory: a new payment fills the wallet once, a known one finds its outcome.

    `instead`: fields of the outcome that new payments get instead of being taken. `loses_results`: what is kept is forgotten.
    """

    reservations: FakeReservations
    credited_at: int
    instead: Mapping[str, Any] | None = None
    loses_results: bool = False
    submitted: list[PaymentSubmitted] = field(default_factory=list)
    known: dict[str, tuple[str, PaymentOutcome]] = field(default_factory=dict)
    results: dict[str, PaymentResult] = field(default_factory=dict)

    async def submit(self, submitted: PaymentSubmitted) -> PaymentOutcome:
        self.submitted.append(submitted)
        await asyncio.sleep(0)
        plain = PaymentOutcome(payment_key=submitted.payment_key, submission_id=submitted.submission_id, result="pending")
        found = self.known.get(submitted.payment_key)
        if found is None:
            return self._new(submitted, plain)
        fingerprint, outcome = found
        if fingerprint != submitted.fingerprint:
            return plain.model_copy(update={"result": "conflict", "code": "payment_already_used"})
        kept = self.results.get(submitted.payment_key)
        stored = {} if kept is None else {"stored_status": kept.status, "stored_body": kept.body}
        return outcome.model_copy(update={"submission_id": submitted.submission_id, **stored})

    async def keep(self, result: PaymentResult) -> None:
        if not self.loses_results:
            self.results.setdefault(result.payment_key, result)

    def _new(self, submitted: PaymentSubmitted, plain: PaymentOutcome) -> PaymentOutcome:
        if submitted.if_new is not None:
            told = submitted.if_new
            fields = {"status": told.status, "code": told.code, "reason": told.reason}
            return plain.model_copy(update={"result": "not_needed"} if told.code == "not_needed" else {"result": "refused", **fields})
        if self.instead is not None:
            return plain.model_copy(update=self.instead)
        amount, team_id = int(submitted.authorization.value), TeamId(submitted.target.team_id or "")
        account = self.reservations.accounts[team_id]
        owed = min(account.debt, amount)
        self.reservations.accounts[team_id] = replace(account, balance=account.balance + amount - owed, debt=account.debt - owed)
        paid = PaymentPayer(
            transaction="0x" + "5a" * 32, network="eip155:84532", payer=submitted.authorization.from_address, amount_atomic=amount
        )
        outcome = plain.model_copy(update={
            "result": "credited", "paid": paid, "transaction": paid.transaction, "credited_at": self.credited_at, "team_id": team_id,
            "amount_atomic": amount, "applied": 7, "target": submitted.target,
        })  # fmt: skip
        self.known[submitted.payment_key] = submitted.fingerprint, outcome
        return outcome


def standing(**given: Any) -> Standing:
    """A team on starter in the middle of its first period, with money and a few events in flight."""
    fields: dict[str, Any] = {
        "at_ms": 1_777_543_200_000, "events_used": 42, "events_limit": 100_000, "events_today": 7, "day_limit": 10_000,
        "projected_start": 1_777_456_800_000, "projected_end": 1_780_048_800_000, "charged_atomic": 4_200, "balance_atomic": 995_900,
        "reserved_atomic": 100, "price_atomic": 100, "debt_atomic": 0, "revision": 3, "status": "active", "provider": "x402",
        "subscription_id": "sub", "plan_id": "6b1f3c1e-0000-4000-8000-000000000002", "plan_name": "starter", "requests_per_minute": 300,
        "terms": PlanTerms(262_144, 10, 5_000_000, 10),
    }  # fmt: skip
    return Standing(**(fields | given))


@dataclass(slots=True)
class FakeBilling:
    """Standings, SubscriptionChanges and Commands of teams in memory: commands are carried out at once, unless `failure` is raised or
    `refusal` given instead, or nothing is projected. `gate`, if set, is awaited before. With a `clock`, late ones are not sent, and
    the process stands still for `pause_ms` after a change has begun."""

    standings: dict[TeamId, Standing] = field(default_factory=dict)
    failure: KiteError | None = None
    refusal: CommandRefusal | None = None
    projects: bool = True
    gate: asyncio.Event | None = None
    clock: FrozenClock | None = None
    pause_ms: int = 0
    sent: list[Command] = field(default_factory=list)
    under_way: dict[TeamId, CommandId] = field(default_factory=dict)
    begun_together: set[CommandId] = field(default_factory=set)

    async def of(self, team_id: TeamId) -> Standing | None:
        return self.standings.get(team_id)

    async def begin(self, team_id: TeamId, change: SubscriptionChange) -> Begun:
        known = self.standings[team_id]
        if self.under_way.get(team_id, change.command_id) != change.command_id:
            return Begun.ANOTHER_UNDER_WAY
        if (known.subscription_id, known.revision) != (change.subscription_id, change.revision):
            return Begun.ANOTHER_UNDER_WAY
        if change.provider_changes and known.reserved_atomic > 0 and team_id not in self.under_way:
            return Begun.MONEY_RESERVED
        if team_id in self.under_way:
            self.begun_together.add(change.command_id)
        self.under_way[team_id] = change.command_id
        if self.clock is not None:
            self.clock.advance(timedelta(milliseconds=self.pause_ms))
        return Begun.BEGUN

    async def end(self, team_id: TeamId, command_id: CommandId, *, has_outcome: bool) -> None:
        if self.under_way.get(team_id) == command_id and (has_outcome or command_id not in self.begun_together):
            del self.under_way[team_id]
            self.begun_together.discard(command_id)

    async def send(self, command: Command, *, not_after_ms: int | None = None) -> CommandOutcome:
        if self.gate is not None:
            await self.gate.wait()
        if self.clock is not None and not_after_ms is not None and self.clock.unix_ms() > not_after_ms:
            raise Unavailable("the write came too late")
        if self.failure is not None:
            raise self.failure
        assert isinstance(command, Subscribe)
        self.sent.append(command)
        if self.projects and self.refusal is None and len({one.command_id for one in self.sent}) == len(self.sent):
            self._subscribe(command)
        return CommandOutcome(team_id=command.team_id, command_id=command.command_id, refusal=self.refusal, applied=1)

    def _subscribe(self, command: Subscribe) -> None:
        team_id, plan = TeamId(command.team_id), shipped_catalog().by_id(command.plan_id)
        assert plan is not None
        old = self.standings[team_id]
        self.standings[team_id] = replace(
            old, plan_id=plan.id, plan_name=plan.name, provider=command.provider, status="active", events_limit=plan.events_per_month,
            revision=old.revision + 1, subscription_id=old.subscription_id if old.has_subscription else f"of-{command.command_id}",
        )  # fmt: skip


@dataclass(slots=True)
class FakeClientRateLimits:
    """So many requests of each client, and no more; `seen` counts them."""

    limit: int = 300
    seen: dict[str, int] = field(default_factory=dict)

    async def take(self, client: str) -> tuple[bool, RateLimit | None]:
        self.seen[client] = self.seen.get(client, 0) + 1
        left = max(0, self.limit - self.seen[client])
        return self.seen[client] <= self.limit, describe(left * 60_000, self.limit)


@dataclass(slots=True)
class FakeWebhookConfigs:
    """Configs in memory. With a `clock`, late ones are not stored, and the process stands still for `pause_ms` after it has read one."""

    configs: dict[str, WebhookConfigured] = field(default_factory=dict)
    clock: FrozenClock | None = None
    pause_ms: int = 0

    async def current(self, team_id: TeamId) -> WebhookConfigured | None:
        await asyncio.sleep(0)
        known = self.configs.get(team_id)
        if self.clock is not None:
            self.clock.advance(timedelta(milliseconds=self.pause_ms))
        return known

    async def store(self, config: WebhookConfigured, *, instead_of: WebhookConfigured | None, not_after_ms: int) -> bool:
        await asyncio.sleep(0)
        if self.clock is not None and self.clock.unix_ms() > not_after_ms:
            raise Unavailable("the write came too late")
        if self.configs.get(config.team_id) != instead_of:
            return False
        self.configs[config.team_id] = config
        return True


@dataclass(slots=True)
class FakeDeliveryCommands:
    """Orders in memory."""

    orders: list[DeliveryOrdered] = field(default_factory=list)

    async def place_now(self, team_id: TeamId) -> int:  # noqa: ARG002 - the port's signature
        return kiteseq(4711, 3)

    async def give(self, order: DeliveryOrdered, *, not_after_ms: int) -> None:  # noqa: ARG002 - the port's signature
        self.orders.append(order)


@dataclass(slots=True)
class FakeSeal:
    """Seals by marking; `has_key` False: the server has no key."""

    has_key: bool = True
    made: int = 0

    def seal(self, secret: str, team_id: TeamId, config_id: WebhookConfigId) -> str | None:
        return f"sealed({secret},{team_id},{config_id})" if self.has_key else None

    def holds(self, sealed: str, secret: str, team_id: TeamId, config_id: WebhookConfigId) -> bool:
        return sealed == self.seal(secret, team_id, config_id)

    def new_secret(self) -> str:
        self.made += 1
        return new_webhook_secret(self.made.to_bytes(32, "big"))


@dataclass(slots=True)
class CountingIds:
    """Ids in ascending order."""

    drawn: int = 0

    def event_id(self, unix_ms: int) -> EventId:
        self.drawn += 1
        return uuid7(unix_ms, self.drawn)

    def webhook_config_id(self, unix_ms: int) -> WebhookConfigId:
        return WebhookConfigId(self.event_id(unix_ms))


class ReservationsHarness(Protocol):
    """What the behaviour suite needs beside the port: a team of its own, and billing's hand on it."""

    @property
    def reservations(self) -> Reservations: ...

    async def open(self, account: Account) -> TeamId:
        """A new team with this projected account."""
        ...

    def request(self, team_id: TeamId, claim: Claim | None = None, delivery: str | None = None) -> AdmissionRequest:
        """A new request of the team."""
        ...


Behaviour = Callable[[ReservationsHarness], Awaitable[None]]


async def an_unknown_account_is_not_admitted(harness: ReservationsHarness) -> None:
    team = TeamId("team_nobody")
    assert (await harness.reservations.admit(harness.request(team))).outcome is Outcome.UNKNOWN_ACCOUNT


async def a_wallet_pays_for_what_it_holds_and_no_more(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(price=100, balance=350))
    outcomes = [(await harness.reservations.admit(harness.request(team))).outcome for _ in range(5)]
    assert outcomes == [Outcome.ADMITTED] * 3 + [Outcome.WALLET_TOO_LOW] * 2


async def a_refusal_names_price_and_what_is_free(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(price=100, balance=150))
    await harness.reservations.admit(harness.request(team))
    facts = await harness.reservations.admit(harness.request(team))
    assert (facts.outcome, facts.price_atomic, facts.available_atomic) == (Outcome.WALLET_TOO_LOW, 100, 50)


async def a_refusal_names_what_the_next_credit_pays_first(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(price=100, balance=0, debt=5_000_000))
    for facts in (await harness.reservations.peek(harness.request(team)), await harness.reservations.admit(harness.request(team))):
        assert (facts.outcome, facts.debt_atomic, facts.available_atomic) == (Outcome.WALLET_TOO_LOW, 5_000_000, 0)


async def a_flat_plan_takes_nothing_from_the_wallet(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(provider="clerk", price=100, balance=0))
    facts = await harness.reservations.admit(harness.request(team))
    assert (facts.outcome, facts.price_atomic) == (Outcome.ADMITTED, 0)


async def the_month_ends_at_its_limit(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(used=8, month_limit=10))
    facts = [await harness.reservations.admit(harness.request(team)) for _ in range(3)]
    assert [(one.outcome, one.month_used) for one in facts] == [
        (Outcome.ADMITTED, 9), (Outcome.ADMITTED, 10), (Outcome.MONTH_USED_UP, 10),
    ]  # fmt: skip


async def a_day_that_is_over_counts_nothing(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(day=1, day_used=500, day_limit=1))
    facts = [await harness.reservations.admit(harness.request(team)) for _ in range(2)]
    assert [(one.outcome, one.day_used) for one in facts] == [(Outcome.ADMITTED, 1), (Outcome.DAY_USED_UP, 1)]


async def a_period_that_is_over_counts_nothing(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(period_end=1, used=500, month_limit=1))
    facts = [await harness.reservations.admit(harness.request(team)) for _ in range(2)]
    assert [(one.outcome, one.month_used) for one in facts] == [(Outcome.ADMITTED, 1), (Outcome.MONTH_USED_UP, 1)]


async def without_an_active_subscription_nothing_is_reserved(harness: ReservationsHarness) -> None:
    for status in ("past_due", "cancelled", "none"):
        team = await harness.open(Account(status=status))
        facts = await harness.reservations.admit(harness.request(team))
        assert (facts.outcome, facts.per_minute) == (Outcome.NO_SUBSCRIPTION, WITHOUT_SUBSCRIPTION_PER_MINUTE)


async def a_rate_ends_at_its_burst(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(rate_per_min=2))
    outcomes = [(await harness.reservations.admit(harness.request(team))).outcome for _ in range(3)]
    assert outcomes == [Outcome.ADMITTED, Outcome.ADMITTED, Outcome.RATE_LIMITED]


async def a_confirmed_claim_gives_its_first_answer(harness: ReservationsHarness) -> None:
    team, claim = await harness.open(Account(used=4)), Claim("k" * 32, "body")
    first = harness.request(team, claim)
    await harness.reservations.admit(first)
    await harness.reservations.confirm(first)
    facts = await harness.reservations.admit(harness.request(team, claim))
    assert facts.first == FirstAnswer(first.event_id, first.received_ms, Usage(5, 1_000, 100))


async def a_claim_in_flight_holds_its_key(harness: ReservationsHarness) -> None:
    team, claim = await harness.open(Account()), Claim("k" * 32, "body")
    await harness.reservations.admit(harness.request(team, claim))
    again = await harness.reservations.admit(harness.request(team, claim))
    other = await harness.reservations.admit(harness.request(team, Claim(claim.id, "other body")))
    assert (again.outcome, other.outcome) == (Outcome.IN_PROGRESS, Outcome.KEY_REUSED)


async def a_released_claim_frees_its_key_and_its_money(harness: ReservationsHarness) -> None:
    team, claim = await harness.open(Account(price=100, balance=100)), Claim("k" * 32, "body")
    first = harness.request(team, claim)
    at_ms = (await harness.reservations.admit(first)).at_ms
    await harness.reservations.release(first, at_ms)
    await harness.reservations.release(first, at_ms)
    facts = await harness.reservations.admit(harness.request(team, Claim(claim.id, "other body")))
    assert (facts.outcome, facts.available_atomic) == (Outcome.ADMITTED, 100)


async def a_refused_request_frees_its_key(harness: ReservationsHarness) -> None:
    team, claim = await harness.open(Account(price=100, balance=100)), Claim("k" * 32, "body")
    other = harness.request(team)
    at_ms = (await harness.reservations.admit(other)).at_ms
    refused = await harness.reservations.admit(harness.request(team, claim))
    await harness.reservations.release(other, at_ms)
    admitted = await harness.reservations.admit(harness.request(team, Claim(claim.id, "other body")))
    assert (refused.outcome, admitted.outcome) == (Outcome.WALLET_TOO_LOW, Outcome.ADMITTED)


async def a_second_delivery_is_a_duplicate_also_with_the_quota_used_up(harness: ReservationsHarness) -> None:
    team, first = await harness.open(Account(used=4, month_limit=5, balance=100)), "d" * 32
    request = harness.request(team, delivery=first)
    await harness.reservations.admit(request)
    await harness.reservations.confirm(request)
    again = await harness.reservations.admit(harness.request(team, delivery=first))
    other = await harness.reservations.admit(harness.request(team, delivery="e" * 32))
    assert (again.outcome, other.outcome) == (Outcome.DUPLICATE, Outcome.MONTH_USED_UP)
    assert again.first == FirstAnswer(request.event_id, request.received_ms, Usage(5, 5, 100))


async def a_delivery_in_flight_is_no_duplicate_yet(harness: ReservationsHarness) -> None:
    team, first = await harness.open(Account()), "d" * 32
    request = harness.request(team, delivery=first)
    at_ms = (await harness.reservations.admit(request)).at_ms
    assert (await harness.reservations.admit(harness.request(team, delivery=first))).outcome is Outcome.DELIVERY_IN_FLIGHT
    await harness.reservations.release(request, at_ms)
    assert (await harness.reservations.admit(harness.request(team, delivery=first))).outcome is Outcome.ADMITTED


async def a_key_is_asked_before_the_delivery(harness: ReservationsHarness) -> None:
    team, claim, delivery = await harness.open(Account()), Claim("k" * 32, "body"), "d" * 32
    request = harness.request(team, claim, delivery)
    await harness.reservations.admit(request)
    await harness.reservations.confirm(request)
    asked = [(claim, delivery), (Claim("l" * 32, "body"), delivery), (claim, "e" * 32), (None, delivery), (Claim("k" * 32, "x"), delivery)]
    outcomes = [(await harness.reservations.admit(harness.request(team, *one))).outcome for one in asked]
    assert outcomes == [Outcome.REPLAYED, Outcome.DUPLICATE, Outcome.REPLAYED, Outcome.DUPLICATE, Outcome.KEY_REUSED]


async def without_a_subscription_even_a_duplicate_is_refused(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(status="past_due"))
    facts = await harness.reservations.admit(harness.request(team, delivery="d" * 32))
    assert facts.outcome is Outcome.NO_SUBSCRIPTION


async def a_body_above_the_plans_limit_takes_nothing(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(max_payload=1_000, rate_per_min=1))
    sizes = [replace(harness.request(team), body_bytes=size) for size in (1_001, 1_000)]
    facts = [await harness.reservations.admit(request) for request in sizes]
    assert [(one.outcome, one.largest_bytes) for one in facts] == [(Outcome.PAYLOAD_TOO_LARGE, 1_000), (Outcome.ADMITTED, 0)]


PAYMENT: Final = PaidWith("p" * 32, '{"transaction":"0x5a"}')


async def a_look_ahead_takes_a_token_and_nothing_else(harness: ReservationsHarness) -> None:
    team, claim = await harness.open(Account(rate_per_min=2, price=100, balance=100, used=4)), Claim("k" * 32, "body")
    request = harness.request(team, claim, "d" * 32)
    seen = await harness.reservations.peek(request)
    assert (seen.outcome, seen.month_used, seen.available_atomic, seen.level) == (Outcome.ADMITTED, 4, 100, 60_000)
    admitted = await harness.reservations.admit(request)
    assert (admitted.outcome, admitted.month_used) == (Outcome.ADMITTED, 5)
    assert (await harness.reservations.peek(request)).outcome is Outcome.RATE_LIMITED


async def a_look_ahead_finds_what_admission_would_find(harness: ReservationsHarness) -> None:
    claim, other = Claim("k" * 32, "body"), Claim("k" * 32, "other body")
    team = await harness.open(Account(price=100, balance=100))
    first = harness.request(team, claim, "d" * 32)
    await harness.reservations.admit(first)
    asked = [(claim, None), (other, None), (None, "d" * 32), (None, None)]
    in_flight = [(await harness.reservations.peek(harness.request(team, *one))).outcome for one in asked]
    await harness.reservations.confirm(first)
    accepted = [(await harness.reservations.peek(harness.request(team, *one))).outcome for one in asked]
    assert in_flight == [Outcome.IN_PROGRESS, Outcome.KEY_REUSED, Outcome.DELIVERY_IN_FLIGHT, Outcome.WALLET_TOO_LOW]
    assert accepted == [Outcome.REPLAYED, Outcome.KEY_REUSED, Outcome.DUPLICATE, Outcome.WALLET_TOO_LOW]


async def who_has_been_looked_at_takes_no_second_token(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(rate_per_min=1))
    request = harness.request(team)
    await harness.reservations.peek(request)
    facts = await harness.reservations.admit(replace(request, takes_token=False))
    assert (facts.outcome, facts.per_minute) == (Outcome.ADMITTED, 1)
    assert facts.level < 60_000


async def a_payment_is_for_one_event_under_whichever_key(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(used=4))
    first = replace(harness.request(team, Claim("k" * 32, "body"), "d" * 32), payment=PAYMENT)
    at_ms = (await harness.reservations.admit(first)).at_ms
    repeats = [replace(first, claim=claim, delivery=None) for claim in (None, Claim("l" * 32, "body"))]
    in_flight = [(await harness.reservations.admit(one)).outcome for one in repeats]
    assert in_flight == [Outcome.PAID_IN_FLIGHT] * 2
    await harness.reservations.confirm(first)
    facts = [await harness.reservations.admit(one) for one in repeats]
    answer = FirstAnswer(first.event_id, first.received_ms, Usage(5, 1_000, 100), PAYMENT.receipt)
    assert [(one.outcome, one.first) for one in facts] == [(Outcome.REPLAYED, answer)] * 2
    assert facts[0].at_ms >= at_ms


async def a_key_and_a_delivery_remember_how_they_were_paid(harness: ReservationsHarness) -> None:
    team, claim = await harness.open(Account()), Claim("k" * 32, "body")
    first = replace(harness.request(team, claim, "d" * 32), payment=PAYMENT)
    await harness.reservations.admit(first)
    await harness.reservations.confirm(first)
    found = [(await harness.reservations.admit(harness.request(team, *one))).first for one in ((claim, None), (None, "d" * 32))]
    assert [one and one.receipt for one in found] == [PAYMENT.receipt] * 2


async def a_released_payment_may_be_admitted_again_under_the_same_event(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(price=100, balance=100))
    first = replace(harness.request(team), payment=PAYMENT)
    at_ms = (await harness.reservations.admit(first)).at_ms
    await harness.reservations.release(first, at_ms - 1)
    assert (await harness.reservations.admit(first)).outcome is Outcome.PAID_IN_FLIGHT, "that reservation was another's"
    await harness.reservations.release(first, at_ms)
    facts = await harness.reservations.admit(first)
    assert (facts.outcome, facts.available_atomic) == (Outcome.ADMITTED, 100)


RESERVATIONS_SUITE: Final[tuple[Behaviour, ...]] = (
    an_unknown_account_is_not_admitted, a_wallet_pays_for_what_it_holds_and_no_more, a_refusal_names_price_and_what_is_free,
    a_refusal_names_what_the_next_credit_pays_first,
    a_flat_plan_takes_nothing_from_the_wallet, the_month_ends_at_its_limit, a_day_that_is_over_counts_nothing,
    a_period_that_is_over_counts_nothing, without_an_active_subscription_nothing_is_reserved, a_rate_ends_at_its_burst,
    a_confirmed_claim_gives_its_first_answer, a_claim_in_flight_holds_its_key, a_released_claim_frees_its_key_and_its_money,
    a_refused_request_frees_its_key, a_second_delivery_is_a_duplicate_also_with_the_quota_used_up, a_delivery_in_flight_is_no_duplicate_yet,
    a_key_is_asked_before_the_delivery, without_a_subscription_even_a_duplicate_is_refused, a_body_above_the_plans_limit_takes_nothing,
    a_look_ahead_takes_a_token_and_nothing_else, a_look_ahead_finds_what_admission_would_find, who_has_been_looked_at_takes_no_second_token,
    a_payment_is_for_one_event_under_whichever_key, a_key_and_a_delivery_remember_how_they_were_paid,
    a_released_payment_may_be_admitted_again_under_the_same_event,
)  # fmt: skip
