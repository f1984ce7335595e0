"""Measures what the services compute while the gateway accepts as much as it can. The sampler costs some of it: shares, not rates."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from kite_cli.bench.accept import heat, job_of
from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.generation import run_load
from kite_cli.bench.options import Sizes
from kite_cli.bench.scrape import settled
from kite_cli.bench.steps import Steps
from kite_cli.bench.teams import open_teams
from kite_cli.bench.whole import SERVICES, Kite, whole_kite
from kite_cli.local.readiness import until

ShareT = TypeVar("ShareT")
_SIGNALS: Final = {"measuring": signal.SIGUSR1, "measured": signal.SIGUSR2}
_WRITTEN_WITHIN_S: Final = 20.0
_PLACES: Final = 25


@dataclass(frozen=True, slots=True)
class Share:
    """Of the CPU time of a process: what was computed in a place itself, and with all that it called."""

    own: float
    within: float


@dataclass(frozen=True, slots=True)
class Profile:
    """One service under load. `modules`: most own time first; `functions`: of Kite, most time within first; `threads`: all but the main
    one, by name, what each computed in all."""

    samples: int
    cpu_s: float
    modules: Mapping[str, Share]
    functions: Mapping[str, Share]
    threads: Mapping[str, float]


async def measure_profile(sizes: Sizes, steps: Steps) -> Mapping[str, Profile]:
    """Profile all services during one closed loop. Raises BenchFailed, StepFailed."""
    with TemporaryDirectory(prefix="kite-bench-") as folder:
        outs = {name: Path(folder) / f"{name}.json" for name in SERVICES}
        commands = {name: (sys.executable, "-m", "kite_cli.bench.sampler", f"kite_{name}.main", str(out)) for name, out in outs.items()}
        async with whole_kite(commands) as kite:
            await heat(kite, sizes, steps)
            senders = await open_teams(kite, sizes.teams)
            await settled(kite)
            job = job_of(kite, sizes, "closed", senders, rate=0, connections=sizes.closed_connections, seed=0)
            async with steps.step("profile at most", job.warm_up_s + job.measure_s + 1) as step:
                run = await run_load(kite, job, lambda state: _signal(kite, state))
                step.said = f"{run.outcome.per_s:,.0f}/s under the samplers"
                await _written(outs)
        return {name: profile_of(json.loads(out.read_text())) for name, out in outs.items()}


def profile_of(sampled: Mapping[str, Any]) -> Profile:
    """The shares of what a sampler wrote, greatest first. Raises BenchFailed if it has seen nothing."""
    cpu_s, own, within = sampled["cpu_s"], sampled["own"], sampled["within"]
    if not cpu_s or not own:
        raise BenchFailed("a service has computed nothing while it was looked at")
    own_modules: dict[str, float] = {}
    for place, seconds in own.items():
        module = place.partition(":")[0]
        own_modules[module] = own_modules.get(module, 0.0) + seconds
    modules = {name: Share(own_modules.get(name, 0.0) / cpu_s, seconds / cpu_s) for name, seconds in sampled["modules"].items()}
    functions = {name: Share(own.get(name, 0.0) / cpu_s, seconds / cpu_s) for name, seconds in within.items() if _is_ours(name)}
    threads = {name: seconds / cpu_s for name, seconds in sampled["threads"].items()}
    return Profile(
        sampled["samples"], cpu_s, _greatest(modules, lambda share: share.own), _greatest(functions, lambda share: share.within),
        _greatest(threads, lambda share: share),
    )  # fmt: skip


def _is_ours(place: str) -> bool:
    """A function of Kite that says something: not one of the sampler's, and not a module as a whole."""
    return place.startswith("kite_") and not place.startswith("kite_cli.") and not place.endswith(":<module>")


def _greatest(shares: Mapping[str, ShareT], size: Callable[[ShareT], float]) -> dict[str, ShareT]:
    return dict(sorted(shares.items(), key=lambda item: (-size(item[1]), item[0]))[:_PLACES])


def _signal(kite: Kite, state: str) -> None:
    for name in SERVICES:
        kite.local.child(name).signal(_SIGNALS[state])


async def _written(outs: Mapping[str, Path]) -> None:
    async def all_there() -> bool:
        return all(out.exists() for out in outs.values())

    try:
        async with asyncio.timeout(_WRITTEN_WITHIN_S):
            await until(all_there, 0.05)
    except TimeoutError as error:
        raise BenchFailed("a service has not written its profile") from error
