"""An account snapshot as the fields of kite:{team}:account. Pure."""

from kite_common.events.accounts import AccountSnapshot, Subscription
from kite_common.money import UNLIMITED
from kite_common.projection.keys import ACCOUNT_FIELDS, NO_SUBSCRIPTION


def account_fields(account: AccountSnapshot) -> list[str | int]:
    """Field, value, field, value, ... with `applied` first; every field of the contract, whether there is a subscription or not."""
    values = {
        "applied": account.applied, "used": account.period_used, "charged": account.period_charged_atomic, "day": account.day,
        "day_used": account.day_used, "balance": account.balance_atomic, "debt": account.debt_atomic, **_granted(account.subscription),
    }  # fmt: skip
    return [part for name in ACCOUNT_FIELDS for part in (name, values[name])]


def _granted(current: Subscription | None) -> dict[str, str | int]:
    if current is None:
        return {
            "status": NO_SUBSCRIPTION, "provider": "", "subscription": "", "plan_id": "", "plan_name": "", "rate_per_min": 0, "price": 0,
            "month_limit": 0, "day_limit": 0, "period_start": 0, "period_end": 0, "replay_price": 0, "max_payload": 0, "sources_limit": 0,
            "monthly": 0, "revision": 0,
        }  # fmt: skip
    terms = current.terms
    return {
        "status": current.status, "provider": current.provider, "subscription": current.id, "plan_id": current.plan_id,
        "plan_name": current.plan_name, "rate_per_min": terms.requests_per_minute or 0, "price": current.price_atomic_per_event,
        "month_limit": terms.events_per_month, "day_limit": terms.events_per_day, "period_start": current.period_start,
        "period_end": current.period_end, "replay_price": current.price_atomic_per_replayed_event,
        "max_payload": terms.max_payload_bytes, "monthly": terms.price_atomic_monthly, "revision": current.revision,
        "sources_limit": UNLIMITED if terms.active_sources_limit is None else terms.active_sources_limit,
    }  # fmt: skip
