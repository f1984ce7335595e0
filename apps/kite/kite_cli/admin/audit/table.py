"""An audit as people read it: a table of checks, the first violations of each, and what is still under way."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kite_cli.admin.audit.findings import CHECKS
from kite_cli.admin.audit.run import Report
from kite_cli.output import printable


def shown(report: Report) -> Iterator[RenderableType]:
    """What is printed, part by part."""
    found = report.findings
    table = Table("check", "checked", "violations", "note", box=None, pad_edge=False)
    for column in (1, 2):
        table.columns[column].justify = "right"
    for name in CHECKS:
        wrong = found.violated[name]
        style = "red" if wrong else ""
        table.add_row(name, f"{found.checked[name]:,}", Text(f"{wrong:,}", style), Text(printable(found.note_of(name))))
    yield table
    for name, advice in CHECKS.items():
        if found.kept[name]:
            yield f"\n{name}: {found.violated[name]:,} violations. {advice[0].upper()}{advice[1:]}."
            for one in found.kept[name]:
                yield f"  {printable(' '.join(part for part in (one.position, one.team_id, one.detail) if part))}"
            if (more := found.violated[name] - len(found.kept[name])) > 0:
                yield f"  and {more:,} more"
    if found.in_flight:
        yield "\nstill under way: " + "; ".join(f"{count:,} {what}" for what, count in found.in_flight.items())
    rate = report.records / max(report.seconds, 0.001)
    verdict = "nothing is wrong" if report.ok else "VIOLATIONS: see docs/audit.md"
    yield f"\n{report.records:,} records in {report.seconds:.1f} s ({rate:,.0f}/s): {verdict}"
