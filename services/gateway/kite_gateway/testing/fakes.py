"""For tests: the other ports of the gateway, in memory. No mocks."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from kite_common.clock import FrozenClock
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
from kite_gateway.domain.access import Principal
from kite_gateway.domain.hooks.credentials import Endpoint, KnownHook, TokenState
from kite_gateway.domain.rate_limit import RateLimit, describe
from kite_gateway.domain.standing import Standing
from kite_gateway.domain.subscription_change import Begun, SubscriptionChange
from kite_gateway.testing.reservations import FakeReservations


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
