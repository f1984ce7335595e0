"""What one may choose about a benchmark, and how large its runs are. Measures nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

# In the order they run; `profile` has a run of its own at the end, because it slows down what it looks at.
SECTIONS: Final = ("start", "accept", "journeys", "drain", "payments", "profile")


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """`only`: some of SECTIONS, empty = all. `write`: the Markdown file, its plot beside it. `json`: results to stdout."""

    only: tuple[str, ...] = ()
    quick: bool = False
    json: bool = False
    write: Path | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.only if name not in SECTIONS]
        if unknown:
            raise ValueError(f"there is no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")

    def wants(self, section: str) -> bool:
        """Whether this section is to run."""
        return section in self.only or not self.only

    @property
    def sizes(self) -> "Sizes":
        """How large the runs are."""
        return QUICK if self.quick else FULL


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rates are messages a second, `_s` seconds, `drain_pairs` events with their usage.

    `heat_s`: how long a stack that was just started is kept busy before anything is measured, because its JVM compiles meanwhile.
    """

    runs: int
    rates: tuple[int, ...]
    warm_up_s: float
    measure_s: float
    drain_pairs: int
    rest_s: float
    cpu_rate: int
    journey_rate: int
    heat_s: float
    teams: int = 50
    # Fewer teams than elsewhere: one of them is read, and its messages are the samples.
    read_teams: int = 8
    closed_connections: int = 64
    open_connections: int = 128
    body_bytes: int = 1_000


FULL: Final = Sizes(
    runs=3, rates=(200, 1_000, 3_000), warm_up_s=3, measure_s=10, drain_pairs=500_000, rest_s=30, cpu_rate=1_000, journey_rate=200,
    heat_s=30,
)  # fmt: skip
QUICK: Final = Sizes(
    runs=1, rates=(50, 200), warm_up_s=0.3, measure_s=1, drain_pairs=5_000, rest_s=0.5, cpu_rate=200, journey_rate=50, heat_s=0.5,
    teams=8,
)  # fmt: skip
