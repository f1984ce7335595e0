"""Writes docs/metrics.md from the lists of metrics, alerts and SLOs. `--check`: exit 1 if the file is not what would be written."""

import sys
from pathlib import Path
from typing import Final

from kite_common.runtime.alerts import ALERTS, Alert
from kite_common.runtime.metrics import METRICS, MetricDef
from kite_common.runtime.slos import SLOS, Slo

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENT: Final = ROOT / "docs/metrics.md"
HEAD: Final = """# Metrics

Every process serves its metrics on `/metrics`, in the Prometheus text format. This page is written from the code
(`python scripts/write_metrics.py`), so it names all there are. Labels have few values: never a team, an event or a URL.

## When to worry

Expressions are Prometheus'; each leads to a page that says what callers see, where to look, and what to do. The same list is
`deploy/observe/alerts.yml`, for Prometheus to load. A page can wake somebody; a ticket waits for the morning.

| alert | when | what it means | what to do |
|---|---|---|---|
"""
PROMISED: Final = """
## What is promised

Shares of what callers do, over thirty days; `deploy/observe/slos.yml` tells when so much fails that the budget will be gone early.

| SLO | promise | bad |
|---|---|---|
"""
ALL: Final = """
## All metrics

| name | type, unit | labels | meaning |
|---|---|---|---|
"""


def text() -> str:
    """The document."""
    told = "".join(_alert(one) for one in ALERTS) + PROMISED + "".join(_slo(one) for one in SLOS)
    return HEAD + told + ALL + "".join(_row(one) for one in METRICS)


def main() -> int:
    """Write the file, or check it; the exit code."""
    wanted = text()
    if DOCUMENT.exists() and DOCUMENT.read_text("utf-8") == wanted:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{DOCUMENT.relative_to(ROOT)} is not what the code says: run scripts/write_metrics.py", file=sys.stderr)
        return 1
    DOCUMENT.write_text(wanted, "utf-8")
    print(f"wrote {DOCUMENT.relative_to(ROOT)}")
    return 0


def _alert(one: Alert) -> str:
    when = f"`{_cell(one.when)}`" + (f" for {one.for_s} s" if one.for_s else "")
    return f"| [{one.name}](runbooks/{one.name}.md), {one.severity} | {when} | {_cell(one.means)} | {_cell(one.do)} |\n"


def _slo(one: Slo) -> str:
    return f"| [slo-{one.name}](runbooks/slo-{one.name}.md) | {one.means} | `{_cell(one.bad.replace('$window', '5m'))}` |\n"


def _row(one: MetricDef) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels) or "-"
    return f"| `{one.name}` | {one.type}, {one.unit} | {labels} | {_cell(one.meaning)} |\n"


def _cell(content: str) -> str:
    return content.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
