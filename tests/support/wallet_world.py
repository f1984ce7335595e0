"""One team's money and counters over the parts that move them: the scripts of gateway and replay on a real Valkey, billing's processor, its
projection. The log between them is a list, so that a test decides what has been applied and projected; beside it stand plain numbers that
say what everybody must find at that moment.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from redis.asyncio import Redis

from kite_billing.adapters.consumer import BillingProcessor
from kite_billing.domain.account import Rules
from kite_billing.domain.period import period_containing
from kite_billing.domain.tariff import terms_of
from kite_common.clock import utc_day
from kite_common.errors import Unavailable
from kite_common.events.accounts import AccountSnapshot, Provider, Subscription
from kite_common.events.codec import Record, decode, encode
from kite_common.events.commands import AdjustWallet, CreditWallet, Subscribe
from kite_common.events.ledger import LedgerEntry
from kite_common.events.usage import UsageRecorded
from kite_common.ids import EventId, TeamId, uuid7
from kite_common.plans import Catalog, Plan
from kite_common.projection import keys
from kite_common.projection.pending import Settled, Write
from kite_common.projection.writes import ProjectionWrites
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import SystemClock, random_bits
from kite_common.stream.input import Input
from kite_common.stream.transaction import Position
from kite_common.topics import COMMANDS, EVENTS, LEDGER
from kite_gateway.adapters.place import places
from kite_gateway.adapters.reservations import Limits, RedisReservations
from kite_gateway.adapters.scripts import ScriptRunner
from kite_gateway.adapters.standings import RedisStandings, RedisSubscriptionChanges
from kite_gateway.domain.admission import AdmissionRequest, Facts, Outcome
from kite_gateway.domain.standing import Standing
from kite_gateway.domain.subscription_change import Begun, SubscriptionChange, change_of
from kite_replay.adapters.page_charges import RedisPageCharges
from kite_replay.domain.charge import PageUsage

PARTITIONS: Final = 8
DAY_MS: Final = 86_400_000
# Reservations with a score below this have lapsed; real ones have a time of today.
LAPSED_BEFORE: Final = 1_000


def plan(number: int, month: int, day: int, event: int, row: int) -> Plan:
    """A small plan."""
    return Plan(f"6b1f3c1e-0000-4000-8000-{number:012d}", f"plan{number}", None, month, day, None, 262_144, 1_000, event, row)


CATALOG: Final = Catalog((plan(1, 4, 4, 0, 0), plan(2, 9, 6, 7, 2), plan(3, 30, 30, 30, 5), plan(4, 30, 9, 100, 0)))


class _Projector:
    """The test projects by itself."""

    def restored(self, partition: int, accounts: Any, position: Position) -> None: ...
    def applied(self, partition: int, accounts: Any, settled: Any, outcomes: Any, position: Position, charges: Any) -> None: ...
    def released(self, partition: int) -> None: ...


@dataclass
class Numbers:
    """What must be found: plain arithmetic over what was answered, whatever has been applied or projected by then.

    `free` is what the wallet has for more; `lapsed_events` and `lapsed_pages` of it are still held by lost reservations not yet removed.
    """

    used: int
    day_used: int
    charged: int
    free: int
    lapsed_events: int = 0
    lapsed_pages: int = 0


@dataclass(frozen=True)
class Held:
    """Something that is reserved and whose usage is not in the log; without `request` it is a page."""

    usage: UsageRecorded
    request: AdmissionRequest | None


@dataclass(frozen=True)
class Committed:
    """A step of billing. `moved`: what it added to the wallet beside the prices of usages; `short`: what the wallet lacked for those."""

    account: AccountSnapshot
    settled: tuple[Settled, ...]
    moved: int
    short: int


def account_of(
    team_id: TeamId, now_ms: int, *, plan_id: str, provider: Provider, ended: bool, yesterday: bool, **given: Any
) -> AccountSnapshot:
    """An account on a plan of CATALOG, perhaps last written in a period or on a day that has ended."""
    plan = CATALOG.by_id(plan_id)
    assert plan is not None
    anchor = now_ms - (40 if ended else 1) * DAY_MS
    period = period_containing(anchor, anchor)
    subscription = Subscription(
        id="sub", plan_id=plan.id, plan_name=plan.name, provider=provider, status="active", anchored_at=anchor,
        period_start=period.start_ms, period_end=period.end_ms, terms=terms_of(plan),
    )  # fmt: skip
    day = utc_day(now_ms) - (1 if yesterday or ended else 0)
    return AccountSnapshot(team_id=team_id, opened_at=anchor, subscription=subscription, day=day, applied=1, **given)


class World:
    """The team, and hands on every part. `log`: records billing has not applied; `committed`: steps the projection has not written."""

    def __init__(self, redis: Redis, server: str | None, account: AccountSnapshot) -> None:
        runner, place_of = ScriptRunner(redis, 5.0, Metrics()), places(PARTITIONS)
        self.stream_time_ms = keys.LAPSE_MS + LAPSED_BEFORE

        def stream_time(_: int) -> int:
            return self.stream_time_ms

        self.redis, self.team_id, self.account, self.projected = redis, TeamId(account.team_id), account, account
        self.reservations = RedisReservations(runner, place_of, Limits(None, 0, 1.0), stream_time, lambda _: 0.0, lambda _: server)
        self.standings = RedisStandings(runner, place_of, stream_time, lambda _: server)
        self.changes = RedisSubscriptionChanges(runner, place_of, stream_time, lambda _: server)
        self.pages, self.writes = RedisPageCharges(redis, PARTITIONS), ProjectionWrites(redis)
        self.billing = BillingProcessor(Rules(CATALOG, clerk_paid_plans=True), _Projector(), SystemClock(), Metrics())
        self.opening, self.today = account.balance_atomic, utc_day(SystemClock().unix_ms())
        self.log: list[Input] = []
        self.committed: list[Committed] = []
        self.held: list[Held] = []
        self.entries: list[LedgerEntry] = []
        self.told: list[str] = []
        self.change: SubscriptionChange | None = None
        self.sent = self.closed = self.corrected = False
        self.accepted: set[str] = set()
        self._numbered = 0
        running = account.subscription is not None and account.subscription.period_end > SystemClock().unix_ms()
        self.numbers = Numbers(
            account.period_used if running else 0, account.day_used if account.day == self.today else 0,
            account.period_charged_atomic if running else 0, account.balance_atomic,
        )  # fmt: skip

    async def open(self) -> None:
        """Project the account for the first time."""
        await self.writes.accounts([Write(self.account, (), create=True)], 0)

    @property
    def known(self) -> Subscription:
        """The subscription as it is projected."""
        assert self.projected.subscription is not None
        return self.projected.subscription

    # What callers do.

    async def admit(self) -> tuple[Outcome, Facts]:
        """A message comes: what must become of it, and what did."""
        now_ms = SystemClock().unix_ms()
        request = AdmissionRequest(self.team_id, uuid7(now_ms, random_bits(74)), now_ms)
        self.numbers.lapsed_events = 0
        expected, price = self._expected(), self.known.price_atomic_per_event
        facts = await self.reservations.admit(request)
        if facts.outcome is Outcome.ADMITTED:
            self._take(price, events=1)
            self.held.append(Held(self._usage(request.event_id, "message", 1, price, facts.at_ms), request))
        return expected, facts

    async def read_page(self, rows: int) -> tuple[bool, bool]:
        """A page is asked for: whether the wallet must pay for it, and whether it did."""
        now_ms, price = SystemClock().unix_ms(), rows * self.known.price_atomic_per_replayed_event
        page, numbers = PageUsage(self.team_id, uuid7(now_ms, random_bits(74)), rows, now_ms), self.numbers
        expected = not self._is_closed() and 0 < price <= numbers.free - numbers.lapsed_events - numbers.lapsed_pages
        try:
            found = await self.pages.reserve(page)
        except Unavailable:
            return expected, False
        if found.reserved:
            self._take(price, events=0)
            self.held.append(Held(self._usage(page.usage_id, "replay", rows, price, found.at_ms), None))
        return expected, found.reserved

    def publish(self, which: int) -> None:
        """The usage of something held arrives in the log."""
        if self.held:
            usage = self.held.pop(which % len(self.held)).usage
            self.accepted.add(usage.event_id)
            self._append(EVENTS.name, encode(usage))

    async def give_back(self, which: int) -> None:
        """The usage of something held is surely not in the log."""
        if not self.held:
            return
        held = self.held.pop(which % len(self.held))
        usage = held.usage
        if held.request is None:
            await self.pages.release(PageUsage(self.team_id, EventId(usage.event_id), usage.quantity, usage.reserved_at))
        else:
            await self.reservations.release(held.request, usage.reserved_at)
        self._take(-usage.price_atomic, events=0 if held.request is None else -1)

    async def lose(self, which: int) -> None:
        """The process that held something has died, and stream time has passed what it held."""
        if not self.held:
            return
        held, numbers = self.held.pop(which % len(self.held)), self.numbers
        price = held.usage.price_atomic
        if held.request is None:
            await self.redis.zadd(keys.replays(self.team_id), {held.usage.event_id: 1})
            numbers.lapsed_pages += price
        else:
            await self.redis.zadd(keys.reservations(self.team_id), {held.usage.event_id: 1})
            numbers.lapsed_events += price
        self._take(-price, events=0 if held.request is None else -1)

    def credit(self, amount: int) -> None:
        """A deposit arrives in the log."""
        self._append(COMMANDS.name, encode(CreditWallet(**self._command(), amount_atomic=amount, payment=None)))

    def correct(self, amount: int) -> None:
        """An operator takes money away, reserved or not: from here on only the ledger itself is never below zero."""
        self.corrected = True
        self._append(COMMANDS.name, encode(AdjustWallet(**self._command(), amount_atomic=-amount, note="of the test")))

    async def begin_change(self, plan_id: str, provider: Provider) -> tuple[Begun | None, Begun | None]:
        """What must become of beginning a change, and what did; None where there is nothing to change."""
        standing = await self.standing()
        wanted = change_of(self.team_id, standing, plan_id, provider)
        if wanted is None:
            return None, None
        expected = Begun.BEGUN
        if self.change is not None:
            expected = Begun.BEGUN if wanted.command_id == self.change.command_id else Begun.ANOTHER_UNDER_WAY
        elif wanted.provider_changes and standing.reserved_atomic > 0:
            expected = Begun.MONEY_RESERVED
        found = await self.changes.begin(self.team_id, wanted)
        if found is Begun.BEGUN and self.change is None:
            self.change, self.sent = wanted, False
            self.closed = wanted.provider_changes and self.known.price_atomic_per_event > 0
        return expected, found

    def send_change(self) -> None:
        """The command of the change arrives in the log."""
        if self.change is None or self.sent:
            return
        self.sent, given = True, self._command() | {"command_id": self.change.command_id}
        self._append(COMMANDS.name, encode(Subscribe(**given, plan_id=self.change.plan_id, provider=self.change.provider)))

    async def give_change_up(self) -> None:
        """The command of the change is surely not in the log."""
        if self.change is not None and not self.sent:
            await self.changes.end(self.team_id, self.change.command_id, has_outcome=True)
            self.change = None

    async def standing(self) -> Standing:
        """What GET /usage, /wallet and /subscription say."""
        found = await self.standings.of(self.team_id)
        assert found is not None
        return found

    # What billing and its projection do.

    def apply(self, count: int) -> None:
        """One step over the oldest records of the log."""
        inputs, self.log = self.log[:count], self.log[count:]
        if not inputs:
            return
        step = self.billing.step(3, inputs, {self.team_id: self.account}, self.account.applied + 1)
        entries = [decode(record.headers, record.value) for topic, record in step.records if topic == LEDGER.name]
        moved = short = 0
        for entry in entries:
            assert isinstance(entry, LedgerEntry)
            self.entries.append(entry)
            if entry.event_id is None:
                moved += entry.amount_atomic
            else:
                short += entry.shortfall_atomic
        self.told += [orjson.loads(record.value)["id"] for topic, record in step.records if topic == EVENTS.name]
        self.account = step.states.get(self.team_id, self.account)
        settled = tuple(one for one in step.effects if isinstance(one, Settled))
        self.committed.append(Committed(self.account, settled, moved, short))

    async def project(self, count: int) -> None:
        """Write the oldest steps, as the projection does: the newest account, and what all of them have settled."""
        steps, self.committed = self.committed[:count], self.committed[count:]
        if not steps:
            return
        before, self.projected = self.known, steps[-1].account
        settled = tuple(one for step in steps for one in step.settled)
        await self.writes.accounts([Write(self.projected, settled, create=False)], LAPSED_BEFORE)
        short = sum(step.short for step in steps)
        self.numbers.free += sum(step.moved for step in steps) + short
        self.numbers.charged -= short
        self.numbers.lapsed_events = self.numbers.lapsed_pages = 0
        if before.revision != self.known.revision:
            self.change = None

    async def drain(self) -> None:
        """Everything that is held reaches the log, the ledger and the projection, and what was lost is removed with it."""
        # Lost reservations go with a write of the account; the deposit makes sure that there is one.
        self.credit(1)
        while self.held:
            self.publish(0)
        self.send_change()
        self.apply(len(self.log))
        await self.project(len(self.committed))

    def _expected(self) -> Outcome:
        numbers, terms, price = self.numbers, self.known.terms, self.known.price_atomic_per_event
        if self._is_closed():
            return Outcome.PROVIDER_CHANGING
        if numbers.used + 1 > terms.events_per_month:
            return Outcome.MONTH_USED_UP
        if numbers.day_used + 1 > terms.events_per_day:
            return Outcome.DAY_USED_UP
        return Outcome.WALLET_TOO_LOW if 0 < price > numbers.free - numbers.lapsed_pages else Outcome.ADMITTED

    def _is_closed(self) -> bool:
        return self.change is not None and self.closed

    def _take(self, price: int, *, events: int) -> None:
        self.numbers.used += events
        self.numbers.day_used += events
        self.numbers.charged += price
        self.numbers.free -= price

    def _usage(self, event_id: EventId, kind: Literal["message", "replay"], quantity: int, price: int, at_ms: int) -> UsageRecorded:
        return UsageRecorded(
            team_id=self.team_id, event_id=event_id, usage_kind=kind, quantity=quantity, price_atomic=price, subscription_id="sub",
            reserved_at=at_ms,
        )  # fmt: skip

    def _command(self) -> dict[str, Any]:
        self._numbered += 1
        return {"team_id": self.team_id, "command_id": f"command-{self._numbered}", "sent_at": SystemClock().unix_ms()}

    def _append(self, topic: str, record: Record) -> None:
        self.log.append(Input(topic, 3, 0, SystemClock().unix_ms(), record.key, record.value, record.headers))
