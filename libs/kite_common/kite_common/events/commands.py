"""Commands to billing about one account. Each has an id; a repeat of the same id changes nothing."""

from typing import ClassVar, Literal

from kite_common.events.accounts import Provider
from kite_common.events.fact import Amount, SignedAmount, TeamFact, UnixMs
from kite_common.events.ledger import PaymentReference


class AccountCommand(TeamFact):
    """What all commands have: the id outcomes are written under, and when it was sent."""

    command_id: str
    sent_at: UnixMs


class OpenAccount(AccountCommand):
    """Create the account with a subscription and, on x402, a first balance. An open account is left as it is."""

    kind: ClassVar[str] = "open-account"

    plan_id: str
    provider: Provider
    balance_atomic: Amount = 0


class Subscribe(AccountCommand):
    """Create or switch the subscription."""

    kind: ClassVar[str] = "subscribe"

    plan_id: str
    provider: Provider


class CancelSubscription(AccountCommand):
    """End the subscription; the balance stays."""

    kind: ClassVar[str] = "cancel-subscription"


class CreditWallet(AccountCommand):
    """Money that was settled: add it to the wallet. An unknown team gets an account."""

    kind: ClassVar[str] = "credit-wallet"

    amount_atomic: Amount
    payment: PaymentReference | None = None


class AdjustWallet(AccountCommand):
    """A correction by an operator; a debit takes at most what the wallet holds."""

    kind: ClassVar[str] = "adjust-wallet"

    amount_atomic: SignedAmount
    note: str


Command = OpenAccount | Subscribe | CancelSubscription | CreditWallet | AdjustWallet

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
