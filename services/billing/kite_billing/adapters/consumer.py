"""Binds kite.events and kite.commands to the use cases: records in, one transaction's records out. No rules, no IO.

A step runs its commands before its usages, each in log order. What cannot be used goes to the dead letters and stops nothing. What a team
has to be told goes into its own stream, in the same transaction; billing passes it over when it reads it there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from kite_billing.adapters.payment_faults import LEDGER_COMMITTED, LEDGER_DECIDING
from kite_billing.application.charge_usage import ChargeUsage
from kite_billing.application.end_blocks import BlockEnds, end_blocks
from kite_billing.application.run_command import Place, run_command
from kite_billing.domain.account import Rules
from kite_common.clock import Clock
from kite_common.errors import Malformed
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import RECORD_HEADER, Record, decode, decode_as, encode
from kite_common.events.commands import (
    AdjustWallet,
    CancelSubscription,
    Command,
    CommandOutcome,
    CreditWallet,
    OpenAccount,
    ReverseCredit,
    SetPastDue,
    Subscribe,
)
from kite_common.events.deliveries import DeadLetter
from kite_common.events.notices import SubscriptionNotice
from kite_common.events.payments import CreditApplied
from kite_common.events.usage import UsageRecorded
from kite_common.ids import UNATTRIBUTED, EventId, TeamId, parse_team_id
from kite_common.projection.keys import LAPSE_MS
from kite_common.projection.pending import Charges, Settled
from kite_common.runtime import faults
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.stream.group import Input
from kite_common.stream.transaction import Position, Step
from kite_common.topics import ACCOUNTS, COMMANDS, DEAD_LETTERS, EVENTS, LEDGER, PAYMENTS
from kite_common.x402.key import payment_partition

log = get_logger("kite.billing")

_SERVICE: Final = "billing"
_USAGE: Final = (RECORD_HEADER, UsageRecorded.kind.encode())
_COMMANDS: Final = (OpenAccount, Subscribe, CancelSubscription, SetPastDue, CreditWallet, ReverseCredit, AdjustWallet)
_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The topics of one deployment; tests that share a broker put a prefix before them."""

    events: str = EVENTS.name
    commands: str = COMMANDS.name
    accounts: str = ACCOUNTS.name
    ledger: str = LEDGER.name
    dead_letters: str = DEAD_LETTERS.name
    payments: str = PAYMENTS.name

    @classmethod
    def behind(cls, prefix: str) -> "TopicNames":
        """The usual names with `prefix` before each."""
        return cls(*(prefix + topic.name for topic in (EVENTS, COMMANDS, ACCOUNTS, LEDGER, DEAD_LETTERS, PAYMENTS)))


@dataclass(frozen=True, slots=True)
class LateUsage:
    """A usage that was appended after its reservation had lapsed: its money may have been spent a second time."""

    team_id: str
    event_id: str
    late_ms: int


class Projects(Protocol):
    """What is told to the projection (`kite_common.projection.redis.AccountProjector`). Must not block."""

    def restored(self, partition: int, accounts: Mapping[str, AccountSnapshot], position: Position) -> None: ...

    def applied(
        self, partition: int, accounts: Mapping[str, AccountSnapshot], settled: Sequence[Settled],
        outcomes: Sequence[CommandOutcome], position: Position, charges: Charges | None,
    ) -> None: ...  # fmt: skip

    def released(self, partition: int) -> None: ...


