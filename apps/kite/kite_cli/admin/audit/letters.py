"""The dead letters of one partition: how many of what, which records they stand for, and whether money is among them. Pure."""

from collections import defaultdict
from typing import Any, Final

from kite_cli.admin.audit.findings import Findings
from kite_cli.admin.audit.records import Place
from kite_common.topics import COMMANDS, EVENTS, LEDGER, PAYMENTS

# Deliveries that were given up: what became of them is in kite.deliveries.
_GIVEN_UP: Final = frozenset({"attempts_exhausted", "gone", "blocked"})
_MONEY: Final = frozenset({("billing", EVENTS.name), ("billing", COMMANDS.name), ("billing", PAYMENTS.name), ("replay", LEDGER.name)})
_SHOWN: Final = 60


class Letters:
    """Fed with all dead letters before everything else."""

    def __init__(self, findings: Findings, place: Place, prefix: str = "") -> None:
        """`prefix` stands before the names of topics."""
        self._findings, self._place, self._prefix = findings, place, prefix
        self._of: dict[tuple[str, str], set[int]] = defaultdict(set)

    def letter(self, offset: int, fields: dict[str, Any]) -> None:
        """A dead letter was read."""
        self._findings.checked["dead_letters"] += 1
        service, reason, topic = str(fields.get("service")), str(fields.get("reason")), str(fields.get("topic"))
        self._findings.count("dead_letters", f"{service}: {reason[:_SHOWN]}")
        if reason in _GIVEN_UP and service == "delivery":
            return
        self._of[service, topic].add(int(fields.get("offset", -1)))
        if (service, topic.removeprefix(self._prefix)) in _MONEY:
            detail = f"{service} could not use {topic}-{fields.get('partition')}@{fields.get('offset')}: {reason[:200]}"
            self._findings.violation("dead_letters", str(fields.get("team_id")), self._place.at(offset), detail)

    def of(self, service: str, topic: str) -> frozenset[int]:
        """The offsets of a topic of this partition that a service could not use."""
        return frozenset(self._of.get((service, topic), ()))
