"""What a run came to, for people and as JSON. Measures nothing, judges nothing."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table

from kite_cli.chaos.recovery import Recovery, middle_and_worst, worst_beside_others
from kite_cli.chaos.run import Outcome
from kite_cli.chaos.verdict import counted

_SHOWN_BREAKS: Final = 20


def to_json(outcome: Outcome) -> dict[str, Any]:
    """The whole, as `kitectl chaos --json` prints it."""
    return {
        "ok": outcome.ok,
        "seed": outcome.options.seed,
        "minutes": outcome.options.minutes,
        "again": outcome.options.again,
        "faults": [_kind_json(kind, ones) for kind, ones in _by_kind(outcome).items()],
        "each": _each(outcome),
        "figures": outcome.figures,
        "breaks": counted(outcome.breaks),
        "longest_wait_s": {path: round(seconds, 1) for path, seconds in outcome.waits.items()},
        "statuses": outcome.statuses,
        "violations": [{"kind": one.kind, "what": one.what} for one in outcome.breaks],
        "audit": outcome.audit,
    }


def shown(outcome: Outcome) -> Iterator[RenderableType]:
    """The whole for people."""
    yield _faults(outcome)
    yield _promises(outcome)
    for one in outcome.breaks[:_SHOWN_BREAKS]:
        yield f"{one.kind}: {one.what}"
    if len(outcome.breaks) > _SHOWN_BREAKS:
        yield f"and {len(outcome.breaks) - _SHOWN_BREAKS} more (--json has all of them)"
    for violation in (outcome.audit or {}).get("violations", [])[:_SHOWN_BREAKS]:
        yield f"audit: {violation}"
    yield f"again: {outcome.options.again}"


def _faults(outcome: Outcome) -> Table:
    columns = ("times", "alone", "recovery, median", "longest", "longest beside others")
    table = Table("fault", *columns, title=f"seed {outcome.options.seed}", title_justify="left")
    table.caption = "alone: nothing else was in the same way until it had recovered; seconds from the end of the fault"
    for column in table.columns[1:]:
        column.justify = "right"
    for kind, ones in _by_kind(outcome).items():
        middle, worst = middle_and_worst(ones) or (None, None)
        row = (_seconds(middle), _seconds(worst), _seconds(worst_beside_others(ones)))
        table.add_row(kind, str(len(ones)), str(sum(one.was_alone for one in ones)), *row)
    return table


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def _promises(outcome: Outcome) -> Table:
    table = Table("what", "count")
    table.columns[1].justify = "right"
    for what, count in outcome.figures.items():
        table.add_row(what, f"{count:,}")
    for what, count in counted(outcome.breaks).items():
        table.add_row(what, f"{count:,}", style="bold red" if count else "bold")
    for path, seconds in outcome.waits.items():
        table.add_row(f"longest wait: {path}", f"{seconds:.1f} s")
    if outcome.audit is not None:
        table.add_row("kitectl audit", "ok" if outcome.audit["ok"] else "violations", style="bold" if outcome.audit["ok"] else "bold red")
    return table


def _by_kind(outcome: Outcome) -> dict[str, list[Recovery]]:
    found: dict[str, list[Recovery]] = {}
    for one in outcome.recovered:
        found.setdefault(one.injected.planned.kind, []).append(one)
    return found


def _each(outcome: Outcome) -> list[dict[str, Any]]:
    began_s = min((one.injected.began_s - one.injected.planned.at_s for one in outcome.recovered), default=0.0)
    return [
        {
            "at_s": round(one.injected.began_s - began_s, 1),
            "lasted_s": round(one.injected.ended_s - one.injected.began_s, 1),
            "kind": one.injected.planned.kind,
            "target": one.injected.planned.target,
            "recovery_s": None if one.seconds is None else round(one.seconds, 2),
            "alone": one.was_alone,
        }
        for one in outcome.recovered
    ]


def _kind_json(kind: str, ones: list[Recovery]) -> dict[str, Any]:
    middle, worst = middle_and_worst(ones) or (None, None)
    return {
        "kind": kind,
        "times": len(ones),
        "targets": dict(Counter(one.injected.planned.target for one in ones)),
        "alone": sum(one.was_alone for one in ones),
        "recovery_median_s": middle,
        "recovery_longest_s": worst,
        "recovery_longest_beside_others_s": worst_beside_others(ones),
    }
