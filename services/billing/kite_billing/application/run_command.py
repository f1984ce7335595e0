"""One command -> what it makes of the account, its ledger entries, its outcome, what is told. Knows no records, writes nothing."""

from dataclasses import dataclass

from kite_billing.domain.account import AccountFact, Refused, Rules, WalletMoved, current, decide, evolve
from kite_billing.domain.notices import Noticed, noticed, payment_failed
from kite_billing.domain.payment_credit import PaymentDecision, decide_payment, payment_of
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.commands import Command, CommandOutcome, SettledPayment
from kite_common.events.ledger import LedgerEntry
from kite_common.events.notices import SubscriptionNotice
from kite_common.events.payments import CreditApplied


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a command. `account` is None only if the team has none; it equals the one before if nothing changed.

    `credited` answers the payments processor, for commands of payments only.
    """

    account: AccountSnapshot | None
    entries: tuple[LedgerEntry, ...]
    outcome: CommandOutcome
    notices: tuple[SubscriptionNotice, ...] = ()
    credited: CreditApplied | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The step a command runs in, which leads to position `applied` of `partition`, and the offset behind the command itself."""

    partition: int
    applied: int
    commands_to: int = 0


def run_command(before: AccountSnapshot | None, command: Command, at_ms: int, place: Place, rules: Rules) -> Ran:
    """Run a command appended at `at_ms`.

    A period and a day that have ended by then are renewed first. A repeat and a refusal move no money and say how the account is now.
    """
    account = before and current(before, at_ms, rules.catalog)
    payment = payment_of(command)
    decision = decide(account, command, at_ms, rules) if payment is None else decide_payment(account, *payment, at_ms, rules)
    facts = _facts(decision)
    after = account
    for fact in facts:
        after = evolve(after, fact)
    told = _told(account, after, command, at_ms)
    after = None if told is None else told.account
    if after is not None and after is not before:
        after = after.model_copy(update={"applied": place.applied, "commands_to": place.commands_to})
    entries = tuple(fact.entry for fact in facts if isinstance(fact, WalletMoved))
    refused = decision if isinstance(decision, Refused) else None
    return Ran(
        after, entries, _outcome(after, command, place, refused), told.notices if told else (),
        _credit_applied(after, payment[1], command, place, decision) if payment and isinstance(decision, PaymentDecision) else None,
    )  # fmt: skip


def _facts(decision: tuple[AccountFact, ...] | Refused | PaymentDecision) -> tuple[AccountFact, ...]:
    if isinstance(decision, Refused):
        return ()
    return decision.facts if isinstance(decision, PaymentDecision) else decision


def _told(before: AccountSnapshot | None, after: AccountSnapshot | None, command: Command, at_ms: int) -> Noticed | None:
    """What the team is to be told; `before` is the account as time has made it."""
    if after is None:
        return None
    found, now = noticed(after, command.command_id, at_ms), after.subscription
    was = before.subscription.status if before is not None and before.subscription is not None else None
    if now is None or now.status != "past_due" or was == "past_due":
        return found
    return Noticed(found.account, (*found.notices, payment_failed(after, now, command.command_id, at_ms)))


def _outcome(account: AccountSnapshot | None, command: Command, place: Place, refused: Refused | None) -> CommandOutcome:
    subscription = account.subscription if account is not None else None
    return CommandOutcome(
        team_id=command.team_id, command_id=command.command_id, refusal=refused.reason if refused else None, applied=place.applied,
        balance_atomic=account.balance_atomic if account is not None else 0, subscription_id=subscription.id if subscription else None,
    )  # fmt: skip


def _credit_applied(
    account: AccountSnapshot | None, settled: SettledPayment, command: Command, place: Place, decision: PaymentDecision
) -> CreditApplied:
    return CreditApplied(
        payment_key=settled.payment_key, seq=settled.seq, team_id=command.team_id,
        balance_after_atomic=account.balance_atomic if account is not None else 0, applied=place.applied, partition=place.partition,
        refused=decision.refused,
    )  # fmt: skip
