"""Writes deploy/observe/tests/slos.yml: how fast each budget has to burn for which alert. `--check`: exit 1 if it is not that.

Series are made of shares by what an SLO is about, not by its expression; which alerts are to be told stands in tables. One test has
the series of all SLOs, each burning as fast in proportion to its own budget.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kite_common.runtime.slos import SLOS

ROOT: Final = Path(__file__).resolve().parents[1]
FILE: Final = ROOT / "deploy/observe/tests/slos.yml"
HEAD: Final = """# Written by scripts/write_slo_tests.py: change it there. `0+40x749 30000+40x69` rises by 40 with each sample.
# Samples come every two minutes, rules are evaluated every ten: what tells after days takes seconds to test, not minutes.
rule_files: [../slos.yml]
evaluation_interval: 10m
tests:
"""
FIRING: Final = 'ALERTS{alertname=~"slo-.*",alertstate="firing"}'
# Minutes from one sample to the next: the shortest window has two of them.
STEP: Final = 2
# Events in such a step, of which some share is bad.
EVENTS: Final = 40_000
SEVERITY: Final = {"1h": "page", "6h": "page", "1d": "ticket"}
ALL: Final = ("1h", "6h", "1d")

# For a day and an hour the budget burns so many times as fast as it may: which windows tell.
STEADY: Final[Sequence[tuple[float, tuple[str, ...]]]] = (
    (15.0, ALL), (13.0, ("6h", "1d")), (6.5, ("6h", "1d")), (5.5, ("1d",)), (3.5, ("1d",)), (2.5, ()), (1.0, ()),
)  # fmt: skip
# A day and more at twenty times, then slower and slower: each short window, just below its bound, ends what its long one still sees.
EASING: Final = ((1_504, 20.0), (6, 13.0), (30, 5.4), (120, 2.7))
EASED: Final = (
    ("25h", ALL), ("25h10m", ("6h", "1d")), ("25h30m", ("6h", "1d")), ("25h40m", ("1d",)), ("27h", ("1d",)), ("27h40m", ()),
)  # fmt: skip
# From the minute on at which a quiet day ends at fifteen times: each long window waits until it is worth it, and not shorter.
ONSET: Final = (
    ("24h20m", ()), ("24h50m", ()), ("25h10m", ("1h",)), ("26h10m", ("1h",)), ("26h50m", ("1h", "6h")), ("28h", ("1h", "6h")), ("29h", ALL),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of minutes with one share of bad events."""

    minutes: int
    bad: float


# What is counted of each SLO, from shares: the series, and what share of all events it counts.
Counts = Mapping[str, Callable[[float], float]]
COUNTS: Final[Mapping[str, Counts]] = {
    "api": {
        'kite_gateway_messages_accepted_total{kind="message"}': lambda bad: (1 - bad) / 2,
        'kite_gateway_refused_total{code="invalid_json"}': lambda bad: (1 - bad) / 2,
        'kite_gateway_refused_total{code="service_unavailable"}': lambda bad: bad,
    },
    "accept": {
        'kite_gateway_accept_seconds_bucket{kind="message",le="0.1"}': lambda bad: 1 - bad,
        'kite_gateway_accept_seconds_count{kind="message"}': lambda _: 1,
    },
    "balance": {
        'kite_billing_charges_projected_total{within="1s"}': lambda bad: 1 - bad,
        'kite_billing_charges_projected_total{within="later"}': lambda bad: bad,
    },
    "first-attempt": {
        'kite_delivery_first_attempt_seconds_bucket{le="0.5"}': lambda bad: 1 - bad,
        "kite_delivery_first_attempt_seconds_count": lambda _: 1,
    },
    "replayable": {
        'kite_replay_event_to_replayable_seconds_bucket{le="2.0"}': lambda bad: 1 - bad,
        "kite_replay_event_to_replayable_seconds_count": lambda _: 1,
    },
}


