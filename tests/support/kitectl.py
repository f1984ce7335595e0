"""`kitectl` as a user runs it: a process with arguments, an exit code and output; and one that runs `kitectl up`."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from kite_cli.local.folders import lib_folder, state_of
from kite_cli.local.identity import Identity
from kite_cli.local.leftovers import read_state

UP_WITHIN_S = 100
DOWN_WITHIN_S = 60


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[Any]:
        """What it printed as JSON, a document a line."""
        return [orjson.loads(line) for line in self.out.splitlines()]

    @property
    def document(self) -> Any:
        """The one document it printed."""
        (document,) = self.documents
        return document


@dataclass(frozen=True)
class Kitectl:
    """Commands on one data folder."""

    data: Path

    async def __call__(self, *arguments: str, **environment: str) -> Ended:
        process = await self.start(*arguments, **environment)
        out, err = await process.communicate()
        return Ended(process.returncode or 0, out.decode(), err.decode())

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        """Start a command without waiting for its end."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kite_cli.cli", *arguments, env=self._environment(environment),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    def _environment(self, own: Mapping[str, str]) -> dict[str, str]:
        # Settings of the machine the tests run on are none of ours.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KITE_")}
        return inherited | {"KITE_DATA_DIR": str(self.data), "KITE_LIB_DIR": str(lib_folder()), "COLUMNS": "200"} | dict(own)


@dataclass(frozen=True)
class Up:
    """A running `kitectl up --json`, and what it said once everything was up."""

    kitectl: Kitectl
    process: asyncio.subprocess.Process
    said: Mapping[str, Any]

    @property
    def children(self) -> list[Identity]:
        """The processes it has started."""
        return list(read_state(state_of(self.kitectl.data)).children.values())

    async def end(self, number: signal.Signals) -> int:
        """Send it a signal and wait for its end; its exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(DOWN_WITHIN_S):
            await self.process.communicate()
        return self.process.returncode or 0


@asynccontextmanager
async def up(kitectl: Kitectl, *arguments: str) -> AsyncIterator[Up]:
    """Start everything and wait until it says that it is up; it is ended afterwards if the test has not done it."""
    process = await kitectl.start("up", "--json", *arguments)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(UP_WITHIN_S):
            line = await process.stdout.readline()
        assert line, (await process.stderr.read()).decode()
        yield Up(kitectl, process, orjson.loads(line))
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await process.communicate()
