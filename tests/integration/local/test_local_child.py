"""One child under supervision on a disk that is full: who waits for it learns why it is not kept running."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kite_cli.local.identity import Identity
from kite_cli.local.process import Child, ProcessSpec
from kite_cli.local.restart import RestartPolicy
from kite_cli.local.step import StepFailed
from kite_common.testing.eventually import eventually

FULL = Path("/dev/full")
LASTS = (sys.executable, "-c", "import time; time.sleep(600)")
# What is waited for is said at once or never.
WITHIN_S = 10


async def at_once() -> bool:
    """Count as ready as soon as it runs."""
    return True


@asynccontextmanager
async def child(
    tmp_path: Path, *, log: Path | None = None, changed: Callable[[str, Identity | None], None] = lambda _name, _identity: None
) -> AsyncIterator[Child]:
    """A child that is stopped in the end."""
    spec = ProcessSpec("part", LASTS, at_once, policy=RestartPolicy(first_delay_s=0.01))
    child = Child(spec, log=log or tmp_path / "part.log", folder=tmp_path, changed=changed)
    try:
        yield child
    finally:
        await child.stop()


async def test_a_start_whose_log_cannot_be_had_says_so(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("no folder")
    async with child(tmp_path, log=tmp_path / "logs" / "part.log") as part, asyncio.timeout(WITHIN_S):
        with pytest.raises(StepFailed, match="could not be kept running"):
            await part.start()


async def test_a_child_that_cannot_be_started_again_is_given_up_and_stops_without_an_error(tmp_path: Path) -> None:
    async with child(tmp_path, log=tmp_path / "logs" / "part.log") as part, asyncio.timeout(WITHIN_S):
        await part.start()
        part.log.unlink()
        part.log.parent.rmdir()
        part.log.parent.write_text("no folder")
        await part.kill9()
        failure = await part.failed()
        assert (failure.step, str(part.log.parent) in failure.reason) == ("part", True)
        assert await part.stop()


async def test_a_process_that_cannot_be_noted_does_not_stay_behind(tmp_path: Path) -> None:
    noted: list[Identity | None] = []

    def on_a_full_disk(_name: str, identity: Identity | None) -> None:
        noted.append(identity)
        FULL.write_text("state")

    async with child(tmp_path, changed=on_a_full_disk) as part, asyncio.timeout(WITHIN_S):
        with pytest.raises(StepFailed, match="No space left on device"):
            await part.start()
        assert noted[-1] is None
        await eventually(lambda: part.pid is None, what="the process is gone")
