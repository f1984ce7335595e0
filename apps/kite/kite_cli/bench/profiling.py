"""Measures where the services' time goes while the gateway accepts as much as it can. The sampler costs some of it: shares, not rates."""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from kite_cli.bench.accept import heat, job_of
from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.generation import run_load
from kite_cli.bench.options import Sizes
from kite_cli.bench.scrape import settled
from kite_cli.bench.steps import Steps
from kite_cli.bench.teams import open_teams
from kite_cli.bench.whole import SERVICES, Kite, whole_kite
from kite_cli.local.readiness import until

_SIGNALS: Final = {"measuring": signal.SIGUSR1, "measured": signal.SIGUSR2}
_WRITTEN_WITHIN_S: Final = 20.0
_PLACES: Final = 25


@dataclass(frozen=True, slots=True)
class Profile:
    """One service: shares of its samples, by module of the innermost place, and by function of ours that the place was within."""

    samples: int
    own_by_module: Mapping[str, float]
    own_by_function: Mapping[str, float]
    within_ours: Mapping[str, float]


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


def profile_of(counted: Mapping[str, Mapping[str, int]]) -> Profile:
    """The shares of what a sampler wrote, greatest first."""
    own, within = counted["own"], counted["within"]
    samples = sum(own.values())
    modules: dict[str, int] = {}
    for place, count in own.items():
        module = _module(place)
        modules[module] = modules.get(module, 0) + count
    ours = {place: count for place, count in within.items() if place.startswith("kite_") and not place.startswith("kite_cli.")}
    return Profile(samples, *(_shares(counts, samples) for counts in (modules, own, ours)))


def _module(place: str) -> str:
    return place.partition(":")[0]


def _shares(counts: Mapping[str, int], samples: int) -> dict[str, float]:
    greatest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_PLACES]
    return {place: count / samples for place, count in greatest}


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
