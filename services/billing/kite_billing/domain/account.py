"""One team's account: which facts a command leads to, and what each fact makes of the account. A balance is never below zero.

The state is the frozen AccountSnapshot itself. Charging a usage, the hot path, is in tab.py; its facts are ledger entries too.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, assert_never

from kite_billing.domain.period import period_containing
from kite_billing.domain.tariff import provider_allowed, terms_of
from kite_common.clock import utc_day
from kite_common.events.accounts import AccountSnapshot, Provider, Subscription
from kite_common.events.commands import (
    AdjustWallet,
    CancelSubscription,
    Command,
    CommandRefusal,
    CreditWallet,
    OpenAccount,
    ReverseCredit,
    Subscribe,
)
from kite_common.events.ledger import LedgerEntry
from kite_common.ids import CommandId, ledger_entry_of_command, subscription_of
from kite_common.money import UNLIMITED
from kite_common.plans import Catalog, Plan

# How many applied commands an account remembers. A repeat comes from a sender whose wait ran out (seconds) or from a person who presses
# the button again (minutes), while a team's commands are its deposits and plan changes: a busy team makes a few a day, and the
# facilitator settles about 30 payments a second for all teams together. 64 cover such a window many times over and add at most 1.2 KB
# to a snapshot, which every step of the team writes again. Behind it stands the derived ledger id: a second credit of one command would
# carry the first one's id, and the audit finds it.
REMEMBERED_COMMANDS: Final = 64


@dataclass(frozen=True, slots=True)
class Rules:
    """What a deployment decides about accounts: its plans, and whether provider clerk may take paid ones."""

    catalog: Catalog
    clerk_paid_plans: bool = False


@dataclass(frozen=True, slots=True)
class AccountOpened:
    """The team has an account from now on."""

    team_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class SubscriptionStarted:
    """A first subscription, or one after a cancelled one: its counters begin at zero."""

    subscription: Subscription


@dataclass(frozen=True, slots=True)
class SubscriptionSwitched:
    """Another plan or provider: period and counters go on."""

    subscription: Subscription


@dataclass(frozen=True, slots=True)
class SubscriptionCancelled:
    """No subscription any more; the balance stays."""


@dataclass(frozen=True, slots=True)
class PeriodRenewed:
    """A new period began: counters at zero, terms as the catalog has them now."""

    subscription: Subscription


@dataclass(frozen=True, slots=True)
class WalletMoved:
    """Money came or went; the entry goes to the ledger as it is."""

    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class CommandApplied:
    """The command took effect: its repeat changes nothing."""

    command_id: str


AccountFact = (
    AccountOpened | SubscriptionStarted | SubscriptionSwitched | SubscriptionCancelled | PeriodRenewed | WalletMoved | CommandApplied
)


@dataclass(frozen=True, slots=True)
class Refused:
    """The command changes nothing, and why."""

    reason: CommandRefusal


def was_applied(account: AccountSnapshot | None, command_id: str) -> bool:
    """Whether the account remembers this command, or stands on the subscription it started."""
    if account is None:
        return False
    if account.subscription is not None and account.subscription.id == subscription_of(CommandId(command_id)):
        return True
    return _mark(command_id) in account.recent_commands


def decide(account: AccountSnapshot | None, command: Command, at_ms: int, rules: Rules) -> tuple[AccountFact, ...] | Refused:
    """The facts a command leads to at `at_ms`, in order; none for a repeat; or why it is refused.

    `account` is already brought to `at_ms` (see `renewal`). A refused command is not remembered: it changed nothing, and its repeat is
    judged by the account as it is then.
    """
    if was_applied(account, command.command_id):
        return ()
    facts = _decide(account, command, at_ms, rules)
    return facts if isinstance(facts, Refused) else (*facts, CommandApplied(command.command_id))


def evolve(account: AccountSnapshot | None, fact: AccountFact) -> AccountSnapshot:
    """The account after a fact. Raises ValueError if anything but its opening comes first, or an opening later."""
    if isinstance(fact, AccountOpened) and account is None:
        return AccountSnapshot(team_id=fact.team_id, opened_at=fact.at_ms, day=utc_day(fact.at_ms))
    if account is None:
        raise ValueError("an account begins with its opening")
    return account.model_copy(update=_changes(account, fact))


def renewal(account: AccountSnapshot, at_ms: int, catalog: Catalog) -> PeriodRenewed | None:
    """The new period, if the account's has ended by `at_ms`. Periods nobody used are passed over; a cancelled subscription has no next one.

    A plan that has left the catalog keeps the terms it had.
    """
    old = account.subscription
    if old is None or at_ms < old.period_end or old.status == "cancelled":
        return None
    period, plan = period_containing(old.anchored_at, at_ms), catalog.by_id(old.plan_id)
    changes: dict[str, object] = {"period_start": period.start_ms, "period_end": period.end_ms}
    if plan is not None:
        changes |= {"plan_name": plan.name, "terms": terms_of(plan)}
    return PeriodRenewed(old.model_copy(update=changes))


def _decide(account: AccountSnapshot | None, command: Command, at_ms: int, rules: Rules) -> tuple[AccountFact, ...] | Refused:
    match command:
        case OpenAccount():
            return _open(account, command, at_ms, rules)
        case CreditWallet():
            return _credit(account, command, at_ms)
        case Subscribe() | CancelSubscription() | AdjustWallet() | ReverseCredit() if account is None:
            return Refused("no_account")
        case Subscribe():
            return _subscribe(account, command, at_ms, rules)
        case CancelSubscription():
            current = account.subscription
            return () if current is None or current.status == "cancelled" else (SubscriptionCancelled(),)
        case AdjustWallet():
            return _adjust(account, command, at_ms)
        case ReverseCredit():
            return Refused("no_account")
        case _:
            assert_never(command)


def _open(account: AccountSnapshot | None, command: OpenAccount, at_ms: int, rules: Rules) -> tuple[AccountFact, ...] | Refused:
    if account is not None:
        return Refused("account_exists")
    plan = _plan(command.plan_id, command.provider, rules)
    if isinstance(plan, Refused):
        return plan
    facts: tuple[AccountFact, ...] = (
        AccountOpened(command.team_id, at_ms),
        SubscriptionStarted(_new_subscription(command, plan, command.provider, at_ms)),
    )
    if command.balance_atomic:
        facts += (WalletMoved(_deposit(command, command.balance_atomic, command.balance_atomic, at_ms)),)
    return facts


def _subscribe(account: AccountSnapshot, command: Subscribe, at_ms: int, rules: Rules) -> tuple[AccountFact, ...] | Refused:
    plan, current = _plan(command.plan_id, command.provider, rules), account.subscription
    if isinstance(plan, Refused):
        return plan
    if current is None or current.status == "cancelled":
        return (SubscriptionStarted(_new_subscription(command, plan, command.provider, at_ms)),)
    if (current.plan_id, current.provider, current.status) == (plan.id, command.provider, "active"):
        return ()
    switched = current.model_copy(update={
        "plan_id": plan.id, "plan_name": plan.name, "provider": command.provider, "status": "active", "terms": terms_of(plan),
    })  # fmt: skip
    return (SubscriptionSwitched(switched),)


def _credit(account: AccountSnapshot | None, command: CreditWallet, at_ms: int) -> tuple[AccountFact, ...] | Refused:
    opened = () if account else (AccountOpened(command.team_id, at_ms),)
    balance = (account.balance_atomic if account else 0) + command.amount_atomic
    if balance > UNLIMITED:
        return Refused("amount_too_large")
    if command.amount_atomic == 0:
        return opened
    entry = _deposit(command, command.amount_atomic, balance, at_ms)
    return (*opened, WalletMoved(entry.model_copy(update={"payment": command.payment})))


def _adjust(account: AccountSnapshot, command: AdjustWallet, at_ms: int) -> tuple[AccountFact, ...] | Refused:
    wanted = command.amount_atomic
    moved = max(wanted, -account.balance_atomic)
    balance = account.balance_atomic + moved
    if balance > UNLIMITED:
        return Refused("amount_too_large")
    if wanted == 0:
        return ()
    return (WalletMoved(LedgerEntry(
        team_id=command.team_id, id=ledger_entry_of_command(CommandId(command.command_id)), entry="credit" if wanted > 0 else "debit",
        reason="correction", contra="corrections", amount_atomic=moved, balance_after_atomic=balance, shortfall_atomic=moved - wanted,
        command_id=command.command_id, occurred_at=at_ms,
    )),)  # fmt: skip


def _deposit(command: OpenAccount | CreditWallet, amount: int, balance_after: int, at_ms: int) -> LedgerEntry:
    return LedgerEntry(
        team_id=command.team_id, id=ledger_entry_of_command(CommandId(command.command_id)), entry="credit", reason="deposit",
        contra="deposits", amount_atomic=amount, balance_after_atomic=balance_after, command_id=command.command_id, occurred_at=at_ms,
    )  # fmt: skip


def _plan(plan_id: str, provider: Provider, rules: Rules) -> Plan | Refused:
    plan = rules.catalog.by_id(plan_id)
    if plan is None:
        return Refused("plan_not_found")
    return plan if provider_allowed(plan, provider, rules.clerk_paid_plans) else Refused("invalid_provider")


def _new_subscription(command: OpenAccount | Subscribe, plan: Plan, provider: Provider, at_ms: int) -> Subscription:
    period = period_containing(at_ms, at_ms)
    return Subscription(
        id=subscription_of(CommandId(command.command_id)), plan_id=plan.id, plan_name=plan.name, provider=provider, status="active",
        anchored_at=at_ms, period_start=period.start_ms, period_end=period.end_ms, terms=terms_of(plan),
    )  # fmt: skip


def _changes(account: AccountSnapshot, fact: AccountFact) -> dict[str, object]:
    match fact:
        case SubscriptionStarted() | PeriodRenewed():
            return {"subscription": fact.subscription, "period_used": 0, "period_charged_atomic": 0}
        case SubscriptionSwitched():
            return {"subscription": fact.subscription}
        case SubscriptionCancelled():
            current = account.subscription
            return {"subscription": current and current.model_copy(update={"status": "cancelled"})}
        case WalletMoved():
            return {"balance_atomic": fact.entry.balance_after_atomic}
        case CommandApplied():
            return {"recent_commands": (*account.recent_commands, _mark(fact.command_id))[-REMEMBERED_COMMANDS:]}
        case AccountOpened():
            raise ValueError("the account is open already")
        case _:
            assert_never(fact)


def _mark(command_id: str) -> str:
    """64 bits of a digest: ids of payment commands are 170 characters long, and no two of 64 commands meet by chance."""
    return hashlib.sha256(command_id.encode()).hexdigest()[:16]
