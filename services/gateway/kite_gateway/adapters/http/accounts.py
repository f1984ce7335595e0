"""GET /plans, GET and POST /subscription, GET /wallet, GET /usage: what a team may do and has. Wire schema here, no rules."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

from kite_common.clock import rfc3339
from kite_common.errors import ApiError, Unavailable
from kite_common.events.accounts import Provider
from kite_common.ids import TeamId, is_uuid
from kite_common.plans import Catalog, Plan
from kite_common.runtime.observe import get_logger
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.context import context_of
from kite_gateway.adapters.http.openapi import Operation
from kite_gateway.adapters.http.public import PUBLIC_CODES, Public
from kite_gateway.adapters.http.request import json_object, read_body
from kite_gateway.application.change_subscription import ChangeSubscription
from kite_gateway.application.ports import Standings
from kite_gateway.domain.standing import Standing
from kite_gateway.domain.subscription_change import NotChanged

log = get_logger("kite.gateway")

PLANS: Final = "/api/v1/plans"
SUBSCRIPTION: Final = "/api/v1/subscription"
WALLET: Final = "/api/v1/wallet"
USAGE: Final = "/api/v1/usage"

Count = Annotated[int, Field(ge=0)]
Limit = Annotated[int, Field(ge=0, description="9007199254740991 = unlimited")]
Time = Annotated[str, Field(description="RFC 3339 UTC.")]
Twin = Annotated[int, Field(ge=0, description="Legacy twin of the amount of the same name that ends in _atomic.")]


class PlanOut(BaseModel):
    """A plan: limits, and prices in the smallest unit of the asset."""

    id: str
    name: str
    events_per_month: Limit
    events_per_day: Limit
    max_payload_bytes: Count
    price_atomic_monthly: Count
    price_atomic_per_event: Count
    price_sats_monthly: Twin
    price_sats_per_event: Twin
    price_atomic_per_replayed_event: Count
    requests_per_minute: Annotated[int | None, Field(description="null = unlimited")]
    active_sources_limit: Annotated[int | None, Field(description="null = unlimited")]


class PlansOut(BaseModel):
    """The active plans."""

    plans: list[PlanOut]


class SubscriptionOut(BaseModel):
    """The team's subscription; counters include what is still being charged."""

    id: str
    plan_name: str
    provider: str
    status: Annotated[str, Field(description="`active`, or `past_due`: an outside payment failed, nothing is accepted.")]
    events_used: Count
    events_limit: Limit
    current_period_start: Time
    current_period_end: Time


class SubscriptionAndPlan(BaseModel):
    """The current subscription, and its plan."""

    subscription: SubscriptionOut
    plan: PlanOut


class SubscriptionIn(BaseModel):
    """The plan and provider a team wants."""

    plan_id: Annotated[str, Field(description="A UUID of GET /plans.")]
    provider: Annotated[Provider, Field(description="`x402`: each event is taken from the wallet; `clerk`: a flat plan, paid outside.")]


class SubscribedOut(BaseModel):
    """A subscription as it was created or switched."""

    id: str
    team_id: str
    plan_id: str
    provider: str
    status: str
    current_period_end: Time


class SubscribedAnswer(BaseModel):
    """What the team has now."""

    subscription: SubscribedOut


class WalletOut(BaseModel):
    """The wallet. `balance_atomic - reserved_atomic` is free to spend."""

    balance_atomic: Count
    reserved_atomic: Annotated[int, Field(ge=0, description="Held for events and pages that are not in the ledger yet.")]
    balance_sats: Twin
    reserved_sats: Twin
    debt_atomic: Annotated[int, Field(ge=0, description="What payments that left the chain have cost; the next deposits pay it first.")]


class UsageReport(BaseModel):
    """Usage of the current period; the wallet's fields stand only under provider x402."""

    events_used: Count
    events_limit: Limit
    events_remaining: Limit
    events_today: Annotated[int, Field(ge=0, description="Events of this UTC day.")]
    current_period_start: Time
    current_period_end: Time
    total_charged_atomic: Annotated[int, Field(ge=0, description="Events and replays of this period.")]
    total_charged_sats: Twin
    wallet_balance_atomic: Count = 0
    wallet_balance_sats: Twin = 0
    events_affordable: Annotated[int | None, Field(description="null: events cost nothing")] = None


