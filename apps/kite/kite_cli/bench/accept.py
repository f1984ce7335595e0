"""Measures how the gateway accepts: as fast as it can, at fixed rates, and how long messages then take to their readers."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from kite_cli.bench.generation import GENERATOR, LoadRun, run_load
from kite_cli.bench.load.job import Job, Kind, Sender
from kite_cli.bench.options import Sizes
from kite_cli.bench.scrape import settled
from kite_cli.bench.steps import Steps
from kite_cli.bench.teams import open_teams
from kite_cli.bench.whole import Kite


@dataclass(frozen=True, slots=True)
class Accepting:
    """`at_rate[i]` are the runs of `rates[i]` messages a second; `most` those without a rate."""

    most: tuple[LoadRun, ...]
    rates: tuple[int, ...]
    at_rate: tuple[tuple[LoadRun, ...], ...]


@dataclass(frozen=True, slots=True)
class Journeys:
    """Runs at `rate` messages a second: 202 to webhook, 202 to GET /events."""

    rate: int
    delivered: tuple[LoadRun, ...]
    replayable: tuple[LoadRun, ...]


async def heat(kite: Kite, sizes: Sizes, steps: Steps) -> None:
    """Keep a new stack busy without measuring it. Raises BenchFailed."""
    async with steps.step("warm up", sizes.heat_s):
        senders = await open_teams(kite, sizes.teams)
        job = job_of(kite, sizes, "closed", senders, rate=0, connections=sizes.closed_connections, seed=0)
        await run_load(kite, replace(job, warm_up_s=0, measure_s=sizes.heat_s))


async def measure_accept(kite: Kite, sizes: Sizes, steps: Steps) -> Accepting:
    """All runs of `accept`; each begins when the services have done what the last one left. Raises BenchFailed."""
    senders = await open_teams(kite, sizes.teams)
    at_rate: dict[int, list[LoadRun]] = {rate: [] for rate in sizes.rates}
    most: list[LoadRun] = []
    # Round by round, so that what changes on the machine over the minutes touches all figures alike.
    for number in range(sizes.runs):
        for rate, runs in at_rate.items():
            job = job_of(kite, sizes, "open", senders, rate=rate, connections=sizes.open_connections, seed=number)
            runs.append(await _run(kite, job, steps, f"accept at {rate}/s", _latency))
        job = job_of(kite, sizes, "closed", senders, rate=0, connections=sizes.closed_connections, seed=number)
        most.append(await _run(kite, job, steps, f"accept, {sizes.closed_connections} connections without a rate", _throughput))
    return Accepting(tuple(most), sizes.rates, tuple(tuple(runs) for runs in at_rate.values()))


async def measure_journeys(kite: Kite, sizes: Sizes, steps: Steps) -> Journeys:
    """All runs of `journeys`, each with teams of its own, whose streams begin empty. Raises BenchFailed."""
    runs: dict[Kind, list[LoadRun]] = {"delivered": [], "replayable": []}
    teams: dict[Kind, int] = {"delivered": sizes.teams, "replayable": sizes.read_teams}
    for number in range(sizes.runs):
        for kind, count in teams.items():
            senders = await open_teams(kite, count)
            job = job_of(kite, sizes, kind, senders, rate=sizes.journey_rate, connections=sizes.open_connections, seed=number)
            runs[kind].append(await _run(kite, job, steps, f"accepted to {kind} at {sizes.journey_rate}/s", _latency))
    return Journeys(sizes.journey_rate, tuple(runs["delivered"]), tuple(runs["replayable"]))


def job_of(kite: Kite, sizes: Sizes, kind: Kind, senders: tuple[Sender, ...], *, rate: float, connections: int, seed: int) -> Job:
    """A job against this Kite's gateway."""
    return Job(
        kind=kind, port=kite.port, senders=senders, connections=connections, rate=rate, warm_up_s=sizes.warm_up_s,
        measure_s=sizes.measure_s, body_bytes=sizes.body_bytes, seed=seed,
    )  # fmt: skip


async def _run(kite: Kite, job: Job, steps: Steps, text: str, in_words: Callable[[LoadRun], str]) -> LoadRun:
    await settled(kite)
    async with steps.step(text, job.warm_up_s + job.measure_s + 1) as step:
        run = await run_load(kite, job)
        step.said = f"{in_words(run)}, {run.outcome.errors} errors, generator {run.cpu.share(GENERATOR):.0%} of a core"
    return run


def _latency(run: LoadRun) -> str:
    return f"p50 {run.outcome.p50_ms:.1f} ms, p99 {run.outcome.p99_ms:.1f} ms"


def _throughput(run: LoadRun) -> str:
    return f"{run.outcome.per_s:,.0f}/s, p99 {run.outcome.p99_ms:.1f} ms"
