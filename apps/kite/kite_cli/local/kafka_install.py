"""Bring Kafka into the library folder before a start: the jars, then the start-up archive, each by its own process."""

import asyncio
import sys
from pathlib import Path

from kite_cli.local.java import archive_of, find_java
from kite_cli.local.kafka_jars import VERSION, missing
from kite_cli.local.step import Progress, StepFailed
from kite_cli.local.tool import run_tool

_STEP = f"Apache Kafka {VERSION}"


async def ensure_kafka(lib: Path, progress: Progress, *, archive: bool = True) -> Path:
    """Return the folder of the intact jars, installing what is missing. Safe to interrupt and to run twice at once.

    Raises StepFailed if the jars cannot be had; a missing start-up archive is only reported.
    """
    find_java()
    folder = lib / f"kafka-{VERSION}"
    if await asyncio.to_thread(missing, folder):
        await _install(folder, progress)
    if archive and not archive_of(folder).exists():
        await _train(folder, progress)
    return folder


async def _install(folder: Path, progress: Progress) -> None:
    progress.doing(_STEP, "downloading its jars (45 MB) from Maven Central")
    command = (sys.executable, "-m", "kite_cli.local.kafka_jars", str(folder))
    code, text = await run_tool(command, line=lambda line: progress.doing(_STEP, f"downloading {line}"))
    if code:
        reason = text.splitlines()[-1] if text else "no reason given"
        advice = "Check the network (or the proxy settings) and run it again; it goes on where it stopped."
        raise StepFailed(_STEP, f"the jars could not be installed: {reason}", advice)
    progress.done(_STEP, f"installed in {folder}")


async def _train(folder: Path, progress: Progress) -> None:
    progress.doing(_STEP, "preparing a fast start, once (about 10 s)")
    command = (sys.executable, "-m", "kite_cli.local.kafka_archive", str(folder))
    code, text = await run_tool(command)
    outcome = f"no fast start, goes on without: {text}" if code else "fast start prepared"
    progress.done(_STEP, outcome)
