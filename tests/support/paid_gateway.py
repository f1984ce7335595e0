"""The gateway's whole app over fakes with payments on: one team, one payer, and a billing that keeps one record a payment. No network."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx
from x402.http.utils import decode_payment_required_header, decode_payment_response_header
from x402.schemas import PaymentRequired, SettleResponse

from kite_common.clock import Clock, FrozenClock, from_unix_ms
from kite_common.errors import CODES
from kite_common.events.payments import Bootstrapped, PaymentOutcome, PaymentSubmitted
from kite_common.ids import KeyPrefix, TeamId
from kite_common.plans import shipped_catalog
from kite_common.runtime.metrics import Metrics
from kite_common.testing import make, payments
from kite_common.x402 import seal
from kite_common.x402.key import team_of
from kite_common.x402.terms import PaymentTerms
from kite_gateway.adapters.http.accounts import Accounts
from kite_gateway.adapters.http.app import Surface, create_app
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.public import Public
from kite_gateway.application.accept_message import AcceptMessage
from kite_gateway.application.change_subscription import ChangeSubscription
from kite_gateway.application.configure_webhook import ConfigureWebhook
from kite_gateway.application.open_hook import OpenHook
from kite_gateway.application.send_test_event import SendTestEvent
from kite_gateway.domain.access import Principal
from kite_gateway.domain.hooks.credentials import Endpoint
from kite_gateway.testing import (
    Account,
    CountingIds,
    FakeBilling,
    FakeClientRateLimits,
    FakeCredentials,
    FakeDeliveryCommands,
    FakeHooks,
    FakeMessageLog,
    FakeRateLimits,
    FakeReservations,
    FakeSeal,
    FakeWebhookConfigs,
    standing,
)
from support.paid_routes import FakeArrivals, FakePayments, ingest_of, paid_routes

TEAM: Final = TeamId(make.TEAM)
OURS: Final = f"?team_id={TEAM}"
HOOK: Final = "my-bot"
BOOTSTRAP, INVOICES = "/api/v1/bootstrap/x402", "/api/v1/wallet/invoices"
WRITER, READER = {"Authorization": "Bearer writer"}, {"Authorization": "Bearer reader"}
WANTED: Final = {"source": "my-bot", "deposit_atomic": 1_000_000, "plan": "starter"}
DEPOSIT: Final = {"amount_atomic": 1_000_000}
CREDENTIALS: Final = seal.Credentials("kite_0a1b2c3d_" + "4e" * 16, "khk_5f6a7b8c_" + "9d" * 16)
SEAL_NONCE: Final = b"n" * 12
# What the team has before anything is paid.
BALANCE: Final = 995_900


@dataclass(slots=True)
class OneCreditEach:
    """A billing that credits each payment once: a repeat gets the first outcome, another request a conflict, a new one its `if_new`."""

    terms: PaymentTerms
    shows_credentials: bool = True
    # Wallets that messages are admitted over: a top-up is there as soon as it is credited.
    wallets: FakeReservations | None = None
    credits: dict[str, PaymentOutcome] = field(default_factory=dict)
    _fingerprints: dict[str, str] = field(default_factory=dict)

    def __call__(self, submitted: PaymentSubmitted) -> PaymentOutcome:
        key, known = submitted.payment_key, self.credits.get(submitted.payment_key)
        if known is not None:
            if self._fingerprints[key] != submitted.fingerprint:
                return outcome_of(submitted, result="conflict", code="payment_already_used", transaction=payments.TRANSACTION)
            return self._shown(known.model_copy(update={"submission_id": submitted.submission_id}))
        if submitted.if_new is not None:
            told = submitted.if_new
            return outcome_of(submitted, result="refused", status=told.status, code=told.code, reason=told.reason)
        self.credits[key], self._fingerprints[key] = self._credited(submitted), submitted.fingerprint
        return self._shown(self.credits[key])

    def _credited(self, submitted: PaymentSubmitted) -> PaymentOutcome:
        is_new = submitted.purpose == "bootstrap"
        team_id = team_of(submitted.payment_key) if is_new else submitted.target.team_id
        amount = submitted.amount_atomic
        if submitted.purpose == "topup" and self.wallets is not None:
            account = self.wallets.accounts[TEAM]
            self.wallets.accounts[TEAM] = replace(account, balance=account.balance + amount)
        paid = payments.paid(payer=submitted.authorization.from_address, amount_atomic=amount)
        return outcome_of(
            submitted, paid=paid, team_id=team_id, target=submitted.target, amount_atomic=amount,
            balance_after_atomic=amount + (0 if is_new else BALANCE),
            bootstrapped=self._team(submitted, str(team_id)) if is_new else None,
        )  # fmt: skip

    def _team(self, submitted: PaymentSubmitted, team_id: str) -> Bootstrapped:
        sealed = seal.seal_credentials(self.terms.cipher_keys[0], submitted.payment_key, CREDENTIALS, SEAL_NONCE)
        return Bootstrapped(team_id=team_id, source=submitted.target.source or "", plan_id=submitted.target.plan_id or "", seal=sealed)

    def _shown(self, outcome: PaymentOutcome) -> PaymentOutcome:
        if self.shows_credentials or outcome.bootstrapped is None:
            return outcome
        return outcome.model_copy(update={"bootstrapped": outcome.bootstrapped.model_copy(update={"seal": None})})


def outcome_of(submitted: PaymentSubmitted, **given: Any) -> PaymentOutcome:
    """An outcome of this submission; `given` as for `payments.outcome`."""
    return payments.outcome(payment_key=submitted.payment_key, submission_id=submitted.submission_id, **given)


def always(**given: Any) -> Callable[[PaymentSubmitted], PaymentOutcome]:
    """A billing that answers everything with one outcome."""
    return lambda submitted: outcome_of(submitted, **given)


@dataclass
class PaidGateway:
    """The app, at NOW_MS unless it has a clock, over one team on starter; `terms` None: it takes no payments."""

    terms: PaymentTerms | None = field(default_factory=payments.terms)
    payments: FakePayments = field(default_factory=FakePayments)
    arrivals: FakeArrivals = field(default_factory=FakeArrivals)
    billing: FakeBilling = field(default_factory=lambda: FakeBilling({TEAM: standing()}))
    clients: FakeClientRateLimits = field(default_factory=FakeClientRateLimits)
    rate_limits: FakeRateLimits = field(default_factory=FakeRateLimits)
    reservations: FakeReservations = field(default_factory=lambda: FakeReservations({TEAM: Account()}, now_ms=make.NOW_MS))
    configs: FakeWebhookConfigs = field(default_factory=FakeWebhookConfigs)
    clock: Clock = field(default_factory=lambda: FrozenClock(from_unix_ms(make.NOW_MS)))

    def __post_init__(self) -> None:
        clock, ids, billing = self.clock, CountingIds(), self.billing
        holder = Principal(TEAM, KeyPrefix("01234567"), ("write",))
        holders = {"writer": holder, "reader": replace(holder, permissions=("read",))}
        paid = paid_routes(
            billing, clock, terms=self.terms, payments=self.payments, arrivals=self.arrivals, clients=self.clients,
        )  # fmt: skip
        self.app = create_app(Surface(
            bearer=Bearer(FakeCredentials(holders), self.rate_limits, clock),
            ingest=ingest_of(AcceptMessage(self.reservations, FakeMessageLog(), clock, ids), paid),
            open_hook=OpenHook(FakeHooks({(TEAM, HOOK): Endpoint()}, {(TEAM, HOOK, make.HOOK_TOKEN): "right"}), clock),
            configure_webhook=ConfigureWebhook(self.configs, FakeSeal(), clock, ids),
            send_test_event=SendTestEvent(self.configs, FakeDeliveryCommands(), clock, ids),
            accounts=Accounts(
                Public(self.clients), billing, ChangeSubscription(billing, billing, billing, clock), shipped_catalog(),
                x402=self.terms is not None,
            ),
            paid=paid, replay=None, readiness=lambda: [], metrics=Metrics(), random_bits=lambda bits: (1 << bits) // 3,
            public_url=None if self.terms is None else self.terms.public_url,
            signing_roots=(bytes(range(32)),),
        ))  # fmt: skip

    def start_anew(self) -> None:
        """Everything behind the app as it is at the beginning: building an app costs more than most tests."""
        self.payments.submitted.clear()
        if self.terms is not None:
            self.payments.answers = OneCreditEach(self.terms, wallets=self.reservations)
        self.arrivals.asked.clear()
        self.arrivals.arrives, self.rate_limits.used_up, self.clients.limit = True, False, FakeClientRateLimits().limit
        self.clients.seen.clear()
        self.reservations.accounts[TEAM] = Account()
        self.has()

    @property
    def submitted(self) -> list[PaymentSubmitted]:
        """What was handed to billing."""
        return self.payments.submitted

    def has(self, **given: Any) -> None:
        """The team stands like this."""
        self.billing.standings[TEAM] = standing(**given)

    def client(self) -> httpx.AsyncClient:
        """A caller."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url="http://kite")


