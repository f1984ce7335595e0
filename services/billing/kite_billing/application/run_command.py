"""One command -> what it makes of the account, its ledger entries and its outcome. Knows no records, writes nothing."""

from dataclasses import dataclass

from kite_billing.domain.account import Refused, Rules, WalletMoved, decide, evolve, renewal
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.commands import Command, CommandOutcome
from kite_common.events.ledger import LedgerEntry


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a command. `account` is None only if the team has none; it equals the one before if nothing changed."""

    account: AccountSnapshot | None
    entries: tuple[LedgerEntry, ...]
    outcome: CommandOutcome


def run_command(account: AccountSnapshot | None, command: Command, at_ms: int, applied: int, rules: Rules) -> Ran:
    """Run a command appended at `at_ms` in the step that leads to position `applied`.

    A period that has ended by then is renewed first. A repeat and a refusal move no money and say how the account is now.
    """
    account = _renewed(account, at_ms, applied, rules)
    decision = decide(account, command, at_ms, rules)
    if isinstance(decision, Refused):
        return Ran(account, (), _outcome(account, command, applied, decision))
    for fact in decision:
        account = evolve(account, fact)
    if decision and account is not None:
        account = account.model_copy(update={"applied": applied})
    entries = tuple(fact.entry for fact in decision if isinstance(fact, WalletMoved))
    return Ran(account, entries, _outcome(account, command, applied, None))


def _renewed(account: AccountSnapshot | None, at_ms: int, applied: int, rules: Rules) -> AccountSnapshot | None:
    fact = None if account is None else renewal(account, at_ms, rules.catalog)
    return account if fact is None else evolve(account, fact).model_copy(update={"applied": applied})


def _outcome(account: AccountSnapshot | None, command: Command, applied: int, refused: Refused | None) -> CommandOutcome:
    subscription = account.subscription if account is not None else None
    return CommandOutcome(
        team_id=command.team_id, command_id=command.command_id, refusal=refused.reason if refused else None, applied=applied,
        balance_atomic=account.balance_atomic if account is not None else 0, subscription_id=subscription.id if subscription else None,
    )  # fmt: skip
