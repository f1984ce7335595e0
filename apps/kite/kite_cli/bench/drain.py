"""Measures how fast billing and the archiver work off a backlog, each alone with Kafka, and checks that every event is there once."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kite_cli.bench.backlog import append_backlog
from kite_cli.bench.counts import LedgerCount, count_archive, count_ledger
from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.load.job import Sender
from kite_cli.bench.options import Sizes
from kite_cli.bench.processes import CpuSample, CpuUse, sample, use_between
from kite_cli.bench.scrape import read, settled, total
from kite_cli.bench.steps import Steps
from kite_cli.bench.teams import open_teams
from kite_cli.bench.whole import Kite, bare_stack, start_services

_LOOK_S = 0.1
_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Drained:
    """One service's way through the backlog: `count` of what it makes, from its first progress to its last."""

    count: int
    per_s: float
    cpu: CpuUse


@dataclass(frozen=True, slots=True)
class Drain:
    """One run: `pairs` events with their usage; billing makes ledger entries, the archiver rows of events and of the ledger."""

    pairs: int
    billing: Drained
    archiver: Drained


async def measure_drain(sizes: Sizes, steps: Steps) -> tuple[Drain, ...]:
    """Drain `sizes.runs` times, each on a stack of its own. Raises BenchFailed, StepFailed."""
    return tuple([await _drain(sizes, steps) for _ in range(sizes.runs)])


async def _drain(sizes: Sizes, steps: Steps) -> Drain:
    async with bare_stack() as kite:
        pairs = sizes.drain_pairs
        await start_services(kite, ("billing",))
        senders = await open_teams(kite, sizes.teams)
        await kite.local.child("billing").stop()
        await _append(kite, senders, sizes, steps)
        async with steps.step("billing drains", pairs / 20_000) as step:
            billing = await _watch(kite, "billing", pairs, lambda text: total(text, "kite_billing_records_total", kind="usage"))
            step.said = f"{billing.per_s:,.0f} records/s"
        ledger = await count_ledger(kite)
        _check("ledger entries", pairs, ledger.of_events, ledger.distinct)
        async with steps.step("archiver drains", pairs / 20_000) as step:
            archiver = await _watch(kite, "replay", rows_of(pairs, ledger), lambda text: total(text, "kite_replay_rows_archived_total"))
            step.said = f"{archiver.per_s:,.0f} rows/s"
        _check("archive rows", pairs, *await count_archive(kite))
        return Drain(pairs, billing, archiver)


def rows_of(pairs: int, ledger: LedgerCount) -> int:
    """What the archiver makes of a log: a row of each event, and one of each ledger entry."""
    return pairs + ledger.entries


async def _append(kite: Kite, senders: Sequence[Sender], sizes: Sizes, steps: Steps) -> None:
    async with steps.step(f"append {sizes.drain_pairs:,} events with their usage", sizes.drain_pairs / 15_000) as step:
        done = 0

        def told(count: int) -> None:
            nonlocal done
            done = count

        began = time.monotonic()
        await append_backlog(kite, senders, sizes.drain_pairs, sizes.body_bytes, told)
        step.said = f"{done / (time.monotonic() - began):,.0f}/s"


@dataclass(frozen=True, slots=True)
class Mark:
    """How much was done at one look."""

    done: float
    cpu: CpuSample


async def _watch(kite: Kite, service: str, expected: int, done_of: Callable[[str], float]) -> Drained:
    """Start a service, look at what it has done until that is all of it, and stop it. Raises BenchFailed."""
    marks: list[Mark] = []
    starting = asyncio.create_task(_start(kite, service))
    try:
        async with asyncio.timeout(_WITHIN_S):
            while not marks or marks[-1].done < expected:
                await asyncio.sleep(_LOOK_S)
                if starting.done():
                    starting.result()
                if done := done_of(await read(kite, service) if service in kite.pids else ""):
                    marks.append(Mark(done, sample(kite.pids)))
            await starting
            await settled(kite, service)
    except TimeoutError as error:
        raise BenchFailed(f"{service} has done {marks[-1].done if marks else 0:.0f} of {expected} within {_WITHIN_S:.0f} s") from error
    finally:
        starting.cancel()
    if marks[-1].done > expected:
        raise BenchFailed(f"{service} has done {marks[-1].done:.0f}, expected {expected}")
    await kite.local.child(service).stop()
    return drained(marks)


def drained(marks: Sequence[Mark]) -> Drained:
    """What lies between the first and the last look. Raises BenchFailed if there is only one."""
    first, last = marks[0], marks[-1]
    if last.done <= first.done:
        raise BenchFailed("all was done before it could be looked at: the backlog is too small")
    use = use_between(first.cpu, last.cpu)
    return Drained(round(last.done - first.done), (last.done - first.done) / use.wall_s, use)


async def _start(kite: Kite, service: str) -> None:
    if service in kite.local.children:
        await kite.local.child(service).start()
    else:
        await start_services(kite, (service,))


def _check(what: str, expected: int, found: int, distinct: int) -> None:
    if (found, distinct) != (expected, expected):
        raise BenchFailed(f"{what}: expected {expected:,}, found {found:,} of {distinct:,} events")
