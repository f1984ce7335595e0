"""What commands of payments make of an account: credits that are never refused, the pages they buy, reversals, debt.

A command takes effect iff its `seq` is above the last one applied for its payment key in this account; else it is answered as before.
"""

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

from kite_billing.domain.account import (
    AccountFact,
    AccountOpened,
    DebtChanged,
    PaymentApplied,
    Refused,
    Rules,
    WalletMoved,
    debt_paid,
    not_cancelled,
    started_by,
)
from kite_common.clock import utc_day
from kite_common.events.accounts import AccountSnapshot, AppliedPayment
from kite_common.events.commands import Command, CreditWallet, OpenAccount, ReverseCredit, SettledPayment
from kite_common.events.ledger import LedgerEntry
from kite_common.ids import EventId, ledger_entry_of_event
from kite_common.money import UNLIMITED
from kite_common.x402.key import ledger_entry_of

PaymentCommand = OpenAccount | CreditWallet | ReverseCredit
# 128 bits of a digest, in 22 characters.
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class PaymentDecision:
    """Facts in order, none for a repeat; `refused`: why the work after the credit did not happen (the credit always does)."""

    facts: tuple[AccountFact, ...]
    refused: str | None = None


def payment_of(command: Command) -> tuple[PaymentCommand, SettledPayment] | None:
    """The command as one of a payment, with the payment; None for all others."""
    match command:
        case ReverseCredit():
            return command, command.settled
        case OpenAccount(payment=SettledPayment() as settled) | CreditWallet(settled=SettledPayment() as settled):
            return command, settled
        case _:
            return None


def decide_payment(
    account: AccountSnapshot | None, command: PaymentCommand, settled: SettledPayment, at_ms: int, rules: Rules
) -> PaymentDecision:
    """What the command leads to at `at_ms`, for an account that is already brought to it."""
    if settled.seq <= _applied_seq(account, settled.payment_key):
        return PaymentDecision(())
    mark = PaymentApplied(AppliedPayment(_digest(settled.payment_key), settled.seq, utc_day(at_ms)))
    match command:
        case ReverseCredit():
            # Its credit opened the account: without one nothing was credited, and there is nothing to take back.
            return PaymentDecision((), "no_account") if account is None else PaymentDecision((*_reversed(account, command, at_ms), mark))
        case CreditWallet():
            opened = () if account else (AccountOpened(command.team_id, at_ms),)
            credit = _credited(account, command, settled, command.amount_atomic, at_ms)
            return PaymentDecision((*opened, *credit.facts, mark), credit.refused)
        case OpenAccount():
            opened = () if account else (AccountOpened(command.team_id, at_ms),)
            begun = _begun(account, command, at_ms, rules)
            credit = _credited(account, command, settled, command.balance_atomic, at_ms)
            return PaymentDecision((*opened, *begun.facts, *credit.facts, mark), begun.refused)


def _begun(account: AccountSnapshot | None, command: OpenAccount, at_ms: int, rules: Rules) -> PaymentDecision:
    """The subscription of a bootstrap: begun unless the account stands on one."""
    if account is not None and not_cancelled(account) is not None:
        return PaymentDecision((), "account_exists")
    started = started_by(command, at_ms, rules)
    return PaymentDecision((), started.reason) if isinstance(started, Refused) else PaymentDecision((started,))


def _credited(
    account: AccountSnapshot | None, command: OpenAccount | CreditWallet, settled: SettledPayment, amount: int, at_ms: int
) -> PaymentDecision:
    """The credit; then the page it was paid for; what is left of it pays debt."""
    balance = 0 if account is None else account.balance_atomic
    # Beyond what JSON carries exactly no wallet grows: what does not fit is told in the entry, not refused.
    taken = min(amount, UNLIMITED - balance)
    entry = LedgerEntry(
        team_id=command.team_id, id=ledger_entry_of(settled.payment_key, settled.seq), entry="credit", reason="deposit", contra="deposits",
        amount_atomic=taken, balance_after_atomic=balance + taken, shortfall_atomic=amount - taken, command_id=command.command_id,
        payment=settled.reference, occurred_at=at_ms,
    )  # fmt: skip
    if amount == 0:
        return PaymentDecision(())
    page = _page(command, entry)
    if page is None:
        return PaymentDecision((WalletMoved(entry), *debt_paid(account, entry, taken)))
    if page.shortfall_atomic:
        return PaymentDecision((WalletMoved(entry), *debt_paid(account, entry, taken)), "insufficient_funds")
    left = taken + page.amount_atomic
    return PaymentDecision((WalletMoved(entry), WalletMoved(page), *debt_paid(account, page, left)))


def _page(command: OpenAccount | CreditWallet, credit: LedgerEntry) -> LedgerEntry | None:
    """The debit of the page a credit buys; with a shortfall if the wallet cannot pay for all of it even so."""
    page = command.page if isinstance(command, CreditWallet) else None
    if page is None:
        return None
    missing = max(0, page.amount_atomic - credit.balance_after_atomic)
    return credit.model_copy(update={
        "id": ledger_entry_of_event(EventId(page.event_id)), "entry": "debit", "reason": "replay", "contra": "revenue",
        "amount_atomic": missing - page.amount_atomic, "balance_after_atomic": credit.balance_after_atomic + missing - page.amount_atomic,
        "shortfall_atomic": missing, "quantity": page.rows, "event_id": page.event_id, "payment": None,
    })  # fmt: skip


def _reversed(account: AccountSnapshot, command: ReverseCredit, at_ms: int) -> tuple[AccountFact, ...]:
    settled, amount = command.settled, command.amount_atomic
    taken = min(amount, account.balance_atomic)
    entry = LedgerEntry(
        team_id=command.team_id, id=ledger_entry_of(settled.payment_key, settled.seq), entry="reversal", reason="reorg", contra="deposits",
        amount_atomic=-taken, balance_after_atomic=account.balance_atomic - taken, shortfall_atomic=amount - taken,
        command_id=command.command_id, payment=settled.reference, occurred_at=at_ms,
    )  # fmt: skip
    if amount == taken:
        return (WalletMoved(entry),)
    return WalletMoved(entry), DebtChanged(min(account.debt_atomic + amount - taken, UNLIMITED))


def _applied_seq(account: AccountSnapshot | None, payment_key: str) -> int:
    digest = _digest(payment_key)
    return next((one.seq for one in account.payments if one.digest == digest), 0) if account is not None else 0


def _digest(payment_key: str) -> str:
    digest = hashlib.sha256(payment_key.encode()).digest()[:_DIGEST_BYTES]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
