"""What one may choose about a run, and the command that repeats it. Runs nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kite_cli.chaos.schedule import KINDS, schedule

# One replay: the engine in its folder can be open in one process at a time.
PROCESSES: Final = ("gateway", "gateway-2", "billing", "billing-2", "delivery", "delivery-2", "replay")


@dataclass(frozen=True, slots=True)
class ChaosOptions:
    """`kinds`: some of the faults there are. `data`: where the stack lives, None = a folder that goes with it, unless `keep`."""

    seed: int
    minutes: float
    kinds: tuple[str, ...] = tuple(KINDS)
    data: Path | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for faults there are not, or that do not fit into the time."""
        schedule(self.seed, self.minutes, self.kinds, PROCESSES)

    @property
    def again(self) -> str:
        """The command that runs it once more."""
        return f"kitectl chaos --seed {self.seed} --minutes {self.minutes:g} --faults {','.join(self.kinds)}"
