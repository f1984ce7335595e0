"""Run a short-lived helper process to its end, telling its lines. It dies with its caller; nothing is started again."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kite_cli.local.child_exec import bound_to_this_process


async def run_tool(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    line: Callable[[str], None] = lambda _: None,
) -> tuple[int, str]:
    """Run `command`, hand every line of its output to `line`, and return its code and its last lines.

    Ends it when the caller is cancelled. Blocks nothing but the caller.
    """
    process = await asyncio.create_subprocess_exec(
        *bound_to_this_process(command),
        env=dict(os.environ if env is None else env),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    last: list[str] = []
    try:
        async for raw in _output_of(process):
            text = raw.decode("utf-8", "replace").rstrip()
            last = [*last[-14:], text]
            line(text)
        return await process.wait(), "\n".join(last)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _output_of(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    if process.stdout is None:
        raise RuntimeError("the helper was started without a pipe")
    return process.stdout
