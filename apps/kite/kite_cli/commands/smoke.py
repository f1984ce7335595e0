"""`kitectl smoke`."""

from typing import Annotated

import typer

from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output

_STATS = typer.Option("--stats", help="Also show how long the last start took, and the memory of every process (local stack only).")


def smoke(stats: Annotated[bool, _STATS] = False, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Send one message through a running Kite and print its journey: accepted, billed, delivered, replayable.

    It receives the webhook itself, verifies its signature, and reads the log and the archive. In a local stack it has a team of its own;
    elsewhere it uses KITE_TEAM_ID and KITE_API_KEY at KITE_PUBLIC_URL, if that team has no webhook config.

    Exit code 1 if a stage is missing.
    """
    from kite_cli.failure import CommandFailed
    from kite_cli.smoke.command import run_smoke

    result = run(run_smoke(chosen_data(data), with_stats=stats))
    Output(as_json).result(result.to_json(), *result.shown())
    if result.journey.missing:
        raise CommandFailed(*result.journey.verdict())


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: kitectl smoke --stats")(smoke)
