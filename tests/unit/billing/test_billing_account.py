"""What each command does to an account, what a refusal says, and that a repeat changes nothing."""

from functools import reduce

import pytest

from kite_billing.application.run_command import Place, Ran, run_command
from kite_billing.domain.account import REMEMBERED_COMMANDS, AccountOpened, Refused, Rules, SubscriptionCancelled, decide, evolve, renewal
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.commands import Command, CommandRefusal
from kite_common.ids import CommandId, subscription_of
from kite_common.money import UNLIMITED
from kite_common.plans import Catalog, shipped_catalog
from kite_common.testing import make

RULES = Rules(shipped_catalog())
NOW = make.NOW_MS


def run(account: AccountSnapshot | None, command: Command, at_ms: int = NOW, rules: Rules = RULES) -> Ran:
    return run_command(account, command, at_ms, Place(3, 7), rules)


def opened(account: AccountSnapshot | None, command: Command, at_ms: int = NOW) -> AccountSnapshot:
    after = run(account, command, at_ms).account
    assert after is not None
    return after


def test_opening_gives_a_subscription_from_now_and_the_first_deposit() -> None:
    ran = run(None, make.open_account(command_id="c1"))
    account = ran.account
    assert account is not None
    assert account.subscription is not None
    assert (account.balance_atomic, account.applied, account.opened_at) == (1_000_000, 7, NOW)
    assert (account.subscription.plan_name, account.subscription.status, account.subscription.anchored_at) == ("starter", "active", NOW)
    assert account.subscription.id == subscription_of(CommandId("c1"))
    assert [(entry.entry, entry.amount_atomic, entry.balance_after_atomic) for entry in ran.entries] == [("credit", 1_000_000, 1_000_000)]
    assert (ran.outcome.refusal, ran.outcome.balance_atomic, ran.outcome.applied) == (None, 1_000_000, 7)


def test_opening_without_money_writes_no_entry() -> None:
    assert run(None, make.open_account(balance_atomic=0)).entries == ()


@pytest.mark.parametrize(
    ("account", "command", "refusal"),
    [
        (make.account(), make.open_account(command_id="another"), "account_exists"),
        (None, make.open_account(plan_id="6b1f3c1e-0000-4000-8000-00000000ffff"), "plan_not_found"),
        (None, make.open_account(provider="clerk"), "invalid_provider"),
        (None, make.subscribe(), "no_account"),
        (None, make.cancel_subscription(), "no_account"),
        (None, make.adjust_wallet(), "no_account"),
        (make.account(), make.subscribe(command_id="x", plan_id="6b1f3c1e-0000-4000-8000-00000000ffff"), "plan_not_found"),
        (make.account(), make.subscribe(command_id="x", provider="clerk"), "invalid_provider"),
        (make.account(balance_atomic=UNLIMITED), make.credit_wallet(command_id="x", amount_atomic=1), "amount_too_large"),
        (make.account(balance_atomic=UNLIMITED), make.adjust_wallet(command_id="x", amount_atomic=1), "amount_too_large"),
    ],
)
def test_a_refused_command_changes_nothing_and_says_why(
    account: AccountSnapshot | None, command: Command, refusal: CommandRefusal
) -> None:
    ran = run(account, command)
    assert ran.outcome.refusal == refusal
    assert ran.entries == ()
    assert ran.account is account


def test_a_deployment_may_let_clerk_take_paid_plans() -> None:
    account = run(None, make.open_account(provider="clerk"), rules=Rules(shipped_catalog(), clerk_paid_plans=True)).account
    assert account is not None
    assert account.subscription is not None
    assert (account.subscription.provider, account.subscription.price_atomic_per_event) == ("clerk", 0)


def test_credit_opens_the_account_of_an_unknown_team_and_names_the_payment() -> None:
    ran = run(None, make.credit_wallet())
    assert ran.account is not None
    assert (ran.account.balance_atomic, ran.account.subscription) == (2_000_000, None)
    assert ran.entries[0].payment == make.payment()


def test_a_credit_of_nothing_only_opens() -> None:
    assert run(None, make.credit_wallet(amount_atomic=0)).entries == ()


def test_switching_the_plan_keeps_period_and_counters() -> None:
    before = make.account(period_used=5, period_charged_atomic=500)
    account = opened(before, make.subscribe(command_id="x"))
    assert account.subscription is not None
    assert before.subscription is not None
    assert (account.subscription.plan_name, account.subscription.id) == ("growth", before.subscription.id)
    assert (account.subscription.period_end, account.period_used) == (before.subscription.period_end, 5)
    assert account.subscription.terms == make.terms("growth")


def test_subscribing_to_what_one_has_changes_only_that_the_command_is_known() -> None:
    before = make.account()
    account = opened(before, make.subscribe(command_id="x", plan_id=make.plan().id))
    assert account.model_copy(update={"recent_commands": (), "applied": 1}) == before


