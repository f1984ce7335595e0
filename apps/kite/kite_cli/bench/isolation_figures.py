"""What the phases of an isolation run say: figures, their ratio with and without a hanging endpoint, a table. Pure."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kite_cli.bench.load.loops import Window
from kite_cli.bench.spread import Spread, percentile
from kite_cli.bench.tables import Table, spread_text

Mode = Literal["steady", "saturated"]

LEAST_THROUGHPUT: Final = 0.95
MOST_P99: Final = 1.20


@dataclass(frozen=True, slots=True)
class Figures:
    """Some endpoints in one phase: events that arrived a second, and milliseconds from the 202 to the arrival of `count` events.

    NaN where nothing was accepted in the window.
    """

    per_s: float
    p50_ms: float
    p99_ms: float
    count: int


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: the `others`, those of them that share a partition with the one that may hang (`beside`), and that one itself.

    `late_p99_ms` and `generator_cores`: how late the generator was, and what it used of the CPU. `errors`: answers other than 202.
    """

    hangs: bool
    others: Figures
    beside: Figures
    itself: Figures
    late_p99_ms: float
    generator_cores: float
    errors: int


@dataclass(frozen=True, slots=True)
class Isolation:
    """All phases of one mode; `rate` is messages a second over all endpoints, 0 if saturated."""

    mode: Mode
    endpoints: int
    beside: int
    rate: float
    seconds: float
    hang_s: float
    phases: tuple[Phase, ...]


@dataclass(frozen=True, slots=True)
class Ratios:
    """Median with a hanging endpoint over median without."""

    throughput: float
    p50: float
    p99: float


def alternating(rounds: int) -> tuple[bool, ...]:
    """Whether the endpoint hangs, phase by phase: each round once without and once with it. Raises ValueError without a round."""
    if rounds < 1:
        raise ValueError("rounds must be positive")
    return (False, True) * rounds


def who_hangs(partitions: Sequence[int]) -> int:
    """Which endpoint is to hang, given each one's partition: the first of those that share theirs with the most others."""
    return max(range(len(partitions)), key=lambda one: (partitions.count(partitions[one]), -one))


def figures_of(accepted_s: Mapping[str, float], arrived_s: Mapping[str, float], window: Window) -> Figures:
    """The figures of endpoints, from when each event was accepted and when it arrived first.

    Arrivals inside the window make the rate; latency is of events accepted inside it, whenever they arrived.
    """
    arrived = sum(map(window.holds, arrived_s.values()))
    waits_ms = sorted(
        (arrived_s[event_id] - at_s) * 1_000 for event_id, at_s in accepted_s.items() if window.holds(at_s) and event_id in arrived_s
    )
    seconds = window.end_s - window.begin_s
    return Figures(arrived / seconds, percentile(waits_ms, 0.5), percentile(waits_ms, 0.99), len(waits_ms))


def ratios_of(phases: Sequence[Phase], whose: Callable[[Phase], Figures]) -> Ratios:
    """The ratios of the figures that `whose` chooses; NaN where there is nothing to compare with."""
    return Ratios(
        _ratio(phases, lambda phase: whose(phase).per_s),
        _ratio(phases, lambda phase: whose(phase).p50_ms),
        _ratio(phases, lambda phase: whose(phase).p99_ms),
    )


def table_of(run: Isolation) -> Table:
    """What is shown of it."""
    others = ratios_of(run.phases, lambda phase: phase.others)
    throughput_aim = f">= {LEAST_THROUGHPUT}: {_reached(others.throughput >= LEAST_THROUGHPUT)}"
    p99_aim = f"<= {MOST_P99}: {_reached(others.p99 <= MOST_P99)}" if run.mode == "steady" else ""
    rows = [
        _row(run, "delivered/s", lambda phase: phase.others.per_s, throughput_aim),
        _row(run, "p50 ms", lambda phase: phase.others.p50_ms),
        _row(run, "p99 ms", lambda phase: phase.others.p99_ms, p99_aim),
    ]
    if run.beside:
        rows += [
            _row(run, f"its partition ({run.beside}): delivered/s", lambda phase: phase.beside.per_s),
            _row(run, f"its partition ({run.beside}): p99 ms", lambda phase: phase.beside.p99_ms),
        ]
    rows += [
        _row(run, "the hanging one: arrived/s", lambda phase: phase.itself.per_s),
        _row(run, "generator: late p99 ms", lambda phase: phase.late_p99_ms),
        _row(run, "generator: cores", lambda phase: phase.generator_cores),
    ]
    columns = ("of the others, if not said", "all answer", "one hangs", "ratio", "aim")
    return Table(f"Isolation, {_load(run)}", columns, tuple(rows), _note(run))


def _note(run: Isolation) -> str:
    wait = "" if run.mode == "steady" else "Saturated, the latency is that of a backlog that grows: no aim goes by it. "
    return (
        f"{run.endpoints} teams with an endpoint each; one of them answers every POST after {run.hang_s:g} s in every second phase. "
        f"{len(run.phases)} phases of {run.seconds:g} s in one run, in turn, each after all of the one before was delivered; medians "
        f"(least - greatest), their ratio. From the 202 as the sender sees it to the arrival of the POST. {wait}"
        f"{sum(phase.errors for phase in run.phases)} errors."
    )


def _load(run: Isolation) -> str:
    return f"{run.rate:,.0f} messages/s" if run.mode == "steady" else "saturated"


def _row(run: Isolation, text: str, figure: Callable[[Phase], float], aim: str = "") -> tuple[str, ...]:
    ratio = _ratio(run.phases, figure)
    return (text, _spread(run.phases, False, figure), _spread(run.phases, True, figure), "-" if math.isnan(ratio) else f"{ratio:.3f}", aim)


def _spread(phases: Sequence[Phase], hangs: bool, figure: Callable[[Phase], float]) -> str:
    values = [value for value in _values(phases, hangs, figure) if not math.isnan(value)]
    return spread_text(Spread.of(values)) if values else "-"


def _ratio(phases: Sequence[Phase], figure: Callable[[Phase], float]) -> float:
    without, with_it = (_values(phases, hangs, figure) for hangs in (False, True))
    if not without or not with_it:
        return math.nan
    base = statistics.median(without)
    return statistics.median(with_it) / base if base > 0 else math.nan


def _values(phases: Sequence[Phase], hangs: bool, figure: Callable[[Phase], float]) -> list[float]:
    return [figure(phase) for phase in phases if phase.hangs == hangs]


def _reached(is_so: bool) -> str:
    return "reached" if is_so else "missed"
