"""Runs a load generator as a process of its own and samples CPU exactly while it measures. Knows no figures."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.load.job import Job, Outcome
from kite_cli.bench.processes import CpuSample, CpuUse, sample, use_between
from kite_cli.bench.whole import Kite
from kite_cli.local.child_exec import bound_to_this_process
from kite_cli.local.environment import tool_environment

GENERATOR = "generator"
# For starting, preparing webhooks and waiting for late answers, beside the run itself.
_BESIDE_S = 90.0


@dataclass(frozen=True, slots=True)
class LoadRun:
    """One run: what the generator saw, and what each part, the generator among them, used of the CPU meanwhile."""

    outcome: Outcome
    cpu: CpuUse


async def run_load(kite: Kite, job: Job, told: Callable[[str], None] = lambda _state: None) -> LoadRun:
    """Make one run; `told` hears `measuring` and `measured`. Raises BenchFailed."""
    samples: dict[str, CpuSample] = {}
    process = await asyncio.create_subprocess_exec(
        *bound_to_this_process((sys.executable, "-m", "kite_cli.bench.load")), env=tool_environment(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip

    def heard(state: str) -> None:
        samples[state] = sample(kite.pids | {GENERATOR: process.pid})
        told(state)

    try:
        async with asyncio.timeout(job.warm_up_s + job.measure_s + 2 * job.patience_s + _BESIDE_S):
            outcome = await _outcome(process, job, heard)
            await process.wait()
    except TimeoutError as error:
        raise BenchFailed("the load generator does not come to an end") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return LoadRun(outcome, use_between(samples["measuring"], samples["measured"]))


async def _outcome(process: asyncio.subprocess.Process, job: Job, heard: Callable[[str], None]) -> Outcome:
    if process.stdin is None or process.stdout is None:
        raise BenchFailed("the load generator has no pipes")
    # By its input, not its arguments: those are there for everybody on the machine to read, and the job holds keys.
    process.stdin.write(job.to_json() + b"\n")
    await process.stdin.drain()
    async for line in process.stdout:
        said: dict[str, Any] = orjson.loads(line)
        if said["state"] == "done":
            return Outcome.from_json(said["outcome"])
        if said["state"] == "failed":
            raise BenchFailed(f"the load generator: {said['reason']}")
        heard(said["state"])
    raise BenchFailed("the load generator has ended without an outcome")
