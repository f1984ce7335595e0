"""Options that several commands share, and how a command runs its asynchronous part. No command here."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from kite_cli.failure import EXIT_INTERRUPTED

ResultT = TypeVar("ResultT")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one document a line; texts for people go to standard error.")]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the local stack.", envvar="KITE_DATA_DIR", show_default=".kite of the checkout"),
]


def chosen_data(data: Path | None) -> Path:
    """The data folder a command works on."""
    from kite_cli.local.folders import data_folder

    return data.resolve() if data is not None else data_folder()


def run(work: Coroutine[object, object, ResultT]) -> ResultT:
    """Run the asynchronous part of a command; libraries' warnings go to standard error. Ctrl-C ends it with code 130."""
    from kite_common.runtime.observe import configure_logging

    configure_logging("error", "console", sys.stderr.buffer)
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
