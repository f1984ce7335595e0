"""Double-entry facts with derived ids. Balances follow from entries, nobody sets one."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from kite_common.events.fact import Amount, Count, SignedAmount, TeamFact, UnixMs


class PaymentReference(BaseModel):
    """Where the money of a credit or reversal can be found on chain."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    network: str
    asset: str
    payer: str
    transaction: str


class LedgerEntry(TeamFact):
    """One movement of a team's wallet. `amount_atomic` is signed: credits positive, debits negative or zero.

    `contra` is the other side of the double entry; it moves by the same amount with the opposite sign.
    Charged events of flat plans have entries of amount zero, so that every accepted event has exactly one entry.
    `shortfall_atomic` is what a debit could not take because the wallet held less (0 unless a reservation had lapsed).
    `commands_to` stands in debits of usages: the team's commands at offsets of kite.commands before it came first, so that log and ledger
    alone say in which order an account was changed. Older entries are without it.
    """

    kind: ClassVar[str] = "ledger-entry"

    id: str
    entry: Literal["credit", "debit", "reversal"]
    reason: Literal["deposit", "event", "replay", "reorg", "correction"]
    contra: Literal["deposits", "revenue", "corrections"]
    amount_atomic: SignedAmount
    balance_after_atomic: Amount
    shortfall_atomic: Amount = 0
    quantity: Count = 0
    event_id: str | None = None
    command_id: str | None = None
    payment: PaymentReference | None = None
    commands_to: Count | None = Field(None, exclude_if=lambda offset: offset is None)
    occurred_at: UnixMs
