"""What checks count and find. Keeps the first violations of each check and counts the rest, so that no defect makes it grow."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final, Literal

CheckName = Literal[
    "accepted", "event_ids", "placement", "charged", "ledger_ids", "balances", "counters", "snapshots", "redis", "payments",
    "archive_events", "archive_ledger", "archive_deliveries", "deliveries", "open_deliveries", "positions", "dead_letters",
]  # fmt: skip

# Every check, what it means in a few words, and what to look at when it is red (docs/audit.md says more), in the order of the table.
CHECKS: Final[dict[CheckName, str]] = {
    "accepted": "an accepted event and its usage stand side by side: see the gateway's log at that time",
    "event_ids": "no event id stands twice: see the gateway's log and the team's Idempotency-Keys",
    "placement": "a team's records are in its own partition: see KITE_PARTITIONS of whoever wrote it",
    "charged": "one usage, one ledger entry of its price: see billing's log and `kite_billing_records_total`",
    "ledger_ids": "ledger ids are derived and stand once: two billing processes wrote; see `kitectl topics check`",
    "balances": "balance after = balance before + amount, never below zero: read the team's kite.ledger around it",
    "counters": "counters of period and day = usages: the team is let in too long or too short; see billing's log",
    "snapshots": "kite.accounts says what the ledger says: billing's state is damaged; stop billing before anything else",
    "redis": "Redis says what kite.accounts says: it can be made again from the log",
    "payments": "one credit per payment, and as much as the chain shows: `kitectl payments show`, `kitectl payments audit`",
    "archive_events": "each event stands once in the archive, byte by byte: it can be made again from the log",
    "archive_ledger": "each ledger entry stands once in the archive: it can be made again from the log",
    "archive_deliveries": "each delivery record stands once in the archive: it can be made again from the log",
    "deliveries": "each event has an outcome, each outcome an event: see delivery's log at that time",
    "open_deliveries": "what is not concluded waits in a retry topic: nobody will try it again; see delivery's log",
    "positions": "billing's state and its group stand at the same place: billing refuses to begin; see its /readyz",
    "dead_letters": "nothing about money is in kite.dead-letters: read the record's reason",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise. `position` is `topic-partition@offset`, a key in Redis, or empty."""

    check: CheckName
    team_id: str
    position: str
    detail: str


@dataclass(slots=True)
class Findings:
    """Of one partition, or of all of them once added up. `keep`: violations kept of each check."""

    keep: int = 20
    checked: dict[CheckName, int] = field(default_factory=lambda: defaultdict(int))
    violated: dict[CheckName, int] = field(default_factory=lambda: defaultdict(int))
    kept: dict[CheckName, list[Violation]] = field(default_factory=lambda: defaultdict(list))
    notes: dict[CheckName, list[str]] = field(default_factory=lambda: defaultdict(list))
    counted: dict[tuple[CheckName, str], int] = field(default_factory=lambda: defaultdict(int))
    in_flight: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def violation(self, check: CheckName, team_id: str, position: str, detail: str) -> None:
        """A promise is broken here."""
        self.violated[check] += 1
        if len(self.kept[check]) < self.keep:
            self.kept[check].append(Violation(check, team_id, position, detail))

    def note(self, check: CheckName, text: str) -> None:
        """Something to know that breaks no promise, such as why a check was not made."""
        if text not in self.notes[check]:
            self.notes[check].append(text)

    def count(self, check: CheckName, what: str, number: int = 1) -> None:
        """Things to tell how many there are of; they break no promise."""
        if number:
            self.counted[check, what] += number

    def under_way(self, what: str, number: int = 1) -> None:
        """Work that is not done yet."""
        if number:
            self.in_flight[what] += number

    def add(self, other: "Findings") -> None:
        """Take in what another partition has found."""
        for check, number in other.checked.items():
            self.checked[check] += number
        for check, number in other.violated.items():
            self.violated[check] += number
        for check, found in other.kept.items():
            self.kept[check] += found[: max(0, self.keep - len(self.kept[check]))]
        for check, notes in other.notes.items():
            for text in notes:
                self.note(check, text)
        for (check, what), number in other.counted.items():
            self.count(check, what, number)
        for what, number in other.in_flight.items():
            self.under_way(what, number)

    def note_of(self, check: CheckName) -> str:
        """All there is to say of a check on one line."""
        counts = [f"{number:,} {what}" for (of, what), number in sorted(self.counted.items()) if of == check]
        return "; ".join([*counts, *self.notes.get(check, ())])

    @property
    def ok(self) -> bool:
        """Whether no promise is broken."""
        return not any(self.violated.values())


def plain(findings: Findings) -> Findings:
    """The same without default factories, so that another process can send it."""
    return Findings(
        findings.keep, dict(findings.checked), dict(findings.violated), dict(findings.kept), dict(findings.notes),
        dict(findings.counted), dict(findings.in_flight),
    )  # fmt: skip
