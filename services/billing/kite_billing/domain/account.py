"""One team's account: which facts a command leads to, and what each fact makes of the account. A balance is never below zero.

The state is the frozen AccountSnapshot itself. Charging a usage, the hot path, is in tab.py; its facts are ledger entries too.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, assert_never

from kite_billing.domain.period import period_containing
from kite_billing.domain.tariff import costs_money, provider_allowed, terms_of
from kite_common.clock import utc_day
from kite_common.events.accounts import AccountSnapshot, AppliedPayment, Provider, Subscription, SubscriptionStatus
from kite_common.events.commands import (
    AdjustWallet,
    CancelSubscription,
    Command,
    CommandRefusal,
    CreditWallet,
    OpenAccount,
    ReverseCredit,
    SetPastDue,
    Subscribe,
)
from kite_common.events.ledger import LedgerEntry
from kite_common.ids import CommandId, ledger_entry_of_command, ledger_entry_of_debt, subscription_of
from kite_common.money import UNLIMITED
from kite_common.plans import Catalog, Plan

# How many applied commands an account remembers. A repeat comes from a sender whose wait ran out (seconds) or from a person who presses
# the button again (minutes), while a team's commands are its deposits and plan changes: a busy team makes a few a day, and the
# facilitator settles about 30 payments a second for all teams together. 64 cover such a window many times over and add at most 1.2 KB
# to a snapshot, which every step of the team writes again. Behind it stands the derived ledger id: a second credit of one command would
# carry the first one's id, and the audit finds it.
REMEMBERED_COMMANDS: Final = 64
# Commands of payments are remembered apart, by payment key: for 90 days, as long as kite.commands keeps them, and at most so many keys
# (18 KB in a snapshot). Each is written once, in the transaction that settles its payment; a repeat is somebody's repair work.
REMEMBERED_PAYMENTS: Final = 512
REMEMBERED_PAYMENT_DAYS: Final = 90


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
class DayBegan:
    """Another UTC day: its counter at zero."""

    day: int


@dataclass(frozen=True, slots=True)
class WalletMoved:
    """Money came or went; the entry goes to the ledger as it is."""

    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class DebtChanged:
    """What the next credits have to pay for reversals of the past."""

    debt_atomic: int


@dataclass(frozen=True, slots=True)
class PaymentApplied:
    """The command took effect: no command of this payment up to its seq does again."""

    payment: AppliedPayment


@dataclass(frozen=True, slots=True)
class CommandApplied:
    """The command took effect: its repeat changes nothing."""

    command_id: str


AccountFact = (
    AccountOpened | SubscriptionStarted | SubscriptionSwitched | SubscriptionCancelled | PeriodRenewed | DayBegan | WalletMoved
    | DebtChanged | PaymentApplied | CommandApplied
)  # fmt: skip


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
    """The facts a command leads to at `at_ms`, in order; none for a repeat; or why it is refused. Commands of payments: payment_credit.py.

    `account` is already brought to `at_ms` (see `current`). A refused command is not remembered: it changed nothing, and its repeat is
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


def current(account: AccountSnapshot, at_ms: int, catalog: Catalog) -> AccountSnapshot:
    """The account as it is at `at_ms`: an ended period renewed, a new UTC day begun. The same object if time has changed nothing.

    A time before the current period and day (the brokers' clocks differ) counts in the current ones.
    """
    renewed, day = renewal(account, at_ms, catalog), utc_day(at_ms)
    if renewed is not None:
        account = evolve(account, renewed)
    return evolve(account, DayBegan(day)) if day > account.day else account


def _decide(account: AccountSnapshot | None, command: Command, at_ms: int, rules: Rules) -> tuple[AccountFact, ...] | Refused:
    match command:
        case OpenAccount():
            return _open(account, command, at_ms, rules)
        case CreditWallet():
            return _credit(account, command, at_ms)
        case ReverseCredit():
            raise ValueError("a command of a payment")
        case Subscribe() | CancelSubscription() | AdjustWallet() | SetPastDue() if account is None:
            return Refused("no_account")
        case Subscribe():
            return _subscribe(account, command, at_ms, rules)
        case SetPastDue():
            return _set_past_due(account, command)
        case CancelSubscription():
            return () if not_cancelled(account) is None else (SubscriptionCancelled(),)
        case AdjustWallet():
            return _adjust(account, command, at_ms)
        case _:
            assert_never(command)


