"""What one may choose about a run, and the command that repeats it. Runs nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kite_cli.chaos.schedule import KINDS, schedule

PROCESSES: Final = tuple(service + which for service in ("gateway", "billing", "delivery", "replay") for which in ("", "-2"))


@dataclass(frozen=True, slots=True)
class ChaosOptions:
    """`kinds`: some of the faults there are. `data`: where the stack lives, None = a folder that goes with it, unless `keep`.
    `load`: how often senders send, 1 = some forty messages a second.
    `patience_s`: how long callers wait at the end for answers that are still open; what has none then may be there or not."""

    seed: int
    minutes: float
    kinds: tuple[str, ...] = tuple(KINDS)
    data: Path | None = None
    keep: bool = False
    patience_s: float = 150.0
    load: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError for faults there are not, or that do not fit into the time."""
        schedule(self.seed, self.minutes, self.kinds, PROCESSES)

    @property
    def again(self) -> str:
        """The command that runs it once more."""
        load = f" --load {self.load:g}" if self.load != 1 else ""
        return f"kitectl chaos --seed {self.seed} --minutes {self.minutes:g} --faults {','.join(self.kinds)}{load}"
