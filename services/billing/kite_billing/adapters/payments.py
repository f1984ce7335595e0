"""Binds kite.payments to the state machine of payments: facts in, one transaction's records out; what it orders begins after the commit.

No rules, and no IO but through `PaymentWork`. The state of a key that nobody needs any more is kept as the bytes of its record.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from kite_billing.adapters.payment_faults import COMMITTED, DECIDING, OUTCOME_BEFORE, transitions_reached
from kite_billing.application.settle_payment import Decided, Desk, Shared
from kite_billing.domain.payments.credit import Draw, Order
from kite_billing.domain.payments.decide import Fact
from kite_billing.domain.payments.facts import DeepEnough, Due, Effect, EvidenceRead, HashChanged, Settle, SettleEnded, Verified, Verify
from kite_billing.domain.payments.rules import Rules
from kite_billing.domain.payments.scan import Scanned
from kite_common.clock import Clock
from kite_common.errors import Malformed
from kite_common.events import payments as inbox
from kite_common.events.codec import RECORD_HEADER, Record, decode, decode_as, encode
from kite_common.events.credentials import CredentialIssued
from kite_common.events.deliveries import DeadLetter
from kite_common.events.payment_record import PaymentRecord, ScanCursor
from kite_common.ids import parse_team_id
from kite_common.log_position import partition_of
from kite_common.runtime import faults
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import random_bytes
from kite_common.stream.input import Input
from kite_common.stream.local import LocalFacts
from kite_common.stream.transaction import Position, Step
from kite_common.topics import COMMANDS, CREDENTIALS, DEAD_LETTERS, PAYMENT_EVENTS, PAYMENT_STATES, PAYMENTS
from kite_common.x402.key import payment_id, payment_key, payment_partition

log = get_logger("kite.payments")

_INBOX: Final = (inbox.PaymentSubmitted, inbox.PaymentResult, inbox.CreditApplied, inbox.PaymentSeen, inbox.PaymentAssigned)
_LOCAL: Final = (Verified, SettleEnded, EvidenceRead, Due, HashChanged, DeepEnough)
_HEADERS: Final = ((RECORD_HEADER, PaymentRecord.kind.encode()),)

# A record, a scan cursor, or the bytes of a record that is at its end.
State = PaymentRecord | ScanCursor | bytes


@dataclass(frozen=True, slots=True)
class PaymentTopics:
    """The topics of one deployment; tests that share a broker put a prefix before them."""

    inbox: str = PAYMENTS.name
    events: str = PAYMENT_EVENTS.name
    states: str = PAYMENT_STATES.name
    commands: str = COMMANDS.name
    credentials: str = CREDENTIALS.name
    dead_letters: str = DEAD_LETTERS.name

    @classmethod
    def behind(cls, prefix: str) -> "PaymentTopics":
        """The usual names with `prefix` before each."""
        topics = (PAYMENTS, PAYMENT_EVENTS, PAYMENT_STATES, COMMANDS, CREDENTIALS, DEAD_LETTERS)
        return cls(*(prefix + topic.name for topic in topics))


class Works(Protocol):
    """Who does what was ordered, for one process. Nothing here blocks; facts come back through `LocalFacts`."""

    def owns(self, partition: int, desk: Desk, cursor: Callable[[str], ScanCursor | None]) -> None:
        """The partition is ours: keep its time, watch its blocks; on partition 0 scan. `cursor` gives the cursor of a key."""
        ...

    def begin(self, partition: int, effect: Effect, record: PaymentRecord) -> None:
        """Do what was ordered, now that the order is durable."""
        ...

    def tell(self, outcomes: Sequence[inbox.PaymentOutcome]) -> None:
        """Tell callers."""
        ...

    def releases(self, partition: int) -> None:
        """The partition is another's: drop everything that is being done for it."""
        ...


@dataclass(frozen=True, slots=True)
class _Told:
    """What is said of a step once it is durable."""

    decided: Decided


