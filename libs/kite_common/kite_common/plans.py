"""Subscription plans are data: the shape of `plans.toml` and how it is read. Reads no file by itself."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from kite_common.errors import ConfigurationError
from kite_common.ids import is_uuid
from kite_common.money import UNLIMITED

# What deployments that have renamed it get.
_WITHOUT_A_FREE_PLAN_PER_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan: limits per UTC day and per period, prices in atomic units; None = unlimited where a limit may be missing."""

    id: str
    name: str
    requests_per_minute: int | None
    events_per_month: int
    events_per_day: int
    active_sources_limit: int | None
    max_payload_bytes: int
    price_atomic_monthly: int
    price_atomic_per_event: int
    price_atomic_per_replayed_event: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """The plans of one deployment, in the order of the file."""

    plans: tuple[Plan, ...]

    def by_name(self, name: str) -> Plan | None:
        """The plan of that name, whatever its case."""
        return next((plan for plan in self.plans if plan.name == name.lower()), None)

    def by_id(self, plan_id: str) -> Plan | None:
        """The plan of that UUID, whatever its case."""
        return next((plan for plan in self.plans if plan.id == plan_id.lower()), None)

    @property
    def requests_per_minute_without_subscription(self) -> int | None:
        """The rate of teams without an active subscription, in every service: as on the plan free (wire contract, 2.4). None = no limit."""
        free = self.by_name("free")
        return _WITHOUT_A_FREE_PLAN_PER_MINUTE if free is None else free.requests_per_minute


@cache
def shipped_catalog() -> Catalog:
    """The plans that come with Kite."""
    return parse_catalog(resources.files(__package__).joinpath("plans.toml").read_text(encoding="utf-8"))


def parse_catalog(text: str) -> Catalog:
    """Read a `plans.toml`. Raises ConfigurationError that names every plan and field that is wrong."""
    try:
        tables = tomllib.loads(text).get("plan", [])
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([f"plans: not TOML: {error}"]) from error
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(["plans: plans are written as [[plan]] tables"])
    problems: list[str] = []
    plans = [_plan(table, problems) for table in tables]
    for field in ("id", "name"):
        values = [table.get(field) for table in tables]
        problems += [f"plans: {field} {value!r} stands twice" for value in sorted({str(v) for v in values if values.count(v) > 1})]
    if not plans:
        problems.append("plans: no [[plan]] in the file")
    if problems:
        raise ConfigurationError(problems)
    return Catalog(tuple(plan for plan in plans if plan is not None))


def _plan(table: Mapping[str, object], problems: list[str]) -> Plan | None:
    name = str(table.get("name", "?"))
    before = len(problems)
    if not is_uuid(str(table.get("id", ""))):
        problems.append(f"plan {name}: id must be a UUID")
    if name != name.lower():
        problems.append(f"plan {name}: name must be lower case")
    requests_per_minute = _limit(name, table, "requests_per_minute", problems)
    active_sources_limit = _limit(name, table, "active_sources_limit", problems)
    counts = {key: _count(name, table, key, problems) for key in ("events_per_month", "events_per_day")}
    prices = {key: _amount(name, table, key, problems) for key in (
        "max_payload_bytes", "price_atomic_monthly", "price_atomic_per_event", "price_atomic_per_replayed_event",
    )}
    if len(problems) > before:
        return None
    return Plan(
        id=str(table["id"]).lower(), name=name, requests_per_minute=requests_per_minute, active_sources_limit=active_sources_limit,
        **counts, **prices,
    )  # fmt: skip


def _limit(plan: str, table: Mapping[str, object], key: str, problems: list[str]) -> int | None:
    value = table.get(key)
    return None if value == "unlimited" else _amount(plan, table, key, problems)


def _count(plan: str, table: Mapping[str, object], key: str, problems: list[str]) -> int:
    return UNLIMITED if table.get(key) == "unlimited" else _amount(plan, table, key, problems)


def _amount(plan: str, table: Mapping[str, object], key: str, problems: list[str]) -> int:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= UNLIMITED:
        problems.append(f"plan {plan}: {key} must be an integer >= 0 (or, for limits, \"unlimited\")")
        return 0
    return value
