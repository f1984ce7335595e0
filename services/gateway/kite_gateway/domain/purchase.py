"""What requests that are paid for may ask for: deposits and new teams. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from kite_common.ids import is_source

MIN_BOOTSTRAP_ATOMIC: Final = 1_000_000
DEFAULT_PLAN: Final = "starter"


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request that is bad itself: no payment is looked at."""

    code: Literal["invalid_source", "invalid_deposit", "invalid_amount", "plan_not_found"]
    message: str | None = None


@dataclass(frozen=True, slots=True)
class WantedTeam:
    """A new team: the name of its first hook endpoint, its first deposit, the name of its plan."""

    source: str
    deposit_atomic: int
    plan: str


def wanted_team(body: Mapping[str, Any], max_deposit_atomic: int) -> WantedTeam | BadRequest:
    """What POST /bootstrap/x402 asks for (payments specification, 6.1)."""
    source = body.get("source")
    if not isinstance(source, str) or not is_source(source.lower()):
        return BadRequest("invalid_source")
    deposit = body.get("deposit_atomic", MIN_BOOTSTRAP_ATOMIC)
    if not _is_whole(deposit) or not MIN_BOOTSTRAP_ATOMIC <= deposit <= max_deposit_atomic:
        return BadRequest("invalid_deposit", f"deposit_atomic must be an integer from {MIN_BOOTSTRAP_ATOMIC} to {max_deposit_atomic}.")
    plan = body.get("plan", DEFAULT_PLAN)
    if not isinstance(plan, str):
        return BadRequest("plan_not_found")
    return WantedTeam(source.lower(), deposit, plan)


def wanted_deposit(body: Mapping[str, Any], max_deposit_atomic: int) -> int | BadRequest:
    """What POST /wallet/invoices asks for: `amount_atomic` or its legacy alias; both may stand there if they agree."""
    given = [body[name] for name in ("amount_atomic", "amount_sats") if name in body]
    if not given or any(not _is_whole(amount) for amount in given):
        return BadRequest("invalid_amount", "amount_atomic must be an integer.")
    if len(set(given)) > 1:
        return BadRequest("invalid_amount", "amount_atomic and amount_sats differ.")
    amount: int = given[0]
    if not 0 < amount <= max_deposit_atomic:
        return BadRequest("invalid_amount", f"amount_atomic must be from 1 to {max_deposit_atomic}.")
    return amount


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
