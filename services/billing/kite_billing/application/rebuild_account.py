"""One team's account made again from the log alone: its commands and its entries of the ledger. Knows no records, writes nothing.

A ledger entry says all that a usage did: kind, quantity, price (what was taken and what was short), time. What moves no money, such as a
change of the plan, is in the commands only; `commands_to` of an entry says which of them came before it. The rules are those of billing:
every command and every usage is run again, and each must lead to the very entry that the ledger has.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kite_billing.application.run_command import Place, run_command
from kite_billing.domain.account import Rules, current
from kite_billing.domain.notices import noticed
from kite_billing.domain.tab import Tab
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.commands import Command
from kite_common.events.ledger import LedgerEntry
from kite_common.events.usage import UsageRecorded
from kite_common.plans import Catalog

_MOST_PROBLEMS: Final = 10


@dataclass(frozen=True, slots=True)
class LoggedCommand:
    """A command, where it stands in kite.commands, and when it was appended (ms)."""

    offset: int
    at_ms: int
    command: Command


class AccountFromLog:
    """Give it the team's entries in the order of the ledger; it runs the commands between them. `problems`: what did not come out as
    the ledger has it, the first ten."""

    def __init__(self, commands: Iterable[LoggedCommand], rules: Rules) -> None:
        self._rules = rules
        self._commands = deque(commands)
        self._account: AccountSnapshot | None = None
        self._tab: Tab | None = None
        # Entries that commands have led to and that the ledger has not been asked for yet.
        self._owed: deque[LedgerEntry] = deque()
        self.problems: list[str] = []

    def entry(self, entry: LedgerEntry) -> None:
        """The next entry of the team."""
        if entry.command_id is not None:
            self._of_command(entry)
            return
        while self._commands and _comes_first(self._commands[0], entry):
            self._run(self._commands.popleft())
        if self._tab is None and self._account is not None:
            self._tab = Tab(self._account, self._rules.catalog)
        if self._tab is None:
            self._problem(f"{entry.id}: there is no account yet")
        else:
            self._compare(entry, self._tab.charge(_usage_of(entry), entry.occurred_at))

    def account(self, commands_to: int) -> AccountSnapshot | None:
        """The account as it is now, and after all commands before offset `commands_to`; what comes later goes on from before them."""
        waiting = [one for one in self._commands if one.offset < commands_to]
        account = self._closed()
        for one in waiting:
            account = run_command(account, one.command, one.at_ms, Place(0, 0, one.offset + 1), self._rules).account
        return account

    def left(self, commands_to: int) -> Sequence[str]:
        """What the ledger lacks, once all entries were given, of what the commands before `commands_to` have led to."""
        return [f"{owed.id}: not in the ledger" for owed in self._owed if self._commands_done(commands_to)]

    def _commands_done(self, commands_to: int) -> bool:
        return not self._commands or self._commands[0].offset >= commands_to

    def _of_command(self, entry: LedgerEntry) -> None:
        while not self._owed and self._commands:
            self._run(self._commands.popleft())
        if self._owed:
            self._compare(entry, self._owed.popleft())
        else:
            self._problem(f"{entry.id}: no command leads to it")

    def _run(self, one: LoggedCommand) -> None:
        ran = run_command(self._closed(), one.command, one.at_ms, Place(0, 0, one.offset + 1), self._rules)
        self._account, self._tab = ran.account, None
        self._owed.extend(ran.entries)

    def _closed(self) -> AccountSnapshot | None:
        return self._account if self._tab is None else self._tab.account(0)

    def _compare(self, found: LedgerEntry, made: LedgerEntry) -> None:
        # Where a command without an effect was looked at may differ: it changed nothing.
        if _bare(found) != _bare(made):
            self._problem(f"{found.id}: the ledger says {_told(found)}, the log leads to {_told(made)}")

    def _problem(self, text: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(text)


def settled_at(account: AccountSnapshot, at_ms: int, catalog: Catalog) -> AccountSnapshot:
    """The account as time alone has made it by `at_ms`, without what only says where in the log it stands: two that are the same then
    are the same account."""
    told = noticed(current(account, at_ms, catalog), "", at_ms).account
    return told.model_copy(update={"applied": 0, "commands_to": 0})


def differences(rebuilt: AccountSnapshot, live: AccountSnapshot) -> list[str]:
    """The fields in which two accounts differ, with both values."""
    pairs = ((name, getattr(rebuilt, name), getattr(live, name)) for name in AccountSnapshot.model_fields)
    return [f"{name}: the log leads to {made}, the account says {found}" for name, made, found in pairs if made != found]


def _comes_first(command: LoggedCommand, entry: LedgerEntry) -> bool:
    """Whether billing ran the command before it charged the usage. Entries of older versions do not say: then the times decide."""
    return command.at_ms <= entry.occurred_at if entry.commands_to is None else command.offset < entry.commands_to


def _usage_of(entry: LedgerEntry) -> UsageRecorded:
    return UsageRecorded(
        team_id=entry.team_id, event_id=entry.event_id or "", usage_kind="replay" if entry.reason == "replay" else "message",
        quantity=entry.quantity, price_atomic=entry.shortfall_atomic - entry.amount_atomic, subscription_id="",
        reserved_at=entry.occurred_at,
    )  # fmt: skip


def _bare(entry: LedgerEntry) -> LedgerEntry:
    return entry.model_copy(update={"commands_to": None})


def _told(entry: LedgerEntry) -> str:
    return f"{entry.amount_atomic} with {entry.balance_after_atomic} left"
