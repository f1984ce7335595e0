"""One fact at one payment key while it is decided: what is known, and what comes of it so far. Decides nothing itself."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kite_billing.domain.payments.breaker import Breaker
from kite_billing.domain.payments.credit import Draw, Order
from kite_billing.domain.payments.events import PaymentEvent
from kite_billing.domain.payments.evolve import evolve
from kite_billing.domain.payments.facts import Effect, Look
from kite_billing.domain.payments.flight import Flight
from kite_billing.domain.payments.rules import Rules, question_of
from kite_common.events.payment_record import PaymentRecord
from kite_common.events.payments import PaymentOutcome, PaymentSubmitted


@dataclass(frozen=True, slots=True)
class Context:
    """What is known beside the key. `now` in milliseconds; `head`: the newest block seen; `fit`: chain and facilitator are what they should
    be; `running`: keys of the payer and of the process being worked on; `unresolved`: keys of the process whose money may have moved."""

    rules: Rules
    now: int
    breaker: Breaker
    draw: Draw
    head: int = 0
    fit: bool = True
    running_of_payer: int = 0
    running_of_process: int = 0
    unresolved: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What a fact leads to. `flight` and `breaker` are how they are from now on; effects begin after the events are durable; `alerts` are
    kinds of what an operator must look at."""

    events: tuple[PaymentEvent, ...]
    record: PaymentRecord | None
    flight: Flight | None
    breaker: Breaker
    effects: tuple[Effect, ...] = ()
    orders: tuple[Order, ...] = ()
    outcomes: tuple[PaymentOutcome, ...] = ()
    removed: bool = False
    alerts: tuple[str, ...] = ()


@dataclass(slots=True)
class Case:
    """A decision in the making."""

    key: str
    record: PaymentRecord | None
    flight: Flight
    context: Context
    breaker: Breaker
    events: list[PaymentEvent] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    outcomes: list[PaymentOutcome] = field(default_factory=list)
    removed: bool = False
    alerts: list[str] = field(default_factory=list)

    @property
    def now(self) -> int:
        return self.context.now

    @property
    def rules(self) -> Rules:
        return self.context.rules

    def known(self) -> PaymentRecord:
        """The record. Raises ValueError if there is none: a defect."""
        if self.record is None:
            raise ValueError("the key has no record")
        return self.record

    def note(self, event: PaymentEvent, *orders: Order) -> PaymentRecord:
        """An event happens, and commands go out with it; the record after it."""
        self.events.append(event)
        self.orders += orders
        self.record = evolve(self.record, event, self.key)
        return self.record

    def be(self, **changes: object) -> None:
        """The flight from now on."""
        self.flight = replace(self.flight, **changes)  # type: ignore[arg-type]

    def look(self, hint: str | None = None) -> None:
        """Read the evidence, unless that is being done; `hint`: a transaction to look at first."""
        if not self.flight.looking:
            self.effects.append(Look(self.key, question_of(self.known(), self.rules, hint)))
            self.be(looking=True)

    def tell(self, outcome: PaymentOutcome) -> None:
        """One submission gets its outcome."""
        self.outcomes.append(outcome)

    def tell_waiters(self, outcome_of: Callable[[PaymentSubmitted], PaymentOutcome]) -> None:
        """All who wait get their outcome, and wait no more."""
        for one in (*self.flight.waiters, *self.flight.asking):
            self.tell(outcome_of(one))
        self.be(waiters=(), asking=(), unclear_since=0)

    def decision(self) -> Decision:
        """What came of it."""
        flight = None if self.removed or self.flight.is_empty else self.flight
        return Decision(
            tuple(self.events), self.record, flight, self.breaker, tuple(self.effects), tuple(self.orders), tuple(self.outcomes),
            self.removed, tuple(self.alerts),
        )  # fmt: skip
