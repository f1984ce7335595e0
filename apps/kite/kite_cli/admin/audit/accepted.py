"""Events and usages of one partition of kite.events: they stand in pairs, no id twice, every team where it belongs. Pure but for ids."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from kite_cli.admin.audit.findings import Findings
from kite_cli.admin.audit.records import Place
from kite_cli.admin.audit.unique_ids import UniqueIds
from kite_common.log_position import partition_of

# Billing's notices are free: they alone stand without a usage (kite_common.events.notices).
_NOTICES: Final = "kite.subscription."
_REPLAY: Final = "replay"


@dataclass(frozen=True, slots=True)
class _Opened:
    offset: int
    timestamp: int
    key: bytes
    event_id: str


class Accepted:
    """Fed in log order. `first`: the offset reading begins at; what stands before it is not known."""

    def __init__(self, findings: Findings, place: Place, partitions: int, ids: UniqueIds, first: int) -> None:
        self._findings, self._place, self._ids, self._first = findings, place, ids, first
        self._belongs = lru_cache(maxsize=100_000)(lambda key: partition_of(key, partitions) == place.partition)
        self._opened: _Opened | None = None
        self._events = self._usages = 0

    def event(self, offset: int, timestamp: int, key: bytes, event: dict[str, Any]) -> None:
        """An event was read."""
        event_id, event_type = str(event.get("kiteid")), str(event.get("type"))
        self._events += 1
        if self._opened is not None:
            self._alone(self._opened)
        self._opened = None if event_type.startswith(_NOTICES) else _Opened(offset, timestamp, key, event_id)
        self._ids.add(event_id, offset)
        self._where(offset, key)

    def usage(self, offset: int, timestamp: int, key: bytes, usage: dict[str, Any]) -> None:
        """A usage was read."""
        self._usages += 1
        self._where(offset, key)
        opened, self._opened = self._opened, None
        if usage.get("usage_kind") == _REPLAY:
            self._ids.add(str(usage.get("event_id")), offset)
            if opened is not None:
                self._alone(opened)
        elif opened is None:
            if offset != self._first:
                self._violated(offset, key, f"usage of {usage.get('event_id')} has no event before it")
        else:
            self._compare(opened, offset, timestamp, key, usage)

    def unreadable(self, offset: int, key: bytes, what: str) -> None:
        """A record nobody can read, and no dead letter says so."""
        self._violated(offset, key, what)

    def finish(self) -> None:
        """No more records."""
        if self._opened is not None:
            self._alone(self._opened)
        for event_id, first, again in self._ids.doubled():
            detail = f"{event_id} stands at {self._place.at(first)} and again here"
            self._findings.violation("event_ids", "", self._place.at(again), detail)
        self._findings.checked["accepted"] += self._events + self._usages
        self._findings.checked["event_ids"] += self._ids.count
        self._findings.checked["placement"] += self._events + self._usages

    def _compare(self, opened: _Opened, offset: int, timestamp: int, key: bytes, usage: dict[str, Any]) -> None:
        if usage.get("event_id") != opened.event_id:
            self._violated(offset, key, f"usage of {usage.get('event_id')} stands beside event {opened.event_id}")
        elif key != opened.key or usage.get("team_id") != key.decode("utf-8", "replace"):
            self._violated(offset, key, f"usage of {opened.event_id} is another team's than its event")
        elif timestamp != opened.timestamp:
            self._violated(offset, key, f"usage of {opened.event_id} was not appended together with its event")

    def _alone(self, opened: _Opened) -> None:
        self._violated(opened.offset, opened.key, f"event {opened.event_id} has no usage behind it")

    def _violated(self, offset: int, key: bytes, detail: str) -> None:
        self._findings.violation("accepted", key.decode("utf-8", "replace"), self._place.at(offset), detail)

    def _where(self, offset: int, key: bytes) -> None:
        if not self._belongs(key):
            self._findings.violation("placement", key.decode("utf-8", "replace"), self._place.at(offset), "the key belongs elsewhere")
