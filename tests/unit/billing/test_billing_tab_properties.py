"""Charging: one tab or many, never below zero, the ledger adds up, periods and days roll where the record says."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kite_billing.domain.tab import Tab
from kite_common.clock import utc_day
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.ledger import LedgerEntry
from kite_common.events.usage import UsageRecorded
from kite_common.money import UNLIMITED
from kite_common.plans import shipped_catalog
from kite_common.testing import make

CATALOG = shipped_catalog()
DAY_MS = 86_400_000

kinds = st.sampled_from(["message", "message", "hook", "replay"])
usages = st.builds(
    lambda number, kind, quantity, price: make.usage(
        event_id=make.event_id(number), usage_kind=kind, quantity=quantity, price_atomic=price
    ),
    st.integers(0, 10_000), kinds, st.integers(0, 300) | st.just(UNLIMITED), st.integers(0, 400) | st.just(UNLIMITED),
)  # fmt: skip
# Mostly forward in small steps, at times over a day's or a period's end, at times a little back.
steps_ms = st.integers(0, 1_000) | st.integers(-50, 50) | st.sampled_from([DAY_MS, 20 * DAY_MS, 45 * DAY_MS])
charges = st.lists(st.tuples(usages, steps_ms), max_size=20)
accounts = st.builds(
    lambda balance, used, subscribed, cancelled: make.account(
        balance_atomic=balance, period_used=used,
        subscription=make.subscription(status="cancelled" if cancelled else "active") if subscribed else None,
    ),
    st.integers(0, 2_000) | st.just(UNLIMITED), st.integers(0, 50) | st.just(UNLIMITED), st.booleans(), st.booleans(),
)  # fmt: skip


def timed(drawn: list[tuple[UsageRecorded, int]]) -> list[tuple[UsageRecorded, int]]:
    at_ms, found = make.NOW_MS, []
    for usage, step_ms in drawn:
        at_ms = max(0, at_ms + step_ms)
        found.append((usage, at_ms))
    return found


def charge(account: AccountSnapshot, drawn: list[tuple[UsageRecorded, int]]) -> tuple[AccountSnapshot, list[LedgerEntry]]:
    tab = Tab(account, CATALOG)
    entries = [tab.charge(usage, at_ms) for usage, at_ms in drawn]
    return tab.account(account.applied + 1), entries


@given(accounts, charges, st.data())
def test_one_tab_or_many_give_the_same_account_and_entries(account: AccountSnapshot, drawn: Any, data: st.DataObject) -> None:
    todo = timed(drawn)
    whole, entries = charge(account, todo)
    cut = data.draw(st.integers(0, len(todo)))
    first, first_entries = charge(account, todo[:cut])
    second, second_entries = charge(first, todo[cut:])
    assert first_entries + second_entries == entries
    assert second.model_copy(update={"applied": whole.applied}) == whole


@given(accounts, charges)
def test_the_balance_is_what_the_entries_say_and_never_below_zero(account: AccountSnapshot, drawn: Any) -> None:
    after, entries = charge(account, timed(drawn))
    assert after.balance_atomic == account.balance_atomic + sum(entry.amount_atomic for entry in entries)
    balance = account.balance_atomic
    for entry in entries:
        balance += entry.amount_atomic
        assert entry.balance_after_atomic == balance >= 0


@given(accounts, charges)
def test_what_a_debit_could_not_take_is_its_shortfall(account: AccountSnapshot, drawn: Any) -> None:
    todo = timed(drawn)
    _, entries = charge(account, todo)
    for (usage, at_ms), entry in zip(todo, entries, strict=True):
        assert usage.price_atomic == entry.shortfall_atomic - entry.amount_atomic
        assert entry.shortfall_atomic == 0 or entry.balance_after_atomic == 0
        assert (entry.event_id, entry.occurred_at, entry.reason == "replay") == (usage.event_id, at_ms, usage.usage_kind == "replay")


@given(charges)
def test_counters_are_the_events_of_the_present_period_and_day(drawn: Any) -> None:
    todo = [(usage.model_copy(update={"quantity": min(usage.quantity, 300)}), at_ms) for usage, at_ms in timed(drawn)]
    after, _ = charge(make.account(balance_atomic=UNLIMITED), todo)
    subscription = after.subscription
    assert subscription is not None
    # A time before the current period or day counts in the current one, so the newest start so far decides.
    period_used = day_used = 0
    newest_period, newest_day = make.subscription().period_start, make.account().day
    for usage, at_ms in todo:
        units = 0 if usage.usage_kind == "replay" else usage.quantity
        if at_ms >= subscription.period_start > newest_period:
            newest_period, period_used = subscription.period_start, 0
        period_used += units
        if utc_day(at_ms) > newest_day:
            newest_day, day_used = utc_day(at_ms), 0
        day_used += units
    assert (after.period_used, after.day, after.day_used) == (period_used, newest_day, day_used)


def test_a_new_period_takes_the_terms_of_the_catalog() -> None:
    account = make.account(subscription=make.subscription(terms=make.terms(events_per_month=1)), period_used=7, period_charged_atomic=9)
    assert account.subscription is not None
    after, _ = charge(account, [(make.usage(), account.subscription.period_end)])
    assert after.subscription is not None
    assert after.subscription.terms == make.terms()
    assert (after.period_used, after.period_charged_atomic) == (1, 100)


def test_an_event_at_the_last_moment_counts_in_the_old_period() -> None:
    account = make.account(period_used=7)
    assert account.subscription is not None
    after, _ = charge(account, [(make.usage(), account.subscription.period_end - 1)])
    assert after.period_used == 8
