"""`kitectl bench`."""

from pathlib import Path
from typing import Annotated

import typer

from kite_cli.failure import EXIT_INTERRUPTED, CommandFailed
from kite_cli.options import AsJson
from kite_cli.output import Output

_QUICK = typer.Option("--quick", help="A minute that only tries the tool out; its figures mean nothing.")
_ONLY = typer.Option("--only", metavar="NAMES", help="Some of start,accept,journeys,drain,payments,profile; without it all of them.")
_WRITE = typer.Option("--write", metavar="FILE", help="Write the report as Markdown, its plot beside it.")


def bench(
    quick: Annotated[bool, _QUICK] = False,
    only: Annotated[str, _ONLY] = "",
    write: Annotated[Path | None, _WRITE] = None,
    as_json: AsJson = False,
) -> None:
    """Measure Kite on this machine, in a stack of its own that is gone afterwards. Takes some minutes."""
    from kite_cli.bench.command import run_bench
    from kite_cli.bench.failure import BenchFailed
    from kite_cli.bench.options import BenchOptions

    try:
        options = BenchOptions(tuple(filter(None, only.split(","))), quick, as_json, write)
    except ValueError as error:
        raise CommandFailed(str(error), "Name sections with commas between them: --only start,accept") from error
    try:
        run_bench(options, Output(as_json).console)
    except BenchFailed as error:
        raise CommandFailed(f"the benchmark cannot be done: {error}", "Remove the cause, then run it again.") from error
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: kitectl bench --only accept --write report.md")(bench)
