"""`kitectl chaos`."""

from pathlib import Path
from typing import Annotated

import typer

from kite_cli.failure import CommandFailed
from kite_cli.options import AsJson, run
from kite_cli.output import Output

_SEED = typer.Option("--seed", min=0, help="What the faults and their order follow from; without it one is drawn and told.")
_MINUTES = typer.Option("--minutes", min=0.1, help="How long faults are injected. Starting, draining and the verdict come on top.")
_FAULTS = typer.Option("--faults", metavar="KINDS", help="Some of the kinds, with commas between them; without it all of them.")
_PATIENCE = typer.Option("--patience", min=1, help="Seconds to wait at the end for messages whose outcome is open, which lasts up to 90.")
_LOAD = typer.Option("--load", min=0.1, max=20, help="Times as many messages as usual, which is about forty a second.")
_KEEP = typer.Option("--keep", help="Keep the data folder, with all logs.")
_DATA = typer.Option("--data", help="An empty folder to live in, which is kept; without it a temporary one.")


def chaos(
    seed: Annotated[int | None, _SEED] = None,
    minutes: Annotated[float, _MINUTES] = 15.0,
    faults: Annotated[str, _FAULTS] = "",
    keep: Annotated[bool, _KEEP] = False,
    data: Annotated[Path | None, _DATA] = None,
    patience: Annotated[float, _PATIENCE] = 150.0,
    load: Annotated[float, _LOAD] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Start a Kite of its own with two processes of each service, use it, break it in every way, and see that every promise was kept.

    Kills, freezes and wipes only what it has started itself. Prints what was injected and how long each recovery took, what was accepted,
    lost, doubled, reordered, and wrong balances. Exit code 1 if a promise was broken, with the command that repeats the run.
    """
    from kite_cli.chaos.command import chaos as run_chaos
    from kite_cli.chaos.options import ChaosOptions
    from kite_cli.chaos.report import shown, to_json
    from kite_cli.chaos.schedule import KINDS
    from kite_common.runtime.system import random_bits

    output, kinds = Output(as_json), tuple(filter(None, faults.split(","))) or tuple(KINDS)
    try:
        options = ChaosOptions(random_bits(31) if seed is None else seed, minutes, kinds, data, keep, patience, load)
    except ValueError as error:
        raise CommandFailed(str(error), "Give it more --minutes, or name fewer --faults: --faults kill,term,stop", 2) from error
    output.console.print(f"seed {options.seed}", highlight=False)
    outcome = run(run_chaos(options, output.console))
    output.result(to_json(outcome), *shown(outcome))
    if not outcome.ok:
        raise CommandFailed(f"{len(outcome.breaks)} promises were broken", f"Run it again: {options.again} --keep")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: kitectl chaos --seed 7 --minutes 2 --faults kill,term,stop,broker-restart")(chaos)
