"""How fast each budget of thirty days is used, and how much of it is left."""

from typing import Final

from kite_common.runtime.dashboards.panels import HALF, Dashboard, Panel, Query, Row, one
from kite_common.runtime.slos import BURNS, SLOS, WINDOWS, Slo

_MONTH: Final = "30d"
_PAIRS: Final = ", ".join(f"{burn.long} and {burn.short} above {burn.factor:g}" for burn in BURNS)


def _row(slo: Slo) -> Row:
    allowed = f"{1 - slo.objective:.6g}"
    bad, total = (expression.replace("$window", _MONTH) for expression in (slo.bad, slo.total))
    burn = f"{slo.metric} / {allowed}"
    return Row(f"{slo.name}: {slo.means}", (
        Panel(
            f"{slo.name}: times as fast as the budget may burn", "short", one(burn, "{{window}}"),
            lines=tuple(sorted(burn.factor for burn in BURNS)), runbook=f"slo-{slo.name}", width=HALF,
            about=f"Somebody is told where a long window and its short one are above the same line: {_PAIRS}.",
        ),
        Panel(
            f"{slo.name}: share that is bad", "percentunit",
            (*one(f'{slo.metric}{{window=~"{WINDOWS[0]}|1h|1d"}}', "{{window}}"), Query(f"vector({allowed})", "allowed")),
            runbook=f"slo-{slo.name}",
        ),
        Panel(
            f"{slo.name}: budget left", "percentunit", one(f"1 - (({bad}) / ({total})) / {allowed}", "left"), least=0.0, now=True, width=4,
            runbook=f"slo-{slo.name}", about="Of thirty days, or of as much as Prometheus still has.",
        ),
    ))  # fmt: skip


SLO: Final = Dashboard(
    "slo", "Kite: promises", "What is promised of thirty days, how fast the budget for its failing burns, and what is left of it.",
    tuple(_row(slo) for slo in SLOS),
)