class BillingProcessor:
    """`kite_common.stream.transaction.Processor` and `.Ticker` of account snapshots, one state per team.

    `payment_partitions`: how many partitions kite.payments has.
    """

    def __init__(
        self, rules: Rules, projector: Projects, clock: Clock, metrics: Metrics, topics: TopicNames | None = None,
        payment_partitions: int = 1,
    ) -> None:  # fmt: skip
        self._rules, self._projector, self._clock = rules, projector, clock
        self._topics, self._payment_partitions = topics or TopicNames(), payment_partitions
        self._block_ends: dict[int, BlockEnds] = {}
        self._notices = metrics.counter("kite_billing_notices_total")
        self._records = metrics.counter("kite_billing_records_total")
        self._late = metrics.counter("kite_billing_usages_late_total")
        self._dead_letters = metrics.counter("kite_dead_letters_total").labels(service=_SERVICE)
        self._stream_times_ms: dict[int, int] = {}
        self._stream_time_age = metrics.gauge("kite_billing_stream_time_age_seconds")

    def decode_state(self, record: Input) -> tuple[str, AccountSnapshot]:
        """The account of a record of kite.accounts, under its team. Raises Malformed."""
        account = decode_as(AccountSnapshot, record.value)
        return account.team_id, account

    def encode_state(self, key: str, state: AccountSnapshot) -> Record:  # noqa: ARG002 - the account names its team
        """The record of an account."""
        return encode(state)

    def step(
        self, partition: int, inputs: Sequence[Input], states: Mapping[str, AccountSnapshot], applied: int
    ) -> Step[AccountSnapshot]:
        """What these inputs make of the accounts: pure, the same for the same arguments."""
        work = _StepWork(self._rules, self._topics, self._payment_partitions, states, Place(partition, applied))
        for one in inputs:
            if one.topic == self._topics.commands:
                work.command(one)
        for one in inputs:
            if one.topic == self._topics.events and is_usage(one):
                work.usage(one)
        step = work.step()
        if step.elsewhere:
            faults.reached(LEDGER_DECIDING)
        return step

    def tick(self, partition: int, states: Mapping[str, AccountSnapshot], at_ms: int, applied: int) -> Step[AccountSnapshot]:
        """What time alone has changed by `at_ms`: quotas that have ended for teams that were told they were used up."""
        ended = self._block_ends[partition].ended(at_ms)
        if not ended:
            return Step()
        found = end_blocks(ended, states, at_ms, applied, self._rules.catalog)
        notices = [notice for one in found for notice in one.notices]
        return Step(
            {one.account.team_id: one.account for one in found}, [(self._topics.events, notice.record()) for notice in notices],
            tuple(notices),
        )  # fmt: skip

    def restored(self, partition: int, states: Mapping[str, AccountSnapshot], position: Position) -> None:
        """The partition is ours and its accounts are these."""
        self._block_ends[partition] = BlockEnds(states.values())
        self._projector.restored(partition, states, position)
        # Not known yet: then it is as old as the taking over. The age is that of the moment it is asked for, also if nothing moves.
        self._stream_times_ms[partition] = position.stream_time_ms or self._clock.unix_ms()
        self._stream_time_age.labels(partition=str(partition)).set_function(lambda: self._age_s(partition))

    def committed(self, partition: int, step: Step[AccountSnapshot], position: Position) -> None:
        """The step is durable: tell the projection and the metrics."""
        if step.elsewhere:
            faults.reached(LEDGER_COMMITTED)
        settled = [effect for effect in step.effects if isinstance(effect, Settled)]
        outcomes = [effect for effect in step.effects if isinstance(effect, CommandOutcome)]
        self._block_ends[partition].add(step.states.values())
        charges = next((effect for effect in step.effects if isinstance(effect, Charges)), None)
        self._projector.applied(partition, step.states, settled, outcomes, position, charges)
        for effect in step.effects:
            if isinstance(effect, SubscriptionNotice):
                self._notices.labels(kind=effect.kind).inc()
        self._records.labels(kind="usage").inc(len(settled))
        for late in (effect for effect in step.effects if isinstance(effect, LateUsage)):
            self._late.inc()
            log.error("billing.usage_late", team_id=late.team_id, event_id=late.event_id, late_ms=late.late_ms)
        self._records.labels(kind="command").inc(len(outcomes))
        self._dead_letters.inc(sum(topic == self._topics.dead_letters for topic, _ in step.records))
        if position.stream_time_ms:
            self._stream_times_ms[partition] = position.stream_time_ms

    def released(self, partition: int) -> None:
        """The partition is another's from now on."""
        self._block_ends.pop(partition, None)
        self._projector.released(partition)
        self._stream_time_age.remove(str(partition))
        self._stream_times_ms.pop(partition, None)

    def _age_s(self, partition: int) -> float:
        return max(0, self._clock.unix_ms() - self._stream_times_ms[partition]) / _MS


def is_usage(one: Input) -> bool:
    """Whether the record's header announces a usage; events are told apart without a look at their value."""
    return _USAGE in one.headers