_NO_SUBSCRIPTION_404: Final = {"no_active_subscription": 404}
OPERATIONS: Final = (
    Operation(
        "GET", PLANS, "The plans", "No API key is needed; 300 requests a minute from one address.", answer=PlansOut, codes=PUBLIC_CODES
    ),
    Operation(
        "GET", SUBSCRIPTION, "The current subscription", "The one that is not cancelled, with its plan.", permission="read",
        answer=SubscriptionAndPlan, codes=("no_active_subscription",), statuses=_NO_SUBSCRIPTION_404,
    ),
    Operation(
        "POST", SUBSCRIPTION, "Create or switch the subscription",
        "A switch holds at once, keeps period and counters and takes the new limits. What is already active is returned unchanged. "
        "The provider can be changed while nothing is reserved.",
        permission="write", request=SubscriptionIn, answer=SubscribedAnswer,
        codes=("invalid_plan_id", "invalid_provider", "plan_not_found", "subscription_conflict"),
    ),
    Operation(
        "GET", WALLET, "The wallet", "Only of x402 subscriptions.", permission="read", answer=WalletOut,
        codes=("no_active_subscription", "not_x402_subscription"), statuses=_NO_SUBSCRIPTION_404,
    ),
    Operation(
        "GET", USAGE, "Usage of the current period", "Agrees with the usage in every 202, at every moment.", permission="read",
        answer=UsageReport, codes=("no_active_subscription",), statuses=_NO_SUBSCRIPTION_404,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Accounts:
    """What these routes are made of. `x402`: the server takes x402 payments."""

    public: Public
    standings: Standings
    change: ChangeSubscription
    catalog: Catalog
    x402: bool = False


def add_routes(app: FastAPI, bearer: Bearer, accounts: Accounts) -> None:
    """The five routes. Bodies are read by hand: the order of checks is the wire contract's, not FastAPI's."""

    @app.get(PLANS, response_model=PlansOut)
    async def plans(request: Request) -> PlansOut:
        await accounts.public.take_token(request.scope)
        return PlansOut(plans=[_plan(plan) for plan in accounts.catalog.plans])

    @app.get(SUBSCRIPTION, response_model=SubscriptionAndPlan)
    async def subscription(request: Request) -> SubscriptionAndPlan:
        standing = await _standing_of(request, bearer, accounts)
        return SubscriptionAndPlan(subscription=_subscription(standing), plan=_plan(_plan_of(standing, accounts.catalog)))

    @app.post(SUBSCRIPTION, response_model=SubscribedAnswer)
    async def subscribe(request: Request) -> SubscribedAnswer:
        team_id = bearer.authorize(request.scope, "write")
        plan_id, provider = _wanted(json_object(await read_body(request.receive, context_of(request.scope))), x402=accounts.x402)
        await bearer.take_token(request.scope, team_id)
        plan = accounts.catalog.by_id(plan_id)
        if plan is None:
            raise ApiError("plan_not_found")
        result = await accounts.change(team_id, plan.id, provider)
        if isinstance(result, NotChanged):
            raise ApiError(result.code, result.message)
        log.info(
            "subscription.is", team_id=team_id, plan=result.plan_name, provider=result.provider, status=result.status,
            request_id=context_of(request.scope).request_id,
        )  # fmt: skip
        return SubscribedAnswer(subscription=_subscribed(team_id, result))

    @app.get(WALLET, response_model=WalletOut)
    async def wallet(request: Request) -> WalletOut:
        standing = await _standing_of(request, bearer, accounts)
        if standing.provider != "x402":
            raise ApiError("not_x402_subscription")
        return WalletOut(
            balance_atomic=standing.balance_atomic, reserved_atomic=standing.reserved_atomic, balance_sats=standing.balance_atomic,
            reserved_sats=standing.reserved_atomic, debt_atomic=standing.debt_atomic,
        )  # fmt: skip

    @app.get(USAGE, response_model=UsageReport, response_model_exclude_unset=True)
    async def usage(request: Request) -> UsageReport:
        return _usage(await _standing_of(request, bearer, accounts))


async def _standing_of(request: Request, bearer: Bearer, accounts: Accounts) -> Standing:
    """The team behind a read key, with its subscription; 404 if it has none."""
    team_id = bearer.authorize(request.scope, "read")
    await bearer.take_token(request.scope, team_id)
    standing = await accounts.standings.of(team_id)
    if standing is None:
        raise Unavailable("the account is not projected")
    if not standing.has_subscription:
        raise ApiError("no_active_subscription", other_status=404)
    return standing


def _wanted(body: dict[str, Any], *, x402: bool) -> tuple[str, Provider]:
    plan_id, provider = body.get("plan_id"), body.get("provider")
    if not isinstance(plan_id, str) or not is_uuid(plan_id):
        raise ApiError("invalid_plan_id")
    if provider == "x402":
        if not x402:
            raise ApiError("invalid_provider", "This server takes no x402 payments.")
        return plan_id, "x402"
    if provider == "clerk":
        return plan_id, "clerk"
    raise ApiError("invalid_provider", "provider must be x402 or clerk.")


def _plan(plan: Plan) -> PlanOut:
    return PlanOut(
        id=plan.id, name=plan.name, events_per_month=plan.events_per_month, events_per_day=plan.events_per_day,
        max_payload_bytes=plan.max_payload_bytes, price_atomic_monthly=plan.price_atomic_monthly,
        price_atomic_per_event=plan.price_atomic_per_event, price_sats_monthly=plan.price_atomic_monthly,
        price_sats_per_event=plan.price_atomic_per_event, price_atomic_per_replayed_event=plan.price_atomic_per_replayed_event,
        requests_per_minute=plan.requests_per_minute, active_sources_limit=plan.active_sources_limit,
    )  # fmt: skip


def _plan_of(standing: Standing, catalog: Catalog) -> Plan:
    """The plan as GET /plans has it; one that has left the catalog as it holds for the team."""
    plan, terms = catalog.by_id(standing.plan_id), standing.terms
    if plan is not None:
        return plan
    if terms is None:
        raise Unavailable("the account was projected by an older billing")
    return Plan(
        id=standing.plan_id, name=standing.plan_name, requests_per_minute=standing.requests_per_minute or None,
        events_per_month=standing.events_limit, events_per_day=standing.day_limit, active_sources_limit=terms.active_sources_limit,
        max_payload_bytes=terms.max_payload_bytes, price_atomic_monthly=terms.price_atomic_monthly,
        price_atomic_per_event=standing.price_atomic, price_atomic_per_replayed_event=terms.price_atomic_per_replayed_event,
    )  # fmt: skip


def _subscription(standing: Standing) -> SubscriptionOut:
    start, end = standing.period
    return SubscriptionOut(
        id=standing.subscription_id, plan_name=standing.plan_name, provider=standing.provider, status=standing.status,
        events_used=standing.events_used, events_limit=standing.events_limit, current_period_start=rfc3339(start),
        current_period_end=rfc3339(end),
    )  # fmt: skip


def _subscribed(team_id: TeamId, standing: Standing) -> SubscribedOut:
    return SubscribedOut(
        id=standing.subscription_id, team_id=team_id, plan_id=standing.plan_id, provider=standing.provider, status=standing.status,
        current_period_end=rfc3339(standing.period[1]),
    )  # fmt: skip


def _usage(standing: Standing) -> UsageReport:
    start, end = standing.period
    wallet: dict[str, Any] = {}
    if standing.provider == "x402":
        balance = standing.balance_atomic
        wallet = {"wallet_balance_atomic": balance, "wallet_balance_sats": balance, "events_affordable": standing.events_affordable}
    return UsageReport(
        events_used=standing.events_used, events_limit=standing.events_limit, events_remaining=standing.events_remaining,
        events_today=standing.events_today, current_period_start=rfc3339(start), current_period_end=rfc3339(end),
        total_charged_atomic=standing.charged_atomic, total_charged_sats=standing.charged_atomic, **wallet,
    )  # fmt: skip