def test_a_subscription_after_a_cancelled_one_begins_anew() -> None:
    cancelled = opened(make.account(period_used=5), make.cancel_subscription(command_id="x"))
    assert cancelled.subscription is not None
    assert (cancelled.subscription.status, cancelled.balance_atomic) == ("cancelled", 1_000_000)
    account = opened(cancelled, make.subscribe(command_id="y"), NOW + 5)
    assert account.subscription is not None
    assert (account.subscription.id, account.subscription.anchored_at) == (subscription_of(CommandId("y")), NOW + 5)
    assert account.period_used == 0


def test_cancelling_twice_is_no_error() -> None:
    cancelled = opened(make.account(), make.cancel_subscription(command_id="x"))
    ran = run(cancelled, make.cancel_subscription(command_id="y"))
    assert ran.outcome.refusal is None


def test_a_correction_takes_at_most_what_is_there() -> None:
    ran = run(make.account(balance_atomic=3_000), make.adjust_wallet(command_id="x", amount_atomic=-5_000))
    assert ran.account is not None
    assert ran.account.balance_atomic == 0
    assert [(entry.entry, entry.amount_atomic, entry.shortfall_atomic) for entry in ran.entries] == [("debit", -3_000, 2_000)]


def test_a_correction_upwards_is_a_credit_and_one_of_nothing_no_entry() -> None:
    ran = run(make.account(), make.adjust_wallet(command_id="x", amount_atomic=7))
    assert [(entry.entry, entry.amount_atomic) for entry in ran.entries] == [("credit", 7)]
    assert run(make.account(), make.adjust_wallet(command_id="x", amount_atomic=0)).entries == ()


def test_a_repeat_changes_nothing_and_is_told_how_the_account_is_now() -> None:
    account = opened(None, make.open_account(command_id="c1"))
    account = opened(account, make.credit_wallet(command_id="c2"))
    for command in (make.open_account(command_id="c1"), make.credit_wallet(command_id="c2")):
        ran = run(account, command)
        assert ran.account is account
        assert ran.entries == ()
        assert (ran.outcome.refusal, ran.outcome.balance_atomic) == (None, 3_000_000)


def test_the_command_a_subscription_came_from_is_known_however_many_followed() -> None:
    account = opened(None, make.open_account(command_id="c1"))
    for number in range(REMEMBERED_COMMANDS + 1):
        account = opened(account, make.adjust_wallet(command_id=f"a{number}", amount_atomic=1))
    assert len(account.recent_commands) == REMEMBERED_COMMANDS
    assert decide(account, make.open_account(command_id="c1"), NOW, RULES) == ()


def test_an_ended_period_is_renewed_before_the_command_is_judged() -> None:
    before = make.account(period_used=9)
    assert before.subscription is not None
    at = before.subscription.period_end + 40 * 86_400_000
    account = opened(before, make.credit_wallet(command_id="x"), at)
    assert account.subscription is not None
    assert account.subscription.period_start <= at < account.subscription.period_end
    assert (account.period_used, account.applied) == (0, 7)


def test_a_refused_command_still_renews_an_ended_period() -> None:
    before = make.account(period_used=9)
    assert before.subscription is not None
    ran = run(before, make.open_account(command_id="x"), before.subscription.period_end)
    assert ran.outcome.refusal == "account_exists"
    assert ran.account is not None
    assert (ran.account.period_used, ran.account.applied) == (0, 7)


def test_a_plan_that_left_the_catalog_keeps_its_terms() -> None:
    account = make.account()
    assert account.subscription is not None
    renewed = renewal(account, account.subscription.period_end, Catalog(()))
    assert renewed is not None
    assert renewed.subscription.terms == account.subscription.terms


def test_there_is_no_next_period_without_a_subscription_before_its_end_or_after_a_cancellation() -> None:
    account = make.account()
    assert account.subscription is not None
    end = account.subscription.period_end
    assert renewal(account, end - 1, RULES.catalog) is None
    assert renewal(make.account(subscription=None), end, RULES.catalog) is None
    assert renewal(evolve(account, SubscriptionCancelled()), end, RULES.catalog) is None


def test_an_account_begins_with_its_opening_and_only_once() -> None:
    with pytest.raises(ValueError, match="begins"):
        evolve(None, SubscriptionCancelled())
    with pytest.raises(ValueError, match="open already"):
        evolve(make.account(), AccountOpened(make.TEAM, NOW))


def test_cancelling_where_nothing_is_subscribed_is_no_error() -> None:
    decision = decide(make.account(subscription=None), make.cancel_subscription(command_id="x"), NOW, RULES)
    assert not isinstance(decision, Refused)
    account = reduce(evolve, decision, make.account(subscription=None))
    assert account.subscription is None