def crediting(**given: Any) -> PaidGateway:
    """A gateway whose billing credits what may be credited."""
    terms = payments.terms()
    return PaidGateway(terms=terms, payments=FakePayments(OneCreditEach(terms, **given)))


def credits_of(gateway: PaidGateway) -> dict[str, PaymentOutcome]:
    """What its billing has credited, by payment key."""
    assert isinstance(gateway.payments.answers, OneCreditEach)
    return gateway.payments.answers.credits


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of an error, which has this status and code, and may be kept by nobody."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["error"]) == (status, code)
    assert code in CODES
    assert body["message"]
    assert answer.headers["cache-control"] == "private, no-store"
    return body


def offer_of(answer: httpx.Response) -> PaymentRequired:
    """The version 2 offer, as the official client reads it."""
    offer = decode_payment_required_header(answer.headers["payment-required"])
    assert isinstance(offer, PaymentRequired)
    return offer


def told(answer: httpx.Response) -> SettleResponse:
    """What the answer tells of the payment, as the official client reads it; both headers say the same."""
    assert answer.headers["payment-response"] == answer.headers["x-payment-response"]
    return decode_payment_response_header(answer.headers["payment-response"])


def quoted(answer: httpx.Response) -> str:
    """The quote id in an offer."""
    extra = offer_of(answer).accepts[0].extra
    assert extra is not None
    return str(extra["quoteId"])


def decoded(value: str) -> Any:
    """The JSON in a payment header."""
    return json.loads(base64.b64decode(value))
