"""What a dashboard is made of, and the expressions that most panels are: rates, quantiles, sums. Pure; knows nothing of Grafana's JSON.

`$__rate_interval`, `$service` and `$instance` are filled in by Grafana; `plain` does it for whoever asks Prometheus without one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Unit = Literal["short", "s", "cps", "reqps", "percentunit", "bytes", "none", "bool"]
# Of series that appear with the first event they count, which a rise does not see.
RARE: Final = "A first event ever makes a line appear at 0; the alerts see it."
# A third, half and all of a dashboard's width of 24.
THIRD: Final = 8
HALF: Final = 12
WHOLE: Final = 24

_VALUES: Final = {"$__rate_interval": "5m", "$service": ".*", "$instance": ".*"}
_NAMES: Final = re.compile(r"\b(?:kite_[a-z0-9_]+|process_[a-z_]+|kite:[a-z_:]+)")


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and what its lines are called: `{{label}}` stands for a label's value."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart, or with `now` one number as it is at this moment. `lines`: values from which on somebody is told; below 0 with `least`,
    a value that must not be undercut. `about`: what its metrics do not say by themselves. `runbook`: a page beside those of its alerts."""

    title: str
    unit: Unit
    queries: tuple[Query, ...]
    lines: tuple[float, ...] = ()
    least: float | None = None
    about: str = ""
    runbook: str = ""
    now: bool = False
    stacked: bool = False
    width: int = THIRD

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all series it looks at, in the order of their appearance; of a histogram, the metric's own."""
        names = (metric_of(name) for query in self.queries for name in _NAMES.findall(query.expression))
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page. `by_process`: it can be narrowed down to a service and to its processes."""

    name: str
    title: str
    about: str
    rows: tuple[Row, ...]
    by_process: bool = False

    def panels(self) -> Iterator[Panel]:
        """All of them, row by row."""
        return (panel for row in self.rows for panel in row.panels)


def plain(expression: str) -> str:
    """The expression as Prometheus takes it: rates over five minutes, all services, all processes."""
    for name, value in _VALUES.items():
        expression = expression.replace(name, value)
    return expression


def metric_of(series: str) -> str:
    """The metric that a series belongs to: histograms have three kinds of them."""
    return re.sub("_(bucket|count|sum)$", "", series)


def one(expression: str, legend: str) -> tuple[Query, ...]:
    """A panel of one expression."""
    return (Query(expression, legend),)


def rate(counter: str, *by: str, labels: str = "") -> tuple[Query, ...]:
    """How often a second, by labels."""
    return one(f"sum by ({', '.join(by)}) (rate({_of(counter, labels)}[$__rate_interval]))", _legend(by))


def rise(counter: str, *by: str, labels: str = "") -> tuple[Query, ...]:
    """How often within an hour, by labels: for what is rare (`RARE` says what it does not see)."""
    return one(f"sum by ({', '.join(by)}) (increase({_of(counter, labels)}[1h]))", _legend(by))


def quantiles(histogram: str, *by: str, labels: str = "", of: tuple[float, ...] = (0.5, 0.99), name: str = "") -> tuple[Query, ...]:
    """Such shares of the observations took no longer than this, by labels; `name` goes before the legend."""
    buckets = f"sum by ({', '.join(('le', *by))}) (rate({_of(histogram + '_bucket', labels)}[$__rate_interval]))"
    return tuple(
        Query(f"histogram_quantile({share}, {buckets})", " ".join(filter(None, (name, _legend(by), f"p{share * 100:g}"))))
        for share in of
    )  # fmt: skip


def mean(histogram: str, *by: str, labels: str = "") -> tuple[Query, ...]:
    """The mean of the observations, by labels."""
    total, count = (
        f"sum by ({', '.join(by)}) (rate({_of(histogram + part, labels)}[$__rate_interval]))" for part in ("_sum", "_count")
    )  # fmt: skip
    return one(f"{total} / {count}", _legend(by))


def highest(gauge: str, *by: str, labels: str = "") -> tuple[Query, ...]:
    """The worst of a gauge, by labels."""
    return one(f"max by ({', '.join(by)}) ({_of(gauge, labels)})", _legend(by))


def total(gauge: str, *by: str, labels: str = "") -> tuple[Query, ...]:
    """The sum of a gauge, by labels."""
    return one(f"sum by ({', '.join(by)}) ({_of(gauge, labels)})", _legend(by))


def _of(series: str, labels: str) -> str:
    return f"{series}{{{labels}}}" if labels else series


def _legend(by: tuple[str, ...]) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in by)
