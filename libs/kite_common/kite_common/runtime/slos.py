"""What Kite promises its callers as shares of what they do, as one typed list, and the rules that tell when too much of it fails. Pure.

Burn rates over two windows each, after chapter 5 of the Site Reliability Workbook: a page when a thirty-day budget would be gone within
two days (14.4 times as fast as it may be used, over an hour) or within five (6 times, over six hours), a ticket within ten (3 times, a
day). The short window lets an alert end soon after its cause.

A stall is no share of anything: that nothing stands still for more than 30 s is told by the alert consumer-stalled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kite_common.errors import CODES
from kite_common.runtime.alerts import Severity

# What an operator has left out of the configuration is no failure.
_LEFT_OUT: Final = ("x402_unconfigured", "bootstrap_unconfigured")
_OURS: Final = "|".join(code for code, row in CODES.items() if row.status >= 500 and code not in _LEFT_OUT)


@dataclass(frozen=True, slots=True)
class Slo:
    """`objective`: the share that has to be good. `bad` and `total`: rates, in which `$window` stands for the range."""

    name: str
    objective: float
    bad: str
    total: str
    means: str

    @property
    def metric(self) -> str:
        """The recorded share of what is bad; a label tells the window."""
        return f"kite:slo_bad:ratio_rate:{self.name.replace('-', '_')}"


@dataclass(frozen=True, slots=True)
class Burn:
    """How fast a budget may burn before somebody is told."""

    long: str
    short: str
    factor: float
    severity: Severity


BURNS: Final = (Burn("1h", "5m", 14.4, "page"), Burn("6h", "30m", 6.0, "page"), Burn("1d", "2h", 3.0, "ticket"))
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d")


def _slower(histogram: str, seconds: float, labels: str = "") -> tuple[str, str]:
    """Rates of all observations and of those above a bucket's bound."""
    total = f"sum(rate({histogram}_count{'{' + labels + '}' if labels else ''}[$window]))"
    within = f'sum(rate({histogram}_bucket{{{labels + "," if labels else ""}le="{seconds}"}}[$window]))'
    return f"{total} - {within}", total


def _or_none(counter: str) -> str:
    """The rate of a counter with labels, which is not there before it has counted something: nothing, then, not unknown."""
    return f"(sum(rate({counter}[$window])) or vector(0))"


def _timed(name: str, objective: float, histogram: str, seconds: float, means: str) -> Slo:
    bad, total = _slower(histogram, seconds)
    return Slo(name, objective, bad, total, means)


SLOS: Final[tuple[Slo, ...]] = (
    Slo(
        "api", 0.999, _or_none(f'kite_gateway_refused_total{{code=~"{_OURS}"}}'),
        f"{_or_none('kite_gateway_messages_accepted_total')} + {_or_none('kite_gateway_refused_total')}",
        "of what gateways are asked to accept, 99.9 % is not answered 5xx",
    ),
    _timed("accept", 0.99, "kite_gateway_accept_seconds", 0.1, "99 % of messages are accepted within 100 ms"),
    Slo(
        "balance", 0.99, 'sum(rate(kite_billing_charges_projected_total{within="later"}[$window]))',
        "sum(rate(kite_billing_charges_projected_total[$window]))",
        "99 % of charges stand in the balance that callers are shown within 1 s of the append",
    ),
    _timed("first-attempt", 0.95, "kite_delivery_first_attempt_seconds", 0.5, "95 % of first attempts begin within 500 ms of the append"),
    _timed("replayable", 0.99, "kite_replay_event_to_replayable_seconds", 2.0, "99 % of events can be read within 2 s of their append"),
)  # fmt: skip


def recorded(slo: Slo) -> Iterator[tuple[str, str, str]]:
    """The recording rules of an SLO: name, window, expression."""
    for window in WINDOWS:
        bad, total = (expression.replace("$window", window) for expression in (slo.bad, slo.total))
        yield slo.metric, window, f"({bad}) / ({total})"


def burning(slo: Slo) -> Iterator[tuple[str, str, Burn]]:
    """Its alerts: name, expression, and what it is about."""
    for burn in BURNS:
        most = f"{burn.factor * (1 - slo.objective):.6g}"
        both = (f'{slo.metric}{{window="{window}"}} > {most}' for window in (burn.long, burn.short))
        yield f"slo-{slo.name}", " and ignoring(window) ".join(both), burn
