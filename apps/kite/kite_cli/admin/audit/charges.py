"""Usages of kite.events against their entries in kite.ledger: one each, of the right price. Pure.

Billing writes the entries of a partition in the order of its usages, so this is a merge of two lists: the next entry of a usage is that of
the oldest open one. Whatever breaks the order (an entry that is missing, doubled, or somewhere else) is looked for within a window, which
bounds the memory: what fell out of it is a violation.
"""

from collections import OrderedDict, deque
from typing import Any, Final, NamedTuple

from kite_cli.admin.audit.findings import Findings
from kite_cli.admin.audit.records import Place
from kite_common.ids import EventId, ledger_entry_of_event

# Entries and usages that wait for each other out of order. A clean log needs none.
_WINDOW: Final = 50_000
_REMEMBERED: Final = 50_000


class Usage(NamedTuple):
    """What an entry has to say of its usage."""

    event_id: str
    offset: int
    timestamp: int
    team_id: str
    kind: str
    quantity: int
    price: int


class _Entry(NamedTuple):
    offset: int
    fields: dict[str, Any]


class Charges:
    """Fed with usages and with entries that name an event and no command. An entry must not be fed before its usage, unless it is wrong."""

    def __init__(self, findings: Findings, events: Place, ledger: Place, partial: bool) -> None:
        """`partial`: older usages than those that are read have entries, too."""
        self._findings, self._events, self._ledger, self._partial = findings, events, ledger, partial
        self._since_ms: int | None = None
        self._open: deque[Usage] = deque()
        self._passed: OrderedDict[str, Usage] = OrderedDict()
        self._waiting: OrderedDict[str, _Entry] = OrderedDict()
        self._charged: OrderedDict[str, int] = OrderedDict()
        self._usages = 0

    @property
    def open(self) -> int:
        """Usages whose entry has not come yet."""
        return len(self._open)

    def reads_from(self, at_ms: int) -> None:
        """A record of kite.events with this append time was read; the first one counts."""
        if self._since_ms is None:
            self._since_ms = at_ms

    def usage(self, usage: Usage) -> None:
        """A usage was read."""
        self._usages += 1
        if self._waiting and usage.event_id in self._waiting:
            early = self._waiting.pop(usage.event_id)
            self._violated(usage.team_id, self._ledger.at(early.offset), f"entry of {usage.event_id} stands before those of older usages")
            self._compare(usage, early.offset, early.fields)
            return
        self._open.append(usage)

    def entry(self, offset: int, fields: dict[str, Any]) -> None:
        """An entry of a usage was read."""
        event_id = fields["event_id"]
        if self._open and self._open[0].event_id == event_id:
            self._compare(self._open.popleft(), offset, fields)
            self._remember(event_id, offset)
            return
        if self._partial and (self._since_ms is None or fields["occurred_at"] < self._since_ms):
            return
        self._out_of_order(offset, fields, event_id)

    def finish(self, charged_up_to: int) -> None:
        """No more records. Usages at or behind `charged_up_to` (billing's position) have no entry yet."""
        for entry in self._waiting.values():
            self._unknown(entry)
        for usage in (*self._passed.values(), *self._open):
            self._missing(usage, charged_up_to)
        self._findings.checked["charged"] += self._usages

    def _out_of_order(self, offset: int, fields: dict[str, Any], event_id: str) -> None:
        if event_id in self._charged:
            detail = f"usage {event_id} was charged at {self._ledger.at(self._charged[event_id])} and again here"
            self._violated(fields["team_id"], self._ledger.at(offset), detail)
        elif event_id in self._passed:
            usage = self._passed.pop(event_id)
            self._violated(usage.team_id, self._ledger.at(offset), f"entry of {event_id} stands behind those of younger usages")
            self._compare(usage, offset, fields)
            self._remember(event_id, offset)
        elif any(usage.event_id == event_id for usage in self._open):
            self._pass_to(event_id)
            self._compare(self._open.popleft(), offset, fields)
            self._remember(event_id, offset)
        else:
            self._waiting[event_id] = _Entry(offset, fields)
            if len(self._waiting) > _WINDOW:
                self._unknown(self._waiting.popitem(last=False)[1])

    def _pass_to(self, event_id: str) -> None:
        """Usages before this one have been passed over: their entries are missing, or stand too late."""
        while self._open[0].event_id != event_id:
            passed = self._open.popleft()
            self._passed[passed.event_id] = passed
            if len(self._passed) > _WINDOW:
                self._missing(self._passed.popitem(last=False)[1], None)

    def _compare(self, usage: Usage, offset: int, fields: dict[str, Any]) -> None:
        shortfall = fields.get("shortfall_atomic", 0)
        expected = (usage.team_id, "debit", "replay" if usage.kind == "replay" else "event", "revenue", usage.quantity, usage.timestamp)
        found = (
            fields["team_id"], fields["entry"], fields["reason"], fields["contra"], fields.get("quantity", 0), fields["occurred_at"]
        )  # fmt: skip
        if found != expected or shortfall - fields["amount_atomic"] != usage.price:
            wanted, took = f"{expected} {usage.price}", f"{found} {-fields['amount_atomic']} + {shortfall}"
            self._violated(usage.team_id, self._ledger.at(offset), f"usage {usage.event_id} is {wanted}, its entry {took}")
        elif fields["id"] != ledger_entry_of_event(EventId(usage.event_id)):
            detail = f"entry of {usage.event_id} has the id {fields['id']}, which is not derived from it"
            self._findings.violation("ledger_ids", usage.team_id, self._ledger.at(offset), detail)
        if shortfall:
            self._findings.count("charged", "debits with a shortfall (their reservations had lapsed)")

    def _remember(self, event_id: str, offset: int) -> None:
        self._charged[event_id] = offset
        if len(self._charged) > _REMEMBERED:
            self._charged.popitem(last=False)

    def _missing(self, usage: Usage, charged_up_to: int | None) -> None:
        if charged_up_to is not None and usage.offset >= charged_up_to:
            self._findings.under_way("usages not charged yet")
        else:
            self._violated(usage.team_id, self._events.at(usage.offset), f"usage {usage.event_id} ({usage.kind}) has no ledger entry")

    def _unknown(self, entry: _Entry) -> None:
        detail = f"entry of {entry.fields['event_id']}, which is no usage of the log, or was charged long before"
        self._violated(entry.fields["team_id"], self._ledger.at(entry.offset), detail)

    def _violated(self, team_id: str, position: str, detail: str) -> None:
        self._findings.violation("charged", team_id, position, detail)
