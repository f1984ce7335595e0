"""One partition of payments while it is owned: brings facts to their keys, keeps what is in flight, and counts. No IO, no client types.

What is in flight is in memory only. A desk is as old as the ownership: whoever takes the partition over opens another one, and everything
that had been ordered but not answered is found again by its record, and asked of the chain.
"""

import heapq
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from kite_billing.domain.payments.breaker import Breaker
from kite_billing.domain.payments.case import Context, Decision
from kite_billing.domain.payments.credit import Draw
from kite_billing.domain.payments.decide import Fact, ForeignSubmission, decide
from kite_billing.domain.payments.events import PaymentEvent, told
from kite_billing.domain.payments.evolve import evolve
from kite_billing.domain.payments.facts import DeepEnough, Due, EvidenceRead, HashChanged, SettleEnded, Verified
from kite_billing.domain.payments.flight import Flight, is_new
from kite_billing.domain.payments.outcomes import conflict
from kite_billing.domain.payments.rules import Rules, paid_to
from kite_billing.domain.payments.submission import holds_id, would_start
from kite_billing.domain.payments.watch import is_watched, next_wake
from kite_common.events.payment_record import PaymentRecord, Place
from kite_common.events.payments import PaymentStep, PaymentSubmitted
from kite_common.ids import UNATTRIBUTED

_UNRESOLVED: Final = ("settling", "unknown")
# Submissions remembered, so that a record that stands in the inbox twice is answered once.
_REMEMBERED: Final = 4_096


