"""What Kite aims at, beside what was measured. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from kite_cli.bench.generation import LoadRun
from kite_cli.bench.results import Results
from kite_cli.bench.spread import Spread


@dataclass(frozen=True, slots=True)
class Aim:
    """`at_most`: the figure should not be greater, otherwise it should not be less. None was not measured."""

    text: str
    value: float
    unit: str
    at_most: bool
    found: Spread | None

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches it; None if it was not measured."""
        if self.found is None:
            return None
        return self.found.median <= self.value if self.at_most else self.found.median >= self.value


def aims_of(results: Results) -> list[Aim]:
    """All aims, in the order of a message's way."""
    accepting, journeys = results.accepting, results.journeys
    most = accepting.most if accepting else ()
    at_1000 = dict(zip(accepting.rates, accepting.at_rate, strict=True)).get(1_000, ()) if accepting else ()
    delivered = journeys.delivered if journeys else ()
    return [
        Aim("accepted and durable, one gateway worker", 5_000, "/s", False, _spread([run.outcome.per_s for run in most])),
        Aim("accept at 1,000/s, p99", 10, "ms", True, _p99(at_1000)),
        Aim("accepted to delivered, p50", 15, "ms", True, _spread([run.outcome.p50_ms for run in delivered])),
        Aim("accepted to delivered, p99", 100, "ms", True, _p99(delivered)),
        Aim("billing", 40_000, "records/s", False, _spread([drain.billing.per_s for drain in results.drains])),
        Aim("archive", 50_000, "rows/s", False, _spread([drain.archiver.per_s for drain in results.drains])),
        Aim("cold start to the first 202", 15, "s", True, _spread([start.first_202_s for start in results.starts])),
        Aim("memory at rest", 1_536, "MiB", True, _spread([sum(start.resident_mib.values()) for start in results.starts])),
    ]


def _p99(runs: Sequence[LoadRun]) -> Spread | None:
    return _spread([run.outcome.p99_ms for run in runs])


def _spread(values: Sequence[float]) -> Spread | None:
    return Spread.of(values) if values else None