class PaymentsProcessor:
    """`kite_common.stream.transaction.LocalProcessor` of payment records."""

    def __init__(
        self, rules: Rules, shared: Shared, facts: LocalFacts, work: Works, partitions: int, clock: Clock, metrics: Metrics,
        topics: PaymentTopics | None = None,
    ) -> None:  # fmt: skip
        self._rules, self._shared, self._facts, self._work, self._clock = rules, shared, facts, work, clock
        self._partitions, self._topics, self._metrics = partitions, topics or PaymentTopics(), metrics
        self._desks: dict[int, Desk] = {}
        self._states: dict[int, Mapping[str, State]] = {}

    @property
    def facts(self) -> LocalFacts:
        return self._facts

    def decode_state(self, record: Input) -> tuple[str, State]:
        """The record or cursor of a record of the state topic, under its key. Raises Malformed."""
        fact = decode(record.headers, record.value)
        if isinstance(fact, PaymentRecord):
            return fact.payment_key, fact.to_json() if is_final(fact) else fact
        if isinstance(fact, ScanCursor):
            return fact.cursor_key, fact
        raise Malformed(f"{fact.kind} is no state of payments")

    def encode_state(self, key: str, state: State) -> Record:
        """The record of a state."""
        return Record(key.encode(), state, _HEADERS) if isinstance(state, bytes) else encode(state)

    def step(self, partition: int, inputs: Sequence[Input], states: Mapping[str, State], applied: int) -> Step[State]:
        """As `step_local`, without facts of the process."""
        return self.step_local(partition, inputs, (), states, applied)

    def step_local(
        self, partition: int, inputs: Sequence[Input], facts: Sequence[object], states: Mapping[str, State], applied: int  # noqa: ARG002
    ) -> Step[State]:
        """What inputs and facts make of the records. Takes time and random bytes from the system: it runs once for each of them."""
        work = _StepWork(self._desks[partition], self._topics, partition, self._partitions, self._clock.unix_ms())
        for one in inputs:
            work.input(one)
        for fact in facts:
            work.fact(fact, states)
        step = work.step()
        _reach(step, DECIDING)
        return step

    def restored(self, partition: int, states: Mapping[str, State], position: Position) -> None:  # noqa: ARG002
        """The partition is ours with these records."""
        desk = Desk(self._rules, self._shared, lambda key: record_of(states.get(key)))
        desk.open(_records(states), self._clock.unix_ms())
        self._desks[partition], self._states[partition] = desk, states
        self._work.owns(partition, desk, lambda key: _cursor(states.get(key)))

    def committed(self, partition: int, step: Step[State], position: Position) -> None:  # noqa: ARG002
        """The step is durable: begin what it ordered, tell who waits."""
        _reach(step, COMMITTED)
        states = self._states[partition]
        for told in step.effects:
            if isinstance(told, _Told):
                self._say(told.decided)
                self._begin(partition, told.decided, states)
        outcomes = [one for told in step.effects if isinstance(told, _Told) for one in told.decided.decision.outcomes]
        if outcomes:
            faults.reached(OUTCOME_BEFORE)
            self._work.tell(outcomes)
            self._measure(self._desks[partition], outcomes)

    def released(self, partition: int) -> None:
        """The partition is another's from now on."""
        self._work.releases(partition)
        self._states.pop(partition, None)
        desk = self._desks.pop(partition, None)
        if desk is not None:
            desk.close()

    def _begin(self, partition: int, decided: Decided, states: Mapping[str, State]) -> None:
        for effect in decided.decision.effects:
            record = record_of(states.get(effect.key))
            if record is not None and _still_wanted(effect, record):
                self._work.begin(partition, effect, record)

    def _measure(self, desk: Desk, outcomes: Sequence[inbox.PaymentOutcome]) -> None:
        now = self._clock.unix_ms()
        for one in outcomes:
            self._metrics.counter("kite_x402_outcomes_total").labels(result=one.result, reason=one.reason or one.code or "").inc()
            sent_at = desk.sent_at(one.submission_id)
            if sent_at is not None:
                self._metrics.histogram("kite_x402_wait_seconds").labels(result=one.result).observe(max(0, now - sent_at) / 1_000)

    def _say(self, decided: Decided) -> None:
        for step in decided.steps:
            self._metrics.counter("kite_x402_steps_total").labels(event=step.event).inc()
            log.info(
                f"payment.{step.event}", paymentId=payment_id(decided.key), before=step.before, reason=step.why, tx=step.transaction,
                team=step.team_id, amount_atomic=step.amount_atomic,
            )  # fmt: skip
            if step.event == "credited" and step.why is not None:
                # The money is in the wallet, and what it was to buy is not there.
                self._metrics.counter("kite_x402_alerts_total").labels(kind="work_refused").inc()
        for kind in decided.decision.alerts:
            self._metrics.counter("kite_x402_alerts_total").labels(kind=kind).inc()


