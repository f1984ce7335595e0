"""`kitectl audit --json` on the stack of a run, as an operator would start it: in a process of its own, with nothing but the folder."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, Final

import orjson

from kite_cli.failure import EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE, CommandFailed

_WAIT_S: Final = 60


async def audited(data: Path) -> dict[str, Any]:
    """What it says. Raises CommandFailed if it could not look."""
    # Settings of the caller's own Kite are none of this one's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KITE_", "X402_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kite_cli.cli", "audit", "--json", "--data", str(data), "--wait", str(_WAIT_S), env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        told, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode not in (EXIT_OK, EXIT_FAILED) or not told:
        last = said.decode("utf-8", "replace").strip()
        raise CommandFailed(f"kitectl audit could not look: {last}", "Run it again with --keep and see its logs.", EXIT_UNAVAILABLE)
    document: dict[str, Any] = orjson.loads(told)
    return document
