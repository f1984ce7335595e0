"""Plans are data: the shipped ones, and files that are wrong."""

import pytest

from kite_common.errors import ConfigurationError
from kite_common.money import UNLIMITED
from kite_common.plans import parse_catalog, shipped_catalog

GOOD = """
[[plan]]
id = "6b1f3c1e-0000-4000-8000-0000000000AA"
name = "team"
requests_per_minute = "unlimited"
events_per_month = "unlimited"
events_per_day = 5
active_sources_limit = 0
max_payload_bytes = 1
price_atomic_monthly = 0
price_atomic_per_event = 2
price_atomic_per_replayed_event = 3
"""


@pytest.mark.parametrize(
    ("name", "row"),
    # Wire contract, 11.1.
    [
        ("free", (60, 10_000, 1_000, 3, 0, 0, 0)),
        ("starter", (300, 100_000, 10_000, 10, 5_000_000, 100, 10)),
        ("growth", (600, 1_000_000, 100_000, 25, 29_000_000, 80, 8)),
        ("pro", (1_000, 10_000_000, 1_000_000, 100, 99_000_000, 50, 5)),
        ("enterprise", (None, UNLIMITED, UNLIMITED, None, 499_000_000, 20, 2)),
    ],
)
def test_the_shipped_plans_are_those_of_the_wire_contract(name: str, row: tuple[int | None, ...]) -> None:
    plan = shipped_catalog().by_name(name)
    assert plan is not None
    assert plan.max_payload_bytes == 262_144
    assert row == (
        plan.requests_per_minute, plan.events_per_month, plan.events_per_day, plan.active_sources_limit, plan.price_atomic_monthly,
        plan.price_atomic_per_event, plan.price_atomic_per_replayed_event,
    )  # fmt: skip


def test_plans_are_found_whatever_the_case() -> None:
    catalog = shipped_catalog()
    starter = catalog.by_name("STARTER")
    assert starter is not None
    assert catalog.by_id(starter.id.upper()) is starter
    assert catalog.by_name("nope") is None
    assert catalog.by_id("nope") is None


def test_unlimited_counts_are_the_largest_integer_and_unlimited_limits_none() -> None:
    (plan,) = parse_catalog(GOOD).plans
    assert plan.id == "6b1f3c1e-0000-4000-8000-0000000000aa"
    assert (plan.events_per_month, plan.requests_per_minute, plan.active_sources_limit) == (UNLIMITED, None, 0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (('"6b1f3c1e-0000-4000-8000-0000000000AA"', '"17"'), "id must be a UUID"),
        (('"team"', '"Team"'), "lower case"),
        (("events_per_day = 5", "events_per_day = -1"), "events_per_day"),
        (("events_per_day = 5", "events_per_day = 1.5"), "events_per_day"),
        (("events_per_day = 5", "events_per_day = true"), "events_per_day"),
        (("events_per_day = 5", ""), "events_per_day"),
        (("price_atomic_per_event = 2", 'price_atomic_per_event = "unlimited"'), "price_atomic_per_event"),
        (("price_atomic_per_event = 2", "price_atomic_per_event = 9007199254740992"), "price_atomic_per_event"),
    ],
)
def test_a_wrong_field_is_named(change: tuple[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_catalog(GOOD.replace(*change))
    assert len(caught.value.problems) == 1
    assert named in caught.value.problems[0]


def test_all_problems_are_listed_at_once() -> None:
    wrong = GOOD.replace("events_per_day = 5", "events_per_day = -1").replace('"team"', '"Team"')
    with pytest.raises(ConfigurationError) as caught:
        parse_catalog(wrong + wrong)
    assert len(caught.value.problems) == 6


@pytest.mark.parametrize("text", ["", "[[plan", "x = 1"])
def test_a_file_without_plans_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_catalog(text)


@pytest.mark.parametrize("text", ['plan = "free"', "plan = [1]", "[plan]\nid = 1"])
def test_a_file_with_plans_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_catalog(text)


def test_without_a_subscription_a_team_asks_as_on_the_plan_free() -> None:
    assert shipped_catalog().requests_per_minute_without_subscription == 60
    free = GOOD.replace('"team"', '"free"')
    assert parse_catalog(free).requests_per_minute_without_subscription is None
    assert parse_catalog(free.replace('minute = "unlimited"', "minute = 7")).requests_per_minute_without_subscription == 7
    assert parse_catalog(GOOD).requests_per_minute_without_subscription == 60, "no plan free"


def test_the_shipped_file_says_nothing_twice() -> None:
    plans = shipped_catalog().plans
    assert len({plan.id for plan in plans}) == len({plan.name for plan in plans}) == len(plans) == 5
