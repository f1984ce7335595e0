"""The ledger of one partition, entry by entry: each balance follows from the one before, and snapshots say what the entries say. Pure.

Counters are counted from the ledger too: it has one entry per usage (see charges.py), in the order in which billing took them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from kite_cli.admin.audit.findings import CheckName, Findings
from kite_cli.admin.audit.records import Place
from kite_cli.admin.audit.unique_ids import UniqueIds
from kite_common.events.accounts import AccountSnapshot
from kite_common.ids import CommandId, EventId, ledger_entry_of_command, ledger_entry_of_debt, ledger_entry_of_event
from kite_common.x402.key import ledger_entry_of

_DAY_MS: Final = 86_400_000
# Billing takes the commands and usages of one moment in one step, commands first, and a command may begin a period or a day. So a usage of
# that moment may count on either side of it; no step takes longer than this.
_SLACK_MS: Final = 120_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What of a snapshot can be told from the ledger. `restarted`: the period was begun by a command, after an earlier subscription."""

    balance: int
    debt: int
    period_start: int | None
    period_used: int
    period_charged: int
    day: int
    day_used: int
    restarted: bool
    offset: int

    @classmethod
    def of(cls, account: AccountSnapshot, offset: int) -> "Standing":
        """Of the snapshot at an offset of kite.accounts."""
        current = account.subscription
        restarted = current is not None and current.period_start == current.anchored_at != account.opened_at
        return cls(
            account.balance_atomic, account.debt_atomic, None if current is None else current.period_start, account.period_used,
            account.period_charged_atomic, account.day, account.day_used, restarted, offset,
        )  # fmt: skip


class _Span:
    """What counts since a moment: `units` of events and what was `taken`; of both what stands so near that it may belong there or not."""

    __slots__ = ("after", "before", "begun", "start", "taken", "taken_after", "taken_before", "units")

    def __init__(self, start: int) -> None:
        self.start, self.begun = start, False
        self.units = self.taken = self.before = self.taken_before = self.after = self.taken_after = 0

    def add(self, at_ms: int, units: int, taken: int) -> None:
        # What comes later in the log and says an earlier time (another broker's clock) counts in the span that has begun.
        if self.begun or at_ms >= self.start:
            self.begun = True
            self.units += units
            self.taken += taken
            if at_ms < self.start + _SLACK_MS:
                self.after += units
                self.taken_after += taken
        elif at_ms >= self.start - _SLACK_MS:
            self.before += units
            self.taken_before += taken


class _Wallet:
    """One team's, as far as it was read."""

    __slots__ = ("balance", "day", "period", "stands")

    def __init__(self, stands: Standing | None = None) -> None:
        self.balance: int | None = None
        self.stands = stands
        self.period = None if stands is None or stands.period_start is None else _Span(stands.period_start)
        self.day = None if stands is None else _Span(stands.day * _DAY_MS)