def text() -> str:
    """The file."""
    return HEAD + "".join((*_steady(), _easing(), _onset(), _no_traffic(), _nothing_but_failures(), _nothing_refused()))


def main() -> int:
    """Write the file, or check it; the exit code."""
    wanted = text()
    if FILE.exists() and FILE.read_text("utf-8") == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{FILE.relative_to(ROOT)} is not what the code says: run scripts/write_slo_tests.py", file=sys.stderr)
        return 1
    FILE.write_text(wanted, "utf-8")
    print(f"wrote {FILE.relative_to(ROOT)}")
    return 0


def _steady() -> Iterator[str]:
    for times, windows in STEADY:
        yield _test(f"{times:g} times as fast as it may, for a day and an hour", [(1_500, times)], [("25h", windows)])


def _easing() -> str:
    return _test("20 times as fast for a day and an hour, then slower and slower", EASING, EASED)


def _onset() -> str:
    return _test("a day without anything bad, then 15 times as fast", [(1_440, 0.0), (310, 15.0)], ONSET)


def _no_traffic() -> str:
    series = (f"      - {{series: '{name}', values: '7x45'}}\n" for counts in COUNTS.values() for name in counts)
    return _case("nobody does anything", "".join(series), [_asked("90m", "")])


def _nothing_but_failures() -> str:
    series = "      - {series: 'kite_gateway_refused_total{code=\"service_unavailable\"}', values: '0+9x45'}\n"
    firing = "".join(_firing("api", window) for window in ALL)
    return _case("nothing has ever been accepted, everything is answered 503", series, [_asked("90m", firing)])


def _nothing_refused() -> str:
    """A rate of nothing is 0 and not unknown: a panel shows it, and what was never refused has used nothing of its budget."""
    series = "      - {series: 'kite_gateway_messages_accepted_total{kind=\"message\"}', values: '0+9x45'}\n"
    asked = 'kite:slo_bad:ratio_rate:api{window="1h"}'
    sample = f"          - {{labels: '{asked}', value: 0}}\n"
    moment = f"      - eval_time: 90m\n        expr: '{asked}'\n        exp_samples:\n{sample}"
    return _case("nothing has ever been refused", series, [moment])


def _test(name: str, parts: Sequence[tuple[int, float]], asked: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """`parts`: minutes, and how many times as fast as it may the budget of each SLO burns in them."""
    shares = {slo.name: [Part(minutes, times * (1 - slo.objective)) for minutes, times in parts] for slo in SLOS}
    series = "".join(
        f"      - {{series: '{counter}', values: '{_values(shares[slo.name], count)}'}}\n"
        for slo in SLOS for counter, count in COUNTS[slo.name].items()
    )  # fmt: skip
    firing = [(at, "".join(_firing(slo.name, window) for slo in SLOS for window in windows)) for at, windows in asked]
    return _case(name, series, [_asked(at, samples) for at, samples in firing])


def _values(parts: Sequence[Part], count: Callable[[float], float]) -> str:
    """A counter over these stretches, in promtool's notation."""
    value, stretches = 0, []
    for part in parts:
        step = round(EVENTS * count(part.bad))
        samples = part.minutes // STEP
        stretches.append(f"{value}+{step}x{samples - 1}")
        value += step * samples
    return " ".join(stretches)


def _case(name: str, series: str, asked: Sequence[str]) -> str:
    return f'  - name: "{name}"\n    interval: {STEP}m\n    input_series:\n{series}    promql_expr_test:\n{"".join(asked)}'


def _asked(at: str, samples: str) -> str:
    return f"      - eval_time: {at}\n        expr: '{FIRING}'\n        exp_samples:{chr(10) + samples if samples else ' []' + chr(10)}"


def _firing(slo: str, window: str) -> str:
    labels = f'alertname="slo-{slo}",alertstate="firing",severity="{SEVERITY[window]}",window="{window}"'
    return f"          - {{labels: 'ALERTS{{{labels}}}', value: 1}}\n"


if __name__ == "__main__":
    sys.exit(main())
