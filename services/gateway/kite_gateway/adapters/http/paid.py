"""POST /bootstrap/x402 and POST /wallet/invoices: new teams and deposits, paid with x402. Wire schema here, no rules."""

from dataclasses import dataclass, replace
from typing import Annotated, Final, TypeVar

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Scope

from kite_common.errors import ApiError, Malformed, Unavailable
from kite_common.events.payments import Alternative, PaymentOutcome, Target
from kite_common.ids import TeamId
from kite_common.plans import Catalog
from kite_common.runtime.observe import get_logger
from kite_common.x402 import seal
from kite_common.x402.answers import success_headers
from kite_common.x402.key import payment_id
from kite_common.x402.networks import checksum
from kite_common.x402.offers import Purchase, RequestFacts
from kite_common.x402.terms import PaymentTerms
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.context import context_of
from kite_gateway.adapters.http.openapi import Operation, Parameter
from kite_gateway.adapters.http.public import PUBLIC_CODES, Public
from kite_gateway.adapters.http.request import STRANGERS_S, json_object, read_body
from kite_gateway.application.checkout import Checkout
from kite_gateway.application.ports import Arrivals, Standings
from kite_gateway.domain.purchase import MIN_BOOTSTRAP_ATOMIC, BadRequest, WantedTeam, wanted_deposit, wanted_team

WantedT = TypeVar("WantedT")
log = get_logger("kite.gateway")

BOOTSTRAP: Final = "/api/v1/bootstrap/x402"
INVOICES: Final = "/api/v1/wallet/invoices"
# How long an answer waits until what was paid for can be used here; the payment is credited already, so afterwards it goes out anyway.
_ARRIVAL_S: Final = 2.0

PAYMENT_CODES: Final = (
    "invalid_payment_header", "payment_required", "invalid_payment", "payment_already_used", "idempotency_key_reused",
    "settlement_pending", "facilitator_unavailable", "x402_unconfigured", "invalid_idempotency_key",
)  # fmt: skip
PAYMENT_PARAMETERS: Final = (
    Parameter(
        "payment-signature", "header",
        "An x402 payment, base64 of its JSON (version 2, or 1); `x-payment` and `x-payment-signature` mean the same.",
        schema={"type": "string", "maxLength": 16384},
    ),
)  # fmt: skip