class Wallets:
    """Fed with all entries of a partition in log order. `since_ms` None: from the first entry there ever was."""

    def __init__(self, findings: Findings, accounts: Place, ledger: Place, ids: UniqueIds, since_ms: int | None) -> None:
        self._findings, self._accounts, self._ledger, self._ids, self._since_ms = findings, accounts, ledger, ids, since_ms
        self._wallets: dict[str, _Wallet] = {}
        self._entries = 0

    def snapshot(self, team_id: str, stands: Standing) -> None:
        """The newest snapshot of a team; all of them before the first entry."""
        self._wallets[team_id] = _Wallet(stands)

    def entry(self, offset: int, fields: dict[str, Any]) -> None:
        """An entry was read."""
        self._entries += 1
        team_id, amount, after = fields["team_id"], fields["amount_atomic"], fields["balance_after_atomic"]
        wallet = self._wallets.get(team_id)
        if wallet is None:
            wallet = self._wallets[team_id] = _Wallet()
        before = wallet.balance
        if before is None:
            before = 0 if self._since_ms is None else after - amount
        if before + amount != after or after < 0:
            detail = f"{before} {amount:+} is not {after}" if after >= 0 else f"balance after is {after}"
            self._findings.violation("balances", team_id, self._ledger.at(offset), detail)
        wallet.balance = after
        if wallet.day is not None:
            at_ms, units = fields["occurred_at"], fields.get("quantity", 0) if fields["reason"] == "event" else 0
            taken = -amount if fields["contra"] == "revenue" else 0
            wallet.day.add(at_ms, units, taken)
            if wallet.period is not None:
                wallet.period.add(at_ms, units, taken)
        if fields.get("command_id") is not None:
            self._command(offset, fields)

    def finish(self, moving: Collection[str]) -> None:
        """No more entries. `moving`: teams with inputs behind billing's position, whose snapshots may be of another moment."""
        for team_id, wallet in self._wallets.items():
            if team_id in moving:
                self._findings.under_way("teams whose accounts change right now")
            elif wallet.stands is None:
                self._violated("snapshots", team_id, "", f"the ledger says {wallet.balance}, kite.accounts has no account")
            else:
                self._compare(team_id, wallet, wallet.stands)
        for entry_id, first, again in self._ids.doubled():
            self._violated("ledger_ids", "", self._ledger.at(again), f"{entry_id} stands at {self._ledger.at(first)} and again here")
        self._findings.checked["balances"] += self._entries
        self._findings.checked["ledger_ids"] += self._entries

    def _command(self, offset: int, fields: dict[str, Any]) -> None:
        # Ids of usages stand once because usages do and each has one entry; those of commands are looked at here.
        self._ids.add(fields["id"], offset)
        if fields["id"] not in _derived(fields):
            detail = f"entry of command {fields['command_id']} has the id {fields['id']}, which is not derived from it"
            self._violated("ledger_ids", fields["team_id"], self._ledger.at(offset), detail)

    def _compare(self, team_id: str, wallet: _Wallet, stands: Standing) -> None:
        at = self._accounts.at(stands.offset)
        self._findings.checked["snapshots"] += 1
        balance = wallet.balance
        if balance is None:
            # A team that was not read of since then has not moved.
            balance = 0 if self._since_ms is None else stands.balance
        if stands.balance != balance:
            self._violated("snapshots", team_id, at, f"balance is {stands.balance}, the ledger says {balance}")
        elif stands.balance < 0 or stands.debt < 0:
            self._violated("snapshots", team_id, at, f"balance is {stands.balance}, debt {stands.debt}")
        if (period := wallet.period) is not None and self._whole(period):
            self._findings.checked["counters"] += 1
            earlier, later = (0, 0) if not stands.restarted else (period.after, period.taken_after)
            self._within(team_id, at, "events of the period", stands.period_used, period.units - earlier, period.units + period.before)
            self._within(
                team_id, at, "charged in the period", stands.period_charged, period.taken - later, period.taken + period.taken_before
            )
        if (day := wallet.day) is not None and self._whole(day):
            self._findings.checked["counters"] += 1
            self._within(team_id, at, "events of the day", stands.day_used, day.units, day.units + day.before)

    def _whole(self, span: _Span) -> bool:
        return self._since_ms is None or span.start - _SLACK_MS >= self._since_ms

    def _within(self, team_id: str, at: str, what: str, says: int, least: int, most: int) -> None:
        if not least <= says <= most:
            counted = f"{least}" if least == most else f"{least} to {most}"
            self._violated("counters", team_id, at, f"{what}: kite.accounts says {says}, the ledger {counted}")

    def _violated(self, check: CheckName, team_id: str, position: str, detail: str) -> None:
        self._findings.violation(check, team_id, position, detail)


def _derived(fields: dict[str, Any]) -> tuple[str, ...]:
    """The ids an entry of a command may have."""
    command_id = CommandId(fields["command_id"])
    key, _, seq = command_id.rpartition("#")
    if fields.get("event_id") is not None:
        return (ledger_entry_of_event(EventId(fields["event_id"])),)
    if fields.get("payment") is not None and key and seq.isdigit():
        return (ledger_entry_of(key, int(seq)), ledger_entry_of_command(command_id))
    if fields["reason"] == "reorg":
        return (ledger_entry_of_debt(command_id),)
    return (ledger_entry_of_command(command_id),)
