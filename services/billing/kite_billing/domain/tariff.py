"""What a plan grants and what a usage costs. Looks nothing up."""

from kite_common.events.accounts import Provider, Terms
from kite_common.events.usage import UsageRecorded
from kite_common.money import AtomicAmount
from kite_common.plans import Plan


def terms_of(plan: Plan) -> Terms:
    """The limits and prices of a plan, as they are frozen into a subscription for one period."""
    return Terms(
        requests_per_minute=plan.requests_per_minute,
        events_per_month=plan.events_per_month,
        events_per_day=plan.events_per_day,
        active_sources_limit=plan.active_sources_limit,
        max_payload_bytes=plan.max_payload_bytes,
        price_atomic_monthly=plan.price_atomic_monthly,
        price_atomic_per_event=plan.price_atomic_per_event,
        price_atomic_per_replayed_event=plan.price_atomic_per_replayed_event,
    )


def price(usage: UsageRecorded) -> AtomicAmount:
    """What a usage costs, whole quantity: the price fixed at admission.

    Never recomputed from today's terms: this amount is what the wallet was reserved for and what the caller's 202 named. It is zero on
    flat plans.
    """
    return AtomicAmount(usage.price_atomic)


def counted(usage: UsageRecorded) -> int:
    """How much a usage adds to the quotas: accepted events count, pages read again do not (wire contract, section 2.4)."""
    return 0 if usage.usage_kind == "replay" else usage.quantity


def costs_money(plan: Plan) -> bool:
    """Whether anything on this plan has a price."""
    return plan.price_atomic_monthly > 0 or plan.price_atomic_per_event > 0


def provider_allowed(plan: Plan, provider: Provider, clerk_paid_plans: bool) -> bool:
    """Provider clerk takes plans that cost money only where the deployment says so (wire contract, section 11.2)."""
    return provider == "x402" or clerk_paid_plans or not costs_money(plan)
