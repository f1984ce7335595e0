"""Accounts made again from the entries and commands of one partition, and what live accounts may be while billing goes on. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kite_billing.application.rebuild_account import AccountFromLog, LoggedCommand, differences, settled_at
from kite_billing.domain.account import Rules
from kite_common.errors import Malformed
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import decode, decode_as
from kite_common.events.commands import Command
from kite_common.events.ledger import LedgerEntry
from kite_common.stream.input import Input


@dataclass(frozen=True, slots=True)
class TeamDiffers:
    """A team whose account is not what the log leads to, and in what."""

    team_id: str
    partition: int
    problems: tuple[str, ...]


@dataclass
class Compared:
    """What was compared. `by_balance`: teams whose opening the log has no more."""

    entries: int = 0
    commands: int = 0
    equal: int = 0
    by_balance: int = 0
    differing: list[TeamDiffers] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no account differs."""
        return not self.differing


class TeamsOfLog:
    """The teams of a partition while its log is read: all commands first, then entries in log order, then `compare`.

    `commands_to`: the offset of kite.commands up to which the live accounts have them. `at_ms`: now, which settles periods that are over.
    """

    def __init__(self, rules: Rules, commands_to: int, at_ms: int) -> None:
        self._rules, self._commands_to, self._at_ms = rules, commands_to, at_ms
        self._commands: dict[str, list[LoggedCommand]] = defaultdict(list)
        self._made: dict[str, AccountFromLog] = {}
        self._balances: dict[str, int] = {}
        # The accounts that live ones may stand for: as they were when we began to look, and after each entry since.
        self._since: dict[str, list[AccountSnapshot]] = {}
        # The same of balances alone, for teams without a beginning.
        self._stood: dict[str, set[int]] = {}
        self.found = Compared()

    def commands(self, lot: Sequence[Input]) -> None:
        """Records of kite.commands were read."""
        for one in lot:
            command = _command(one)
            if command is not None:
                self.found.commands += 1
                self._commands[command.team_id].append(LoggedCommand(one.offset, one.timestamp_ms, command))

    def entry(self, one: Input, *, recent: bool) -> None:
        """A record of kite.ledger was read; `recent`: it was appended after we began to look. Raises Malformed if it is no entry."""
        entry = decode_as(LedgerEntry, one.value)
        self.found.entries += 1
        made, before = self._of(entry.team_id), self._balances.get(entry.team_id, 0)
        if recent:
            self._remember(entry.team_id, made)
            self._stood.setdefault(entry.team_id, {before}).add(entry.balance_after_atomic)
        made.entry(entry)
        self._balances[entry.team_id] = entry.balance_after_atomic
        if recent:
            self._remember(entry.team_id, made)

    def compare(self, partition: int, live: Mapping[str, AccountSnapshot]) -> None:
        """Everything was read: name the teams whose live account is not what the log leads to."""
        for team_id in sorted(live.keys() | self._made.keys() | self._commands.keys()):
            problems = self._problems(team_id, live.get(team_id))
            if problems:
                self.found.differing.append(TeamDiffers(team_id, partition, tuple(problems)))

    def _of(self, team_id: str) -> AccountFromLog:
        made = self._made.get(team_id)
        if made is None:
            made = self._made[team_id] = AccountFromLog(self._commands.get(team_id, ()), self._rules)
        return made

    def _remember(self, team_id: str, made: AccountFromLog) -> None:
        account = made.account(self._commands_to)
        if account is not None:
            self._since.setdefault(team_id, []).append(account)

    def _problems(self, team_id: str, live: AccountSnapshot | None) -> Sequence[str]:
        made = self._of(team_id)
        account = made.account(self._commands_to)
        if live is None or account is None or account.opened_at != live.opened_at:
            # Also what a late credit opened because the log has the opening no more.
            return self._without_beginning(team_id, live, account)
        self.found.equal += 1
        standing = self._settled(live)
        # What came after the account was read cannot be asked of it; what was owed to the ledger then is in it now.
        problems = [*made.problems, *([] if team_id in self._since else made.left(self._commands_to))]
        if all(self._settled(one) != standing for one in (account, *self._since.get(team_id, ()))):
            problems += differences(self._settled(account), standing)
        if problems:
            self.found.equal -= 1
        return problems

    def _without_beginning(self, team_id: str, live: AccountSnapshot | None, account: AccountSnapshot | None) -> Sequence[str]:
        if live is None:
            return [] if account is None else ["there is no account, and the log leads to one"]
        self.found.by_balance += 1
        balance = self._balances.get(team_id)
        if balance is None or live.balance_atomic in self._stood.get(team_id, {balance}):
            return []
        return [f"balance_atomic: the last entry of the ledger leaves {balance}, the account says {live.balance_atomic}"]

    def _settled(self, account: AccountSnapshot) -> AccountSnapshot:
        return settled_at(account, self._at_ms, self._rules.catalog)


def _command(one: Input) -> Command | None:
    """The command in a record; None for what billing could not use either."""
    try:
        command = decode(one.headers, one.value)
    except Malformed:
        return None
    return command if isinstance(command, Command) and one.key == command.team_id.encode() else None
