"""The gateway's paid routes over fakes: a billing that answers submissions as a test says. No network."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kite_common.clock import Clock
from kite_common.events.payments import PaymentOutcome, PaymentResult, PaymentSubmitted
from kite_common.ids import TeamId
from kite_common.plans import Catalog, shipped_catalog
from kite_common.x402.terms import PaymentTerms
from kite_gateway.adapters.http.ingest import Ingest
from kite_gateway.adapters.http.paid import Paid
from kite_gateway.adapters.http.public import Public
from kite_gateway.application.accept_message import AcceptMessage
from kite_gateway.application.accept_paid import AcceptPaid
from kite_gateway.application.checkout import Checkout, Submits
from kite_gateway.application.ports import PaymentResults, Standings
from kite_gateway.testing import FakeClientRateLimits


def not_expected(submitted: PaymentSubmitted) -> PaymentOutcome:
    """The answer of a billing that nobody should have asked."""
    raise AssertionError(f"a payment was handed in: {submitted.purpose}")


@dataclass(slots=True)
class FakePayments:
    """What billing makes of submissions: `answers` decides, `submitted` remembers."""

    answers: Callable[[PaymentSubmitted], PaymentOutcome] = not_expected
    submitted: list[PaymentSubmitted] = field(default_factory=list)

    async def submit(self, submitted: PaymentSubmitted) -> PaymentOutcome:
        self.submitted.append(submitted)
        return self.answers(submitted)


class ForgottenResults:
    """Nothing is kept."""

    async def keep(self, result: PaymentResult) -> None: ...


@dataclass(slots=True)
class FakeArrivals:
    """Everything has arrived, or, with `arrives` off, nothing does; `asked` remembers."""

    arrives: bool = True
    asked: list[tuple[TeamId, int | None]] = field(default_factory=list)

    async def of_account(self, team_id: TeamId, applied: int | None, timeout_s: float) -> bool:  # noqa: ARG002 - the port's signature
        self.asked.append((team_id, applied))
        return self.arrives

    async def of_team(self, team_id: TeamId, api_key: str | None, timeout_s: float) -> bool:  # noqa: ARG002 - the port's signature
        self.asked.append((team_id, None))
        return self.arrives


def ingest_of(accept: AcceptMessage, paid: Paid, results: PaymentResults | None = None) -> Ingest:
    """The way in for events beside these paid routes: payments go to the same checkout."""
    return Ingest(accept, AcceptPaid(accept, paid.arrivals, results or ForgottenResults()), paid.checkout)


def paid_routes(
    standings: Standings, clock: Clock, *, terms: PaymentTerms | None = None, payments: Submits | None = None,
    arrivals: FakeArrivals | None = None, catalog: Catalog | None = None, clients: FakeClientRateLimits | None = None,
) -> Paid:  # fmt: skip
    """The routes; without terms they take no payments."""
    checkout = Checkout(terms, payments or FakePayments(), clock, lambda count: bytes(range(count)))
    public = Public(clients or FakeClientRateLimits())
    return Paid(public, checkout, standings, arrivals or FakeArrivals(), catalog or shipped_catalog())
