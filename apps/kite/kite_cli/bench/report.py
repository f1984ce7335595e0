"""Tables -> Markdown and terminal. Decides nothing about what is in them."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table as RichTable

from kite_cli.bench.machine import Machine
from kite_cli.bench.results import Results
from kite_cli.bench.tables import Table, tables_of
from kite_cli.local.environment import PARTITIONS


def markdown(results: Results, plot: str | None = None) -> str:
    """The whole report; `plot` is the file name of the picture beside it."""
    return "\n".join(_lines(results, plot)) + "\n"


def section(table: Table) -> str:
    """One table as a section of a Markdown document."""
    return "\n".join(_table(table)).lstrip("\n") + "\n"


def show(results: Results, console: Console) -> None:
    """Print all tables."""
    for table in tables_of(results):
        show_table(table, console)


def show_table(table: Table, console: Console) -> None:
    """Print one."""
    shown = RichTable(*table.columns[:1], title=table.title, title_justify="left", title_style="bold", caption=table.note or None)
    shown.caption_justify = "left"
    for column in table.columns[1:]:
        shown.add_column(column, justify="right")
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown)


def _lines(results: Results, plot: str | None) -> Iterator[str]:
    yield "# Benchmarks"
    yield ""
    yield "Written by `make bench`; do not edit. Figures are the median of repeated runs, with the least and the greatest of them."
    if results.quick:
        yield ""
        yield "**A quick run that tries the tool out: its figures mean nothing.**"
    yield ""
    yield from _machine(results.machine, results)
    for table in tables_of(results):
        yield from _table(table)
    if plot is not None:
        yield ""
        yield f"![Latency of accept by rate]({plot})"


def _machine(machine: Machine, results: Results) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    sizes = results.sizes
    yield f"- Machine: {machine.cpu}, {machine.cores} cores, {machine.memory_gib:g} GiB, {machine.kernel}, Python {machine.python}"
    yield f"- Versions: Kite {machine.commit}, {versions}"
    yield (
        f"- {results.at}; {sizes.runs} runs of {sizes.measure_s:g} s after {sizes.warm_up_s:g} s of warm-up, the stack kept busy for "
        f"{sizes.heat_s:g} s before the first; {sizes.teams} teams, texts of "
        f"{sizes.body_bytes:,} bytes; one process of each service, one broker, {PARTITIONS} partitions, all on this machine, as is "
        "the load generator; settings as `kitectl up` has them, log lines included, only with a limit of requests that is never reached; "
        "chain and facilitator run only where payments, the cold start and the memory are measured"
    )


def _table(table: Table) -> Iterator[str]:
    yield ""
    yield f"## {table.title}"
    yield ""
    yield _row(table.columns)
    yield _row(("---", *("---:" for _ in table.columns[1:])))
    for row in table.rows:
        yield _row(row)
    if table.note:
        yield ""
        yield table.note


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
