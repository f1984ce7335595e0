"""One measurement as a program of its own: `python -m kite_cli.bench.rebuilds --pairs 20000 --write section.md`. Measures nothing."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console

from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.report import section, show_table
from kite_cli.bench.steps import Steps
from kite_cli.bench.tables import Table
from kite_cli.local.folders import lib_folder
from kite_cli.local.kafka_install import ensure_kafka
from kite_cli.local.step import ConsoleProgress, StepFailed
from kite_common.errors import KiteError


def run_alone(name: str, text: str, pairs: int, measure: Callable[[int, Steps], Awaitable[Table]]) -> int:
    """Measure with as many events as wanted (`pairs` of them without a wish), print the table, write it; the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m kite_cli.bench.{name}", description=text)
    parser.add_argument("--pairs", type=int, default=pairs, metavar="N", help=f"events with their usage (default: {pairs:,})")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as a section of Markdown")
    arguments, console = parser.parse_args(), Console(stderr=True)
    try:
        table = asyncio.run(_measured(arguments.pairs, measure, console))
    except (BenchFailed, StepFailed, KiteError, ExceptionGroup) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    show_table(table, Console())
    if arguments.write is not None:
        arguments.write.write_text(section(table), encoding="utf-8")
    return 0


async def _measured(pairs: int, measure: Callable[[int, Steps], Awaitable[Table]], console: Console) -> Table:
    progress = ConsoleProgress(console)
    try:
        await ensure_kafka(lib_folder(), progress)
    finally:
        progress.stop()
    return await measure(pairs, Steps(console))
