"""Outcomes of one partition: each event has one at least, each names an event, what is open waits in a retry topic. Pure.

Five bytes a record of kite.events: what became of the event at an offset, and a digest of its id. A billion records in 64 partitions are
80 MB a partition.
"""

import zlib
from array import array
from typing import Any, Final

from kite_cli.admin.audit.findings import Findings
from kite_cli.admin.audit.records import Place
from kite_common.ids import EventId, WebhookConfigId, delivery_of

_OPEN: Final = 1
_CONCLUDED: Final = 2
_PARKED: Final = 4
_AGAIN: Final = 8
# What a record of kite.deliveries may say last of a delivery that goes on.
_GOING_ON: Final = frozenset({"pending", "retrying"})
_GROW: Final = 65_536


class Deliveries:
    """Fed first with all events, then with all records of kite.deliveries and those of retry topics that are not handled yet."""

    def __init__(self, findings: Findings, events: Place, outcomes: Place, first: int) -> None:
        """`first`: the offset events are read from."""
        self._findings, self._events, self._outcomes, self._first = findings, events, outcomes, first
        self._ids = array("I")
        self._state = bytearray()
        # Of those that were redriven alone: how often.
        self._rounds: dict[int, int] = {}
        self._records = 0

    def event(self, offset: int, event_id: str) -> None:
        """An event was read."""
        at = offset - self._first
        if at >= len(self._ids):
            self._ids.extend(array("I", bytes(4 * (at + _GROW - len(self._ids)))))
            self._state.extend(bytes(len(self._ids) - len(self._state)))
        self._ids[at] = _digest(event_id)

    def outcome(self, offset: int, fields: dict[str, Any]) -> None:
        """A record of kite.deliveries was read."""
        self._records += 1
        if fields.get("test"):
            # A test event is in no stream.
            return
        at = self._place(offset, fields)
        if at is None:
            return
        round_, known = fields.get("redrives", 0), self._rounds.get(at, 0)
        if round_ < known:
            # What a round that was overtaken still does decides nothing.
            return
        if round_ > known:
            self._rounds[at] = round_
            self._state[at] = self._state[at] & _PARKED | _AGAIN
        state = self._state[at] & ~_OPEN
        # What says no status begins a round: it is asked for, and not attempted yet.
        if fields.get("status", "pending") in _GOING_ON:
            state |= _OPEN
        else:
            state |= _AGAIN if state & _CONCLUDED else _CONCLUDED
        self._state[at] = state
        if not round_:
            # A redrive keeps the id and goes where the team's config says now.
            self._derived(offset, fields)

    def parked(self, fields: dict[str, Any]) -> None:
        """A record of a retry topic that is still to be handled was read."""
        at = self._known(fields)
        if at is not None:
            self._state[at] |= _PARKED

    def unreadable(self, offset: int) -> None:
        """A record of kite.deliveries that nobody can read."""
        self._findings.violation("deliveries", "", self._outcomes.at(offset), "is no delivery record")

    def finish(self, delivered_up_to: int, excused: frozenset[int]) -> None:
        """No more records. Events at or behind `delivered_up_to` (delivery's position) have no outcome yet; `excused` have dead letters."""
        events = again = 0
        for at, (digest, state) in enumerate(zip(self._ids, self._state, strict=True)):
            if digest:
                events += 1
                again += state & _AGAIN != 0
                if state != _CONCLUDED:
                    self._judge(at + self._first, state, delivered_up_to, excused)
        self._findings.count("deliveries", "concluded more than once (attempts repeated after a crash, or redriven)", again)
        self._findings.checked["deliveries"] += events + self._records
        self._findings.checked["open_deliveries"] += events

    def _judge(self, offset: int, state: int, delivered_up_to: int, excused: frozenset[int]) -> None:
        if state & _PARKED:
            self._findings.under_way("deliveries waiting in retry topics")
        elif state & _OPEN and not state & _CONCLUDED:
            if offset - self._first in self._rounds:
                # Where delivery is with a redrive stands in no position of a topic.
                self._findings.under_way("redriven deliveries under way")
            elif offset < delivered_up_to:
                detail = "its delivery is open and waits in no retry topic"
                self._findings.violation("open_deliveries", "", self._events.at(offset), detail)
            else:
                self._findings.under_way("deliveries under way")
        elif not state:
            if offset >= delivered_up_to:
                self._findings.under_way("events not delivered yet")
            elif offset not in excused:
                self._findings.violation("deliveries", "", self._events.at(offset), "the event has no outcome in kite.deliveries")

    def _known(self, fields: dict[str, Any]) -> int | None:
        at: int = (fields["kiteseq"] >> 10) - self._first
        return at if 0 <= at < len(self._ids) and self._ids[at] == _digest(fields["event_id"]) else None

    def _place(self, offset: int, fields: dict[str, Any]) -> int | None:
        """Where the event of an outcome is; None for one before those that were read, and for one that names no event."""
        at: int = (fields["kiteseq"] >> 10) - self._first
        if at < 0 or at >= len(self._ids):
            # Older than what is read, or, of one appended meanwhile, younger.
            return None
        if self._ids[at] != _digest(fields["event_id"]) or fields["kiteseq"] & 0x3FF != self._events.partition:
            detail = f"names {fields['event_id']} at {fields['kiteseq']}, where the log has another event or none"
            self._findings.violation("deliveries", fields["team_id"], self._outcomes.at(offset), detail)
            return None
        return at

    def _derived(self, offset: int, fields: dict[str, Any]) -> None:
        config_id = fields.get("webhook_config_id")
        expected = delivery_of(EventId(fields["event_id"]), None if config_id is None else WebhookConfigId(config_id))
        if fields["delivery_id"] != expected:
            detail = f"the delivery {fields['delivery_id']} is not the one of its event and config"
            self._findings.violation("deliveries", fields["team_id"], self._outcomes.at(offset), detail)


def _digest(event_id: str) -> int:
    # Zero stands for: no event here.
    return zlib.crc32(event_id.encode()) or 1
