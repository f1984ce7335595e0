"""Writes docs/metrics.md from the lists of metrics and alerts. `--check`: exit 1 if the file is not what would be written."""

import sys
from pathlib import Path
from typing import Final

from kite_common.runtime.alerts import ALERTS
from kite_common.runtime.metrics import METRICS, MetricDef

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENT: Final = ROOT / "docs/metrics.md"
HEAD: Final = """# Metrics

Every process serves its metrics on `/metrics`, in the Prometheus text format. This page is written from the code
(`python scripts/write_metrics.py`), so it names all there are. Labels have few values: never a team, an event or a URL.

## When to worry

Expressions are Prometheus'; `for` stands for the time after which to tell somebody. Where a process hangs so that it answers nothing,
its metrics are missing: tell of `up == 0`, too.

| alert | when | what it means | what to do |
|---|---|---|---|
"""
ALL: Final = """
## All metrics

| name | type, unit | labels | meaning |
|---|---|---|---|
"""


def text() -> str:
    """The document."""
    alerts = "".join(f"| {one.name} | `{_cell(one.when)}` | {_cell(one.means)} | {_cell(one.do)} |\n" for one in ALERTS)
    return HEAD + alerts + ALL + "".join(_row(one) for one in METRICS)


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


def _row(one: MetricDef) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels) or "-"
    return f"| `{one.name}` | {one.type}, {one.unit} | {labels} | {_cell(one.meaning)} |\n"


def _cell(content: str) -> str:
    return content.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