def _open(account: AccountSnapshot | None, command: OpenAccount, at_ms: int, rules: Rules) -> tuple[AccountFact, ...] | Refused:
    if account is not None:
        return Refused("account_exists")
    started = started_by(command, at_ms, rules)
    if isinstance(started, Refused):
        return started
    facts: tuple[AccountFact, ...] = (AccountOpened(command.team_id, at_ms), started)
    if command.balance_atomic:
        facts += (WalletMoved(_deposit(command, command.balance_atomic, command.balance_atomic, at_ms)),)
    return facts


def not_cancelled(account: AccountSnapshot) -> Subscription | None:
    """The team's subscription, active or past due."""
    found = account.subscription
    return None if found is None or found.status == "cancelled" else found


def started_by(command: OpenAccount | Subscribe, at_ms: int, rules: Rules) -> SubscriptionStarted | Refused:
    """The subscription a command begins at `at_ms`."""
    plan = _plan(command.plan_id, command.provider, rules)
    if isinstance(plan, Refused):
        return plan
    period = period_containing(at_ms, at_ms)
    return SubscriptionStarted(Subscription(
        id=_subscription_of(command), plan_id=plan.id, plan_name=plan.name, provider=command.provider, status="active",
        anchored_at=at_ms, period_start=period.start_ms, period_end=period.end_ms, terms=terms_of(plan),
    ))  # fmt: skip


def _subscribe(account: AccountSnapshot, command: Subscribe, at_ms: int, rules: Rules) -> tuple[AccountFact, ...] | Refused:
    plan, old = _plan(command.plan_id, command.provider, rules), not_cancelled(account)
    if isinstance(plan, Refused):
        return plan
    if old is None:
        started = started_by(command, at_ms, rules)
        return started if isinstance(started, Refused) else (started,)
    status = _status_after(old, plan, command.provider)
    if (old.plan_id, old.provider, old.status) == (plan.id, command.provider, status):
        return ()
    return (SubscriptionSwitched(old.model_copy(update={
        "plan_id": plan.id, "plan_name": plan.name, "provider": command.provider, "status": status, "terms": terms_of(plan),
        "revision": old.revision + 1,
    })),)  # fmt: skip


def _status_after(old: Subscription, plan: Plan, provider: Provider) -> SubscriptionStatus:
    """Nobody leaves an open bill by switching to a plan that would be billed the same way."""
    return "past_due" if old.status == "past_due" and provider == "clerk" and costs_money(plan) else "active"


def _set_past_due(account: AccountSnapshot, command: SetPastDue) -> tuple[AccountFact, ...] | Refused:
    old, status = not_cancelled(account), "past_due" if command.past_due else "active"
    if old is None:
        return Refused("subscription_conflict")
    if old.provider != "clerk":
        return Refused("invalid_provider")
    if old.status == status:
        return ()
    return (SubscriptionSwitched(old.model_copy(update={"status": status, "revision": old.revision + 1})),)


def _credit(account: AccountSnapshot | None, command: CreditWallet, at_ms: int) -> tuple[AccountFact, ...] | Refused:
    opened = () if account else (AccountOpened(command.team_id, at_ms),)
    balance = (account.balance_atomic if account else 0) + command.amount_atomic
    if balance > UNLIMITED:
        return Refused("amount_too_large")
    if command.amount_atomic == 0:
        return opened
    entry = _deposit(command, command.amount_atomic, balance, at_ms).model_copy(update={"payment": command.payment})
    return (*opened, WalletMoved(entry), *debt_paid(account, entry, command.amount_atomic))


