"""Commands to billing about one account. Each has an id; a repeat of the same id changes nothing."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from kite_common.events.accounts import Provider
from kite_common.events.fact import Amount, Count, SignedAmount, TeamFact, UnixMs
from kite_common.events.ledger import PaymentReference


class AccountCommand(TeamFact):
    """What all commands have: the id outcomes are written under, and when it was sent."""

    command_id: str
    sent_at: UnixMs


class SettledPayment(BaseModel):
    """Money of a payment key that is proven on the chain. `seq` counts the key's commands from 1: credit, reversal, credit again, ...;
    the command's id is `<payment key>#<seq>`, and an account applies it iff seq is above the last one it applied for that key."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    payment_key: str
    seq: Count
    log_index: Count
    reference: PaymentReference


class PageDebit(BaseModel):
    """The replayed page that a payment buys: debited together with its credit, under the id of its usage."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    event_id: str
    rows: Count
    amount_atomic: Amount


class OpenAccount(AccountCommand):
    """Create the account with a subscription and, on x402, a first balance. An open account is left as it is.

    `payment`: the settled payment `balance_atomic` comes from; it is credited even if the account is open already. `subscription_id` None:
    derived from the command.
    """

    kind: ClassVar[str] = "open-account"

    plan_id: str
    provider: Provider
    balance_atomic: Amount = 0
    subscription_id: str | None = None
    payment: SettledPayment | None = None


class Subscribe(AccountCommand):
    """Create or switch the subscription."""

    kind: ClassVar[str] = "subscribe"

    plan_id: str
    provider: Provider


class CancelSubscription(AccountCommand):
    """End the subscription; the balance stays."""

    kind: ClassVar[str] = "cancel-subscription"


class SetPastDue(AccountCommand):
    """An outside payment failed (`past_due` true: no ingest from now on), or was made after all. Only flat plans are paid outside."""

    kind: ClassVar[str] = "set-past-due"

    past_due: bool


class CreditWallet(AccountCommand):
    """Money that was settled: add it to the wallet. An unknown team gets an account; a credit of a payment is never refused.

    `settled`: the payment it comes from (`payment` then says the same for readers of the ledger); `page`: what is bought with it at once.
    """

    kind: ClassVar[str] = "credit-wallet"

    amount_atomic: Amount
    payment: PaymentReference | None = None
    settled: SettledPayment | None = None
    page: PageDebit | None = None


class ReverseCredit(AccountCommand):
    """A credited payment has left the chain: take it back. What the wallet does not hold is debt, taken from later credits."""

    kind: ClassVar[str] = "reverse-credit"

    amount_atomic: Amount
    settled: SettledPayment


class AdjustWallet(AccountCommand):
    """A correction by an operator; a debit takes at most what the wallet holds."""

    kind: ClassVar[str] = "adjust-wallet"

    amount_atomic: SignedAmount
    note: str


Command = OpenAccount | Subscribe | CancelSubscription | SetPastDue | CreditWallet | ReverseCredit | AdjustWallet

# amount_too_large: the balance would leave the range every JSON client reads exactly.
CommandRefusal = Literal[
    "account_exists", "no_account", "plan_not_found", "invalid_provider", "subscription_conflict", "amount_too_large"
]


class CommandOutcome(TeamFact):
    """What became of a command; waits for its sender in Redis for a short time, with the account as it was after it.

    `refusal` None = applied (or applied before: the repeat gets the account as it is now).
    """

    kind: ClassVar[str] = "command-outcome"

    command_id: str
    refusal: CommandRefusal | None = None
    applied: int
    balance_atomic: Amount = 0
    subscription_id: str | None = None