class _StepWork:
    """One step while it is made."""

    def __init__(self, desk: Desk, topics: PaymentTopics, partition: int, partitions: int, now: int) -> None:
        self._desk, self._topics, self._partition, self._partitions, self._now = desk, topics, partition, partitions, now
        self._states: dict[str, State] = {}
        self._removed: set[str] = set()
        self._records: list[tuple[str, Record]] = []
        self._elsewhere: list[tuple[str, int, Record]] = []
        self._effects: list[_Told] = []
        desk.begin()

    def input(self, one: Input) -> None:
        """A record of the inbox; one that cannot be used goes to the dead letters."""
        try:
            fact = self._inbox_fact(one)
        except Malformed as error:
            letter = DeadLetter.of(
                "billing", str(error), (one.topic, one.partition, one.offset), one.timestamp_ms, one.key, one.value, one.headers
            )
            self._records.append((self._topics.dead_letters, encode(letter)))
            return
        self._take(fact)

    def fact(self, fact: object, states: Mapping[str, State]) -> None:
        """A fact of the process."""
        if isinstance(fact, Scanned):
            self._scanned(fact, states)
        elif isinstance(fact, _LOCAL):
            self._take(fact)

    def step(self) -> Step[State]:
        """What came of it."""
        return Step(self._states, tuple(self._records), tuple(self._effects), tuple(self._elsewhere), frozenset(self._removed))

    def _inbox_fact(self, one: Input) -> Fact:
        fact = decode(one.headers, one.value)
        if not isinstance(fact, _INBOX):
            raise Malformed(f"{fact.kind} is nothing for payments")
        if one.key != fact.payment_key.encode() or fact.payment_key.count("|") != 3:  # noqa: PLR2004 - network|asset|payer|nonce
            raise Malformed(f"{fact.kind}: the key is not its payment")
        if payment_partition(fact.payment_key, self._partitions) != self._partition:
            raise Malformed(f"{fact.kind}: another partition's payment")
        if isinstance(fact, inbox.PaymentAssigned):
            parse_team_id(fact.team_id)
        if isinstance(fact, inbox.PaymentSubmitted):
            self._checked(fact)
        return fact

    def _checked(self, submission: inbox.PaymentSubmitted) -> None:
        """What would lead a payment to another key or wallet than it says. Raises Malformed."""
        if payment_key(self._desk.rules.asset, submission.authorization) != submission.payment_key:
            raise Malformed("payment-submitted: the authorization has another key")
        if submission.purpose == "bootstrap":
            if submission.target.source is None or submission.target.plan_id is None:
                raise Malformed("payment-submitted: a bootstrap names source and plan")
        else:
            parse_team_id(submission.target.team_id or "")

    def _take(self, fact: Fact) -> None:
        draw = Draw(random_bytes(20), random_bytes(20), random_bytes(12))
        for decided in self._desk.take(fact, self._now, draw):
            self._write(decided)

    def _write(self, decided: Decided) -> None:
        decision, key = decided.decision, decided.key
        if decision.removed:
            self._states.pop(key, None)
            self._removed.add(key)
        elif decision.events and decision.record is not None:
            self._states[key] = decision.record.to_json() if is_final(decision.record) else decision.record
            self._removed.discard(key)
        self._records += [(self._topics.events, encode(step)) for step in decided.steps]
        self._elsewhere += [self._place_of(order) for order in decision.orders]
        if decision.effects or decision.outcomes or decided.steps or decision.alerts:
            self._effects.append(_Told(decided))

    def _place_of(self, order: Order) -> tuple[str, int, Record]:
        topic = self._topics.credentials if isinstance(order, CredentialIssued) else self._topics.commands
        return topic, partition_of(order.key.encode(), self._partitions), encode(order)

    def _scanned(self, scanned: Scanned, states: Mapping[str, State]) -> None:
        """Cursor and reports together; a range that does not follow the cursor was read for another one."""
        known = self._states.get(scanned.cursor.key) or states.get(scanned.cursor.key)
        if (known.block if isinstance(known, ScanCursor) else None) != scanned.after:
            return
        self._states[scanned.cursor.key] = scanned.cursor
        for seen in scanned.seen:
            self._elsewhere.append((self._topics.inbox, payment_partition(seen.payment_key, self._partitions), encode(seen)))


def is_final(record: PaymentRecord) -> bool:
    """Whether hardly anybody will ask for the record again: it costs less as bytes."""
    sealed = record.bootstrap is not None and record.bootstrap.seal is not None
    return record.state == "credited" and record.deep and not sealed


def _still_wanted(effect: Effect, record: PaymentRecord) -> bool:
    """Whether nothing in the same step has overtaken it."""
    match effect:
        case Settle():
            return record.state == "settling"
        case Verify():
            return record.state == "claimed"
        case _:
            return True


def record_of(state: State | None) -> PaymentRecord | None:
    """The record of a state, None for none and for a cursor."""
    if isinstance(state, bytes):
        return decode_as(PaymentRecord, state)
    return state if isinstance(state, PaymentRecord) else None


def _records(states: Mapping[str, State]) -> Iterator[PaymentRecord]:
    return (record for record in map(record_of, states.values()) if record is not None)


def _cursor(state: State | None) -> ScanCursor | None:
    return state if isinstance(state, ScanCursor) else None


def _reach(step: Step[State], when: str) -> None:
    """The points at which tests let the process die."""
    for told in step.effects:
        if isinstance(told, _Told):
            transitions_reached(told.decided.decision.events, when)