@dataclass(slots=True)
class Shared:
    """What the partitions of a process share. `chain_fit`: the chain is what it should be, so evidence may be read; `fit`: the facilitator
    too, so payments may be taken; `head`: the newest block seen; `genesis`: the hash of block 0."""

    breaker: Breaker = field(default_factory=Breaker)
    running: int = 0
    unresolved: int = 0
    head: int = 0
    fit: bool = False
    chain_fit: bool = False
    genesis: str | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision at a key, and its events as the log tells them."""

    key: str
    decision: Decision
    steps: tuple[PaymentStep, ...]


class Desk:
    """`read` gives the record of a key as it is in memory, i.e. without the step that is being made."""

    def __init__(self, rules: Rules, shared: Shared, read: Callable[[str], PaymentRecord | None]) -> None:
        self.rules, self._shared, self._read = rules, shared, read
        self._flights: dict[str, Flight] = {}
        self._running_of: Counter[str] = Counter()
        self._ids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._wakes: list[tuple[int, str]] = []
        self._wake_of: dict[str, int] = {}
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._changed: dict[str, PaymentRecord | None] = {}
        self.states: Counter[str] = Counter()
        self.standing = 0
        self.unattributed = 0
        self.watched: dict[str, Place] = {}
        self.unknown_since: dict[str, int] = {}
        # Keys that stand in an account for a transfer for which another one does: a defect, never a payer's doing.
        self.doubled: set[str] = set()
        # Hash of a transfer -> hash of its key: there is one for every payment that ever stood, and 64 bits do for telling them apart.
        self._counted_for: dict[int, int] = {}

    def open(self, records: Iterable[PaymentRecord], now: int) -> None:
        """The records the partition was taken over with."""
        for record in records:
            self._count(record.payment_key, None, record, now)
            self._rearm(record.payment_key, record, now)

    def close(self) -> None:
        """The partition is another's: nothing of it runs here any more."""
        running = [key for key, flight in self._flights.items() if flight.is_running]
        self._shared.running -= len(running)
        self._shared.unresolved -= sum(self.states[state] for state in _UNRESOLVED)
        for key in running:
            self._shared.breaker = self._shared.breaker.dropped(key)
        self._flights.clear()

    def begin(self) -> None:
        """A new step: what the last one made is in memory by now."""
        self._changed.clear()

    def take(self, fact: Fact, now: int, draw: Draw) -> tuple[Decided, ...]:
        """What a fact leads to, in order; empty if it is a repeat of one that was taken."""
        if isinstance(fact, PaymentSubmitted):
            return self._submitted(fact, now, draw)
        return (self._decide(key_of(fact), fact, now, draw),)

    def due(self, now: int) -> list[Due]:
        """The keys whose time has come; each is told once."""
        found: list[Due] = []
        while self._wakes and self._wakes[0][0] <= now:
            at, key = heapq.heappop(self._wakes)
            if self._wake_of.get(key) == at:
                del self._wake_of[key]
                found.append(Due(key))
        return found

    def flight(self, key: str) -> Flight | None:
        """What is in flight at a key."""
        return self._flights.get(key)

    def sent_at(self, submission_id: str) -> int | None:
        """When a submission was sent, if it is still remembered."""
        return self._seen.get(submission_id)

    def remembered(self) -> tuple[int, int]:
        """How many payers and idempotency ids it keeps something of."""
        return len(self._running_of), len(self._ids)

    def record(self, key: str) -> PaymentRecord | None:
        """The record of a key, the step that is being made included."""
        return self._changed[key] if key in self._changed else self._read(key)

    def _submitted(self, submission: PaymentSubmitted, now: int, draw: Draw) -> tuple[Decided, ...]:
        if not self._is_first(submission):
            return ()
        key = submission.payment_key
        record, flight = self.record(key), self._flights.get(key)
        refused_if_new = submission.if_new is not None and is_new(record, flight)
        holder = self._holder(submission, now) if would_start(record, flight) and not refused_if_new else None
        if holder is None:
            return (self._decide(key, submission, now, draw),)
        if holder.binding is not None and holder.binding.fingerprint == submission.fingerprint:
            return (self._decide(holder.payment_key, ForeignSubmission(submission), now, draw),)
        told_ = conflict(holder, submission.submission_id, self.rules, "idempotency_key_reused")
        decision = Decision((), record, flight, self._shared.breaker, outcomes=(told_,))
        return (Decided(key, decision, ()),)

    def _holder(self, submission: PaymentSubmitted, now: int) -> PaymentRecord | None:
        """Another key of the payer that holds the idempotency id."""
        if submission.idempotency_hash is None:
            return None
        for key in sorted(self._ids.get((submission.authorization.from_address, submission.idempotency_hash), ())):
            record = self.record(key)
            if key != submission.payment_key and record is not None and holds_id(record, self._flights.get(key), now):
                return record
        return None

    def _decide(self, key: str, fact: Fact, now: int, draw: Draw) -> Decided:
        record, flight, shared = self.record(key), self._flights.get(key), self._shared
        context = Context(
            rules=self.rules, now=now, breaker=shared.breaker, draw=draw, head=shared.head, fit=shared.fit,
            running_of_payer=self._running_of[payer_of(key)], running_of_process=shared.running, unresolved=shared.unresolved,
        )  # fmt: skip
        decision = decide(key, record, flight, fact, context)
        self._fly(key, flight, decision.flight)
        shared.breaker = decision.breaker
        after = None if decision.removed else decision.record
        if decision.events or decision.removed:
            self._changed[key] = after
            self._count(key, record, after, now)
        self._rearm(key, after, now)
        return Decided(key, decision, steps_of(key, record, decision.events))

    def _fly(self, key: str, before: Flight | None, after: Flight | None) -> None:
        change = int(after is not None and after.is_running) - int(before is not None and before.is_running)
        self._shared.running += change
        self._running_of[payer_of(key)] += change
        if not self._running_of[payer_of(key)]:
            del self._running_of[payer_of(key)]
        if after is None:
            self._flights.pop(key, None)
        else:
            self._flights[key] = after

    def _rearm(self, key: str, record: PaymentRecord | None, now: int) -> None:
        at = next_wake(record, self._flights.get(key), now, self.rules)
        if at is None:
            self._wake_of.pop(key, None)
        elif self._wake_of.get(key) != at:
            self._wake_of[key] = at
            heapq.heappush(self._wakes, (at, key))

    def _count(self, key: str, before: PaymentRecord | None, after: PaymentRecord | None, now: int) -> None:
        """Keep sums and indexes equal to the records."""
        for record, sign in ((before, -1), (after, 1)):
            if record is None:
                continue
            self.states[record.state] += sign
            self._shared.unresolved += sign * (record.state in _UNRESOLVED)
            self._count_transfer(key, record, sign)
            if record.credited_to is not None:
                # The scanner counts what comes to the present address; what came to an earlier one is not in its sum.
                self.standing += sign * int(record.value) * (paid_to(record, self.rules) == self.rules.pay_to)
                self.unattributed += sign * int(record.value) * (record.credited_to == UNATTRIBUTED)
        if before is not None and before.idempotency_hash is not None:
            self._forget_id((before.payer, before.idempotency_hash), key)
        if after is not None and after.idempotency_hash is not None:
            self._ids[(after.payer, after.idempotency_hash)].add(key)
        self._follow(key, after, now)

    def _count_transfer(self, key: str, record: PaymentRecord, sign: int) -> None:
        """Whose each transfer is. One payer's keys are all in one partition, so no other desk can have the second one."""
        if record.credited_to is None or record.place is None:
            return
        transfer, owner = hash((record.place.transaction, record.place.log_index)), hash(key)
        if sign < 0:
            self.doubled.discard(key)
            if self._counted_for.get(transfer) == owner:
                del self._counted_for[transfer]
        elif self._counted_for.setdefault(transfer, owner) != owner:
            self.doubled.add(key)

    def _forget_id(self, held: tuple[str, str], key: str) -> None:
        self._ids[held].discard(key)
        if not self._ids[held]:
            del self._ids[held]

    def _follow(self, key: str, record: PaymentRecord | None, now: int) -> None:
        if record is not None and record.place is not None and is_watched(record):
            self.watched[key] = record.place
        else:
            self.watched.pop(key, None)
        if record is not None and record.state == "unknown":
            self.unknown_since.setdefault(key, record.last_call.began_at if record.last_call is not None else now)
        else:
            self.unknown_since.pop(key, None)

    def _is_first(self, submission: PaymentSubmitted) -> bool:
        if submission.submission_id in self._seen:
            return False
        self._seen[submission.submission_id] = submission.sent_at
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True


def payer_of(key: str) -> str:
    """The payer in a payment key."""
    return key.split("|")[2]


def key_of(fact: Fact) -> str:
    """The key a fact is about."""
    match fact:
        case Verified() | SettleEnded() | EvidenceRead() | Due() | HashChanged() | DeepEnough():
            return fact.key
        case ForeignSubmission():
            return fact.submission.payment_key
        case _:
            return fact.payment_key


def steps_of(key: str, before: PaymentRecord | None, events: Iterable[PaymentEvent]) -> tuple[PaymentStep, ...]:
    """The events as the log tells them: no signature, no secret."""
    steps: list[PaymentStep] = []
    record = before
    for event in events:
        name, why = told(event)
        state = None if record is None else record.state
        record = evolve(record, event, key)
        steps.append(
            PaymentStep(
                payment_key=key, seq=record.steps, event=name, before=state, at=event.at, why=why, team_id=record.credited_to,
                transaction=record.place.transaction if record.place is not None else record.hint,
                amount_atomic=min(int(record.value), (1 << 53) - 1),
            )  # fmt: skip
        )
    return tuple(steps)
