"""What a run came to, for people and as JSON. Measures nothing, judges nothing."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table

from kite_cli.chaos.recovery import Recovery, middle_and_worst
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
    table = Table("fault", "times", "recovery, median", "longest", "alone", title=f"seed {outcome.options.seed}", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for kind, ones in _by_kind(outcome).items():
        times = middle_and_worst(ones)
        middle, worst = ("-", "-") if times is None else (f"{times[0]:.1f} s", f"{times[1]:.1f} s")
        table.add_row(kind, str(len(ones)), middle, worst, str(sum(one.was_alone for one in ones)))
    return table


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


def _kind_json(kind: str, ones: list[Recovery]) -> dict[str, Any]:
    times = middle_and_worst(ones)
    return {
        "kind": kind,
        "times": len(ones),
        "targets": dict(Counter(one.injected.planned.target for one in ones)),
        "alone": sum(one.was_alone for one in ones),
        "recovery_median_s": None if times is None else round(times[0], 2),
        "recovery_longest_s": None if times is None else round(times[1], 2),
    }
