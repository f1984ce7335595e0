"""The journey of one message as values: stages with times, what is missing, how it is shown. Sends nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.table import Table

# In the order people think of them; the last three run side by side.
STAGES: Final = ("accepted", "billed", "delivered", "replayable")
_WHERE_TO_LOOK: Final[Mapping[str, str]] = {
    "accepted": "gateway", "billed": "billing", "delivered": "delivery", "replayable": "replay",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. `took_ms` counts from the moment the message was sent; None = it was not seen, and `seen` says what was instead."""

    name: str
    took_ms: float | None
    seen: str


@dataclass(frozen=True, slots=True)
class Journey:
    """One message, and the stages it came through."""

    event_id: str
    team_id: str
    stages: Sequence[Stage]

    @property
    def missing(self) -> list[Stage]:
        """The stages that were not seen."""
        return [stage for stage in self.stages if stage.took_ms is None]

    def to_json(self) -> dict[str, Any]:
        """The whole, as `kitectl smoke --json` prints it."""
        return {
            "ok": not self.missing,
            "event_id": self.event_id,
            "team_id": self.team_id,
            "stages": [{"stage": stage.name, "took_ms": stage.took_ms, "seen": stage.seen} for stage in self.stages],
        }

    def table(self) -> Table:
        """The stages for people."""
        table = Table("stage", "after", "seen")
        table.columns[1].justify = "right"
        for stage in self.stages:
            table.add_row(stage.name, "-" if stage.took_ms is None else f"{stage.took_ms:.1f} ms", stage.seen)
        return table

    def verdict(self) -> tuple[str, str]:
        """What is missing, and where to look, one line each. Needs a stage that is missing."""
        names = [stage.name for stage in self.missing]
        services = ", ".join(_WHERE_TO_LOOK[name] for name in names)
        said = "; ".join(f"{stage.name}: {stage.seen}" for stage in self.missing)
        advice = f"Look at the log of {services}; `kitectl status` shows what runs."
        return f"the message was not {' and not '.join(names)} ({said})", advice