def usage_of(one: Input) -> UsageRecorded:
    """The usage in a record whose header announces one. Raises Malformed, also for a usage that stands under another team's key."""
    usage = decode_as(UsageRecorded, one.value)
    if one.key != usage.team_id.encode():
        raise Malformed("usage: the key is not its team")
    return usage


def settled_of(usage: UsageRecorded) -> Settled:
    """What a charged usage frees in Redis."""
    return Settled(TeamId(usage.team_id), EventId(usage.event_id), usage.idempotency, usage.delivery_claim, usage.payment_claim)


def _command_of(one: Input) -> Command:
    command = decode(one.headers, one.value)
    if not isinstance(command, _COMMANDS):
        raise Malformed(f"{command.kind} is no command")
    if one.key != command.team_id.encode():
        raise Malformed(f"{command.kind}: the key is not its team")
    if command.team_id != UNATTRIBUTED:
        parse_team_id(command.team_id)
    return command


class _StepWork:
    """One step while it is made: commands first, then usages."""

    def __init__(
        self, rules: Rules, topics: TopicNames, payment_partitions: int, states: Mapping[str, AccountSnapshot], place: Place
    ) -> None:
        self._rules, self._topics, self._states, self._place = rules, topics, states, place
        self._payment_partitions = payment_partitions
        self._changed: dict[str, AccountSnapshot] = {}
        self._charge = ChargeUsage(self._account, rules.catalog)
        self._records: list[tuple[str, Record]] = []
        self._effects: list[object] = []
        self._elsewhere: list[tuple[str, int, Record]] = []
        # Inputs come in log order: the first that is charged has waited longest.
        self._charged, self._oldest_ms = 0, 0

    def command(self, one: Input) -> None:
        try:
            command = _command_of(one)
        except Malformed as error:
            self._bury(one, str(error))
            return
        before = self._account(command.team_id)
        place = Place(self._place.partition, self._place.applied, one.offset + 1)
        ran = run_command(before, command, one.timestamp_ms, place, self._rules)
        if ran.account is not None and ran.account is not before:
            self._changed[command.team_id] = ran.account
        self._records += [(self._topics.ledger, encode(entry)) for entry in ran.entries]
        self._effects.append(ran.outcome)
        self._tell(ran.notices)
        if ran.credited is not None:
            self._answer(ran.credited)

    def usage(self, one: Input) -> None:
        try:
            usage = usage_of(one)
        except Malformed as error:
            self._bury(one, str(error))
            return
        entry = self._charge(usage, one.timestamp_ms)
        if entry is None:
            self._bury(one, "usage of a team without an account")
            return
        self._records.append((self._topics.ledger, encode(entry)))
        self._effects.append(settled_of(usage))
        self._charged, self._oldest_ms = self._charged + 1, self._oldest_ms or one.timestamp_ms
        late_ms = one.timestamp_ms - usage.reserved_at - LAPSE_MS
        if late_ms > 0:
            self._effects.append(LateUsage(usage.team_id, usage.event_id, late_ms))

    def step(self) -> Step[AccountSnapshot]:
        self._tell(self._charge.notices())
        if self._charged:
            self._effects.append(Charges(self._charged, self._oldest_ms))
        states = self._changed | self._charge.accounts(self._place.applied)
        return Step(states, tuple(self._records), tuple(self._effects), tuple(self._elsewhere))

    def _account(self, team_id: str) -> AccountSnapshot | None:
        return self._changed.get(team_id) or self._states.get(team_id)

    def _tell(self, notices: Sequence[SubscriptionNotice]) -> None:
        """Into the team's own stream: its records are of this partition, like everything about the team."""
        self._records += [(self._topics.events, notice.record()) for notice in notices]
        self._effects += notices

    def _answer(self, credited: CreditApplied) -> None:
        partition = payment_partition(credited.payment_key, self._payment_partitions)
        self._elsewhere.append((self._topics.payments, partition, encode(credited)))

    def _bury(self, one: Input, reason: str) -> None:
        self._records.append((self._topics.dead_letters, encode(dead_letter(one, reason))))


def dead_letter(one: Input, reason: str) -> DeadLetter:
    """The dead letter of an input; its time is that of the record, so that a step stays pure."""
    return DeadLetter.of(_SERVICE, reason, (one.topic, one.partition, one.offset), one.timestamp_ms, one.key, one.value, one.headers)