_PURCHASE_ID: Final = Parameter(
    "Idempotency-Key", "header",
    "Names this purchase: for 24 hours a payment that is signed anew under the same key is not taken, its caller gets the first one's "
    "outcome; the same key for another request is 409. From 16 characters on it also proves who asks for a new team's credentials again.",
    schema={"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
)  # fmt: skip


class BootstrapIn(BaseModel):
    """The team somebody wants, and what it begins with."""

    source: Annotated[str, Field(description="Name of the first hook endpoint: 1 to 64 of a-z, 0-9 and hyphen; lower-cased.")]
    deposit_atomic: Annotated[int, Field(ge=MIN_BOOTSTRAP_ATOMIC, description="The first deposit; 1000000 = 1 USDC.")] = (
        MIN_BOOTSTRAP_ATOMIC
    )
    plan: Annotated[str, Field(description="Name of an active plan.")] = "starter"


class BootstrapOut(BaseModel):
    """A team that was paid for. The credentials are null, and `credentials_available` false, once nobody is shown them any more."""

    team_id: str
    source: str
    api_key: str | None
    endpoint: str
    endpoint_with_token: str | None
    hook_token: str | None
    wallet_balance_atomic: Annotated[int, Field(ge=0, description="The deposit.")]
    network: Annotated[str, Field(description="CAIP-2 id of the chain.")]
    asset: Annotated[str, Field(description="Address of the token.")]
    credentials_available: bool


class InvoiceIn(BaseModel):
    """A deposit. `amount_sats` is a legacy alias."""

    amount_atomic: Annotated[int, Field(gt=0, description="1000000 = 1 USDC.")]
    amount_sats: Annotated[int | None, Field(gt=0, description="Legacy alias of amount_atomic; both must agree.")] = None


class InvoiceOut(BaseModel):
    """A deposit that was credited; `balance_atomic` is the balance right after it."""

    balance_atomic: Annotated[int, Field(ge=0)]
    amount_deposited_atomic: Annotated[int, Field(ge=0)]
    balance_sats: Annotated[int, Field(ge=0, description="Legacy twin.")]
    amount_deposited_sats: Annotated[int, Field(ge=0, description="Legacy twin.")]


OPERATIONS: Final = (
    Operation(
        "POST", BOOTSTRAP, "Create a team by paying",
        "Needs no API key; 300 requests a minute from one address. Without a payment the answer is 402 over `deposit_atomic`. The "
        "payment makes the team, an admin key, a hook endpoint, a subscription and the wallet, or nothing. The same payment and body "
        "again give the same answer; the credentials only within their window, to whoever resends the quote or a long Idempotency-Key.",
        request=BootstrapIn, answer=BootstrapOut, parameters=(*PAYMENT_PARAMETERS, _PURCHASE_ID), takes_payment=True,
        codes=(
            *PUBLIC_CODES, *PAYMENT_CODES, "invalid_source", "invalid_deposit", "plan_not_found", "bootstrap_in_progress",
            "bootstrap_unconfigured",
        ),
    ),
    Operation(
        "POST", INVOICES, "Deposit into the wallet", "Only of x402 subscriptions. Without a payment the answer is 402 over the amount.",
        permission="write", request=InvoiceIn, answer=InvoiceOut, parameters=(*PAYMENT_PARAMETERS, _PURCHASE_ID), takes_payment=True,
        codes=(*PAYMENT_CODES, "invalid_amount", "no_active_subscription", "not_x402_subscription"),
        statuses={"no_active_subscription": 404},
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Paid:
    """What these routes are made of."""

    public: Public
    checkout: Checkout
    standings: Standings
    arrivals: Arrivals
    catalog: Catalog


def add_routes(app: FastAPI, bearer: Bearer, paid: Paid) -> None:
    """Both routes. A bad request never costs money: everything else is checked before the payment is looked at."""

    @app.post(BOOTSTRAP, response_model=BootstrapOut)
    async def bootstrap(request: Request) -> Response:
        context_of(request.scope).keep_private()
        await paid.public.take_token(request.scope)
        terms = _terms_for_new_teams(paid.checkout)
        body = await read_body(request.receive, context_of(request.scope), timeout_s=STRANGERS_S)
        wanted = _checked(wanted_team(json_object(body), terms.max_deposit_atomic))
        outcome = await _charge(paid.checkout, facts_of(request.scope, body), *_team(wanted, paid.catalog))
        answer = _bootstrapped(outcome, terms)
        await paid.arrivals.of_team(TeamId(answer.team_id), answer.api_key, _ARRIVAL_S)
        _log("bootstrap.paid", request.scope, outcome, answer.team_id, credentials=answer.credentials_available)
        return _answered(request, answer, outcome)

    @app.post(INVOICES, response_model=InvoiceOut)
    async def invoice(request: Request) -> Response:
        team_id = bearer.authorize(request.scope, "write")
        terms = _terms(paid.checkout)
        body = await read_body(request.receive, context_of(request.scope))
        amount = _checked(wanted_deposit(json_object(body), terms.max_deposit_atomic))
        await bearer.take_token(request.scope, team_id)
        refusal = await _deposit_refusal(paid.standings, team_id)
        purchase = Purchase("deposit", amount, Target(team_id=team_id), "Kite wallet deposit")
        outcome = await _charge(paid.checkout, facts_of(request.scope, body), purchase, refusal)
        answer = _deposited(outcome)
        await paid.arrivals.of_account(team_id, outcome.applied, _ARRIVAL_S)
        _log("deposit.paid", request.scope, outcome, team_id)
        return _answered(request, answer, outcome)


def facts_of(scope: Scope, body: bytes, shown_path: bytes | None = None) -> RequestFacts:
    """The request as a payment is bound to it: byte for byte as received."""
    raw_path = bytes(scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    return RequestFacts(scope["method"], raw_path, scope["query_string"], body, headers, shown_path)


def _terms(checkout: Checkout) -> PaymentTerms:
    if checkout.terms is None:
        raise ApiError("x402_unconfigured")
    return checkout.terms


def _terms_for_new_teams(checkout: Checkout) -> PaymentTerms:
    terms = _terms(checkout)
    if not terms.cipher_keys:
        raise ApiError("bootstrap_unconfigured")
    return terms


def _checked(wanted: WantedT | BadRequest) -> WantedT:
    if isinstance(wanted, BadRequest):
        raise ApiError(wanted.code, wanted.message)
    return wanted


async def _charge(checkout: Checkout, request: RequestFacts, purchase: Purchase, refusal: ApiError | None) -> PaymentOutcome:
    """The credited payment of a purchase. What the route refuses is refused, but to those whose payment for it is known already."""
    if refusal is None:
        return await checkout.charge(request, purchase)
    if not checkout.shows_payment(request):
        raise refusal
    return await checkout.charge(request, replace(purchase, if_new=Alternative(status=refusal.status, code=refusal.code)))


def _team(wanted: WantedTeam, catalog: Catalog) -> tuple[Purchase, ApiError | None]:
    plan = catalog.by_name(wanted.plan)
    target = Target(source=wanted.source, plan_id=None if plan is None else plan.id)
    purchase = Purchase("bootstrap", wanted.deposit_atomic, target, "Kite team and wallet deposit")
    return purchase, None if plan is not None else ApiError("plan_not_found")


async def _deposit_refusal(standings: Standings, team_id: TeamId) -> ApiError | None:
    standing = await standings.of(team_id)
    if standing is None:
        raise Unavailable("the account is not projected")
    if not standing.has_subscription:
        return ApiError("no_active_subscription", other_status=404)
    return None if standing.provider == "x402" else ApiError("not_x402_subscription")


def _bootstrapped(outcome: PaymentOutcome, terms: PaymentTerms) -> BootstrapOut:
    """All of it comes from the outcome and the payment's key, so a repeat gets the same bytes, also after the settings have changed."""
    made = outcome.bootstrapped
    if made is None:
        raise Unavailable("an outcome of a bootstrap without its team")
    network, asset, *_ = outcome.payment_key.split("|")
    shown = _credentials(outcome.payment_key, made.seal, terms)
    endpoint = f"/hooks/{made.team_id}/{made.source}"
    return BootstrapOut(
        team_id=made.team_id, source=made.source, api_key=shown and shown.api_key, endpoint=endpoint,
        endpoint_with_token=shown and f"{endpoint}/{shown.hook_token}", hook_token=shown and shown.hook_token,
        wallet_balance_atomic=outcome.amount_atomic or 0, network=network, asset=checksum(asset), credentials_available=shown is not None,
    )  # fmt: skip


def _credentials(payment_key: str, sealed: str | None, terms: PaymentTerms) -> seal.Credentials | None:
    if sealed is None:
        return None
    try:
        return seal.open_credentials(terms.cipher_keys, payment_key, sealed)
    except Malformed:
        # The key they were sealed with is not configured here any more: nobody can be shown them.
        log.exception("bootstrap.seal_not_opened", payment=payment_id(payment_key))
        return None


def _deposited(outcome: PaymentOutcome) -> InvoiceOut:
    balance, amount = outcome.balance_after_atomic or 0, outcome.amount_atomic or 0
    return InvoiceOut(balance_atomic=balance, amount_deposited_atomic=amount, balance_sats=balance, amount_deposited_sats=amount)


def _answered(request: Request, answer: BaseModel, outcome: PaymentOutcome) -> Response:
    headers = context_of(request.scope).not_said_yet(success_headers(outcome))
    return Response(answer.model_dump_json(), headers=headers, media_type="application/json")


def _log(what: str, scope: Scope, outcome: PaymentOutcome, team_id: str, **fields: object) -> None:
    log.info(
        what, team_id=team_id, payment=payment_id(outcome.payment_key), amount_atomic=outcome.amount_atomic,
        transaction=outcome.paid.transaction if outcome.paid else None, request_id=context_of(scope).request_id, **fields,
    )  # fmt: skip
