"""How long the last start of the local stack took, and the memory of its processes. Measures nothing itself but memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.found import FoundStack

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Stats:
    """`first_accepted_s`: from the start of `kitectl up` to the first 202. `resident_bytes` by process."""

    first_accepted_s: float | None
    resident_bytes: Mapping[str, int]

    @property
    def total_bytes(self) -> int:
        """The memory of all together; what processes share is counted in each."""
        return sum(self.resident_bytes.values())

    def to_json(self) -> dict[str, Any]:
        """The whole, as `kitectl smoke --stats --json` prints it."""
        return {
            "first_accepted_s": self.first_accepted_s,
            "resident_bytes": dict(self.resident_bytes),
            "resident_bytes_total": self.total_bytes,
        }

    def table(self) -> Table:
        """Memory for people."""
        table = Table("process", "memory")
        table.columns[1].justify = "right"
        for name, count in self.resident_bytes.items():
            table.add_row(name, f"{count / _MIB:.0f} MiB")
        table.add_row("all", f"{self.total_bytes / _MIB:.0f} MiB", style="bold")
        return table

    def cold_start(self) -> str:
        """The start for people."""
        if self.first_accepted_s is None:
            return "cold start: not recorded"
        return f"cold start: first message accepted {self.first_accepted_s:.1f} s after `kitectl up` began"


def stats_of(stack: FoundStack | None, first_accepted_s: float | None) -> Stats:
    """The figures of a local stack. Raises CommandFailed without one: other processes are none of kitectl's."""
    if stack is None:
        raise CommandFailed("--stats needs a local stack", "Start one with `make run`, or leave --stats out.", EXIT_UNAVAILABLE)
    return Stats(first_accepted_s, stack.resident_bytes())