def _adjust(account: AccountSnapshot, command: AdjustWallet, at_ms: int) -> tuple[AccountFact, ...] | Refused:
    wanted = command.amount_atomic
    moved = max(wanted, -account.balance_atomic)
    balance = account.balance_atomic + moved
    if balance > UNLIMITED:
        return Refused("amount_too_large")
    if wanted == 0:
        return ()
    entry = LedgerEntry(
        team_id=command.team_id, id=ledger_entry_of_command(CommandId(command.command_id)), entry="credit" if wanted > 0 else "debit",
        reason="correction", contra="corrections", amount_atomic=moved, balance_after_atomic=balance, shortfall_atomic=moved - wanted,
        command_id=command.command_id, occurred_at=at_ms,
    )  # fmt: skip
    return (WalletMoved(entry), *debt_paid(account, entry, moved))


def debt_paid(account: AccountSnapshot | None, last: LedgerEntry, left_atomic: int) -> tuple[AccountFact, ...]:
    """What `left_atomic` of a credit, whose last entry is `last`, pays of the account's debt, in an entry of its own."""
    debt = 0 if account is None else account.debt_atomic
    paid = min(debt, max(0, left_atomic))
    if paid == 0:
        return ()
    return (WalletMoved(LedgerEntry(
        team_id=last.team_id, id=ledger_entry_of_debt(CommandId(last.command_id or "")), entry="reversal", reason="reorg",
        contra="deposits", amount_atomic=-paid, balance_after_atomic=last.balance_after_atomic - paid, command_id=last.command_id,
        occurred_at=last.occurred_at,
    )), DebtChanged(debt - paid))  # fmt: skip


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


def _subscription_of(command: OpenAccount | Subscribe) -> str:
    given = command.subscription_id if isinstance(command, OpenAccount) else None
    return given or subscription_of(CommandId(command.command_id))


def _changes(account: AccountSnapshot, fact: AccountFact) -> dict[str, object]:
    match fact:
        case SubscriptionStarted() | PeriodRenewed():
            return {"subscription": fact.subscription, "period_used": 0, "period_charged_atomic": 0, "warned_month": 0}
        case SubscriptionSwitched():
            return {"subscription": fact.subscription}
        case SubscriptionCancelled():
            return {"subscription": _cancelled(account.subscription)}
        case DayBegan():
            return {"day": fact.day, "day_used": 0, "warned_day": 0}
        case WalletMoved() | DebtChanged() | PaymentApplied():
            return _money(account, fact)
        case CommandApplied():
            return {"recent_commands": (*account.recent_commands, _mark(fact.command_id))[-REMEMBERED_COMMANDS:]}
        case AccountOpened():
            raise ValueError("the account is open already")
        case _:
            assert_never(fact)


def _money(account: AccountSnapshot, fact: WalletMoved | DebtChanged | PaymentApplied) -> dict[str, object]:
    match fact:
        case WalletMoved(entry) if entry.contra == "revenue":
            charged = min(account.period_charged_atomic - entry.amount_atomic, UNLIMITED)
            return {"balance_atomic": entry.balance_after_atomic, "period_charged_atomic": charged}
        case WalletMoved(entry):
            return {"balance_atomic": entry.balance_after_atomic}
        case DebtChanged():
            return {"debt_atomic": fact.debt_atomic}
        case PaymentApplied():
            return {"payments": _remembered(account.payments, fact.payment)}
        case _:
            assert_never(fact)


def _cancelled(old: Subscription | None) -> Subscription | None:
    return old and old.model_copy(update={"status": "cancelled", "revision": old.revision + 1})


def _remembered(payments: tuple[AppliedPayment, ...], new: AppliedPayment) -> tuple[AppliedPayment, ...]:
    oldest = new.day - REMEMBERED_PAYMENT_DAYS
    kept = [one for one in payments if one.digest != new.digest and one.day >= oldest]
    return (*kept, new)[-REMEMBERED_PAYMENTS:]


def _mark(command_id: str) -> str:
    """64 bits of a digest: ids of payment commands are 170 characters long, and no two of 64 commands meet by chance."""
    return hashlib.sha256(command_id.encode()).hexdigest()[:16]
