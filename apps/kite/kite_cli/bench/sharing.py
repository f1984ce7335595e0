"""What a second process of a service is worth: one works on a backlog, another comes beside it while it does.

`python -m kite_cli.bench.sharing --pairs 200000`
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from kite_cli.bench.alone import run_alone
from kite_cli.bench.backlog import append_backlog
from kite_cli.bench.counts import count_archive, count_ledger
from kite_cli.bench.drain import rows_of
from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.load.job import Sender
from kite_cli.bench.load.receiver import Arrivals
from kite_cli.bench.scrape import read, settled, total
from kite_cli.bench.steps import Steps
from kite_cli.bench.tables import Table, number
from kite_cli.bench.teams import open_teams, set_webhook
from kite_cli.bench.whole import Kite, bare_stack, start_beside, start_services

PAIRS: Final = 200_000
# Delivering is by far the slowest: of the backlog it gets a part.
_DELIVERED: Final = 0.1
_TEAMS: Final = 50
_BODY_BYTES: Final = 1_000
_LOOK_S: Final = 0.1
_WITHIN_S: Final = 900.0
_WHOLE_WITHIN_S: Final = 120.0
# The second one comes when so much is done: the first has found its pace by then, and enough is left for both.
_COMES_AT: Final = 0.2


@dataclass(frozen=True, slots=True)
class Work:
    """A service with a backlog of `expected`, and how much of it a process says it has done, in its metrics."""

    service: str
    expected: int
    done_in: Callable[[str], float]


@dataclass(frozen=True, slots=True)
class Whole:
    """What is to be there in the end: `count` tells how many there are, and how many different ones."""

    what: str
    expected: int
    count: Callable[[], Awaitable[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Look:
    """How much the first and the second had done `at_s` (time.monotonic())."""

    at_s: float
    first: float
    second: float = 0.0

    @property
    def done(self) -> float:
        """Both together."""
        return self.first + self.second


@dataclass(slots=True)
class Counter:
    """What a process has done, over its restarts: its own count begins anew with each, and stays where it was while it does not answer."""

    before: float = 0.0
    now: float = 0.0

    def saw(self, count: float | None) -> float:
        """It says `count`, or nothing; what it has done in all."""
        if count is not None:
            self.before += self.now if count < self.now else 0.0
            self.now = count
        return self.before + self.now


@dataclass(frozen=True, slots=True)
class Shared:
    """One service: what it does a second while it is alone, and once both work; `second_share`: of what was done in that time, the
    second one's part."""

    service: str
    expected: int
    alone_per_s: float
    both_per_s: float
    second_share: float


async def measure_sharing(pairs: int, steps: Steps) -> tuple[Shared, ...]:
    """Delivery, billing and the archiver, one after the other. Raises BenchFailed, also if an event is missing, or twice in ledger or
    archive; deliveries are at least once."""
    arrivals = Arrivals()
    async with bare_stack(clickhouse_server=True) as kite, arrivals.listening() as url:
        teams = await _teams(kite, url)
        delivered = int(pairs * _DELIVERED)

        async def came() -> tuple[int, int]:
            return len(arrivals.at_s), len(arrivals.at_s)

        async def charged() -> tuple[int, int]:
            ledger = await count_ledger(kite)
            return ledger.of_events, ledger.distinct

        async def archived() -> tuple[int, int]:
            return await count_archive(kite)

        await _append(kite, teams, delivered, steps)
        delivery = await _share(kite, Work("delivery", delivered, _delivered), Whole("events at the webhook", delivered, came), steps)
        await _append(kite, teams, pairs - delivered, steps)
        billing = await _share(kite, Work("billing", pairs, _charged), Whole("ledger entries", pairs, charged), steps)
        rows = rows_of(pairs, await count_ledger(kite))
        replay = await _share(kite, Work("replay", rows, _archived), Whole("archive rows", pairs, archived), steps)
    return delivery, billing, replay


def shared(work: Work, looks: Sequence[Look], second_comes_s: float) -> Shared:
    """What the looks tell; the time in which the second one started counts for neither. Raises BenchFailed if it got nothing to do."""
    alone = [look for look in looks if look.at_s <= second_comes_s]
    both = [look for look in looks if look.second]
    if len(alone) < 2 or len(both) < 2 or alone[-1].done <= alone[0].done or both[-1].done <= both[0].done:
        raise BenchFailed(f"{work.service}: all was done before a second process had a part of it: the backlog is too small")
    together = both[-1].done - both[0].done
    return Shared(
        work.service, work.expected,
        (alone[-1].done - alone[0].done) / (alone[-1].at_s - alone[0].at_s),
        together / (both[-1].at_s - both[0].at_s),
        (both[-1].second - both[0].second) / together,
    )  # fmt: skip


def table(runs: Sequence[Shared]) -> Table:
    """What is shown of it."""
    words = {"delivery": "delivery: first attempts", "billing": "billing: usage records", "replay": "archiver: rows"}
    rows = tuple(
        (
            words[run.service], f"{run.expected:,}", number(run.alone_per_s), number(run.both_per_s),
            f"{run.both_per_s / run.alone_per_s:.2f}", f"{run.second_share:.0%}",
        )
        for run in runs
    )  # fmt: skip
    note = (
        f"{_TEAMS} teams on 8 partitions, one endpoint that answers at once. Each service works off a backlog by itself; when a fifth is "
        "done a second process is started beside the first, and gets half of the partitions. All of it, with Kafka, Valkey, ClickHouse and "
        "the endpoint, on this machine's cores: the ratio says what is left of them, not what a second machine would give. Counted "
        "afterwards: every event at the endpoint, and once in the ledger and in the archive."
    )
    columns = ("service", "backlog", "one, a second", "two, a second", "ratio", "second's part")
    return Table("Two processes instead of one", columns, rows, note)


async def _teams(kite: Kite, url: str) -> tuple[Sender, ...]:
    """With a webhook each, set through the gateway as teams do; everything is stopped again."""
    await start_services(kite, ("billing", "gateway"))
    teams = await open_teams(kite, _TEAMS)
    async with httpx.AsyncClient(base_url=kite.local.addresses.url("gateway"), timeout=30, trust_env=False) as client:
        for team in teams:
            await set_webhook(client, team, url)
    for service in ("gateway", "billing"):
        await kite.local.retire(service)
    return teams


async def _append(kite: Kite, teams: Sequence[Sender], pairs: int, steps: Steps) -> None:
    async with steps.step(f"append {pairs:,} events with their usage", pairs / 15_000):
        await append_backlog(kite, teams, pairs, _BODY_BYTES, lambda _: None)


async def _share(kite: Kite, work: Work, whole: Whole, steps: Steps) -> Shared:
    async with steps.step(f"{work.service}: one, then two", work.expected / 5_000) as step:
        found = await _watch(kite, work)
        step.said = f"{found.alone_per_s:,.0f}/s, then {found.both_per_s:,.0f}/s, {found.second_share:.0%} of it by the second"
        # What was counted twice, by a process that took partitions over, may still be to do.
        await _wait_for(whole)
    for name in (work.service, _second(work.service)):
        await kite.local.retire(name)
    return found


async def _watch(kite: Kite, work: Work) -> Shared:
    names = (work.service, _second(work.service))
    looks, comes_s = list[Look](), float("inf")
    starting = [asyncio.create_task(start_services(kite, (work.service,)))]
    counters = [Counter(), Counter()]
    try:
        async with asyncio.timeout(_WITHIN_S):
            while not looks or looks[-1].done < work.expected:
                await asyncio.sleep(_LOOK_S)
                for task in starting:
                    if task.done():
                        task.result()
                done = [counter.saw(await _count(kite, work, name)) for counter, name in zip(counters, names, strict=True)]
                looks += [Look(time.monotonic(), *done)] if done[0] else []
                if len(starting) == 1 and looks and looks[-1].done >= work.expected * _COMES_AT:
                    comes_s = looks[-1].at_s
                    starting.append(asyncio.create_task(start_beside(kite, *names)))
            await asyncio.gather(*starting)
            await settled(kite, *names)
    except TimeoutError as error:
        done_in_all = looks[-1].done if looks else 0
        raise BenchFailed(f"{work.service} has done {done_in_all:,.0f} of {work.expected:,} within {_WITHIN_S:.0f} s") from error
    finally:
        for task in starting:
            task.cancel()
    return shared(work, looks, comes_s)


async def _count(kite: Kite, work: Work, name: str) -> float | None:
    text = await read(kite, name) if name in kite.pids else ""
    return work.done_in(text) if text else None


def _delivered(exposition: str) -> float:
    return total(exposition, "kite_delivery_concluded_total", status="delivered")


def _charged(exposition: str) -> float:
    return total(exposition, "kite_billing_records_total", kind="usage")


def _archived(exposition: str) -> float:
    return sum(total(exposition, "kite_replay_rows_archived_total", table=name) for name in ("events", "ledger"))


async def _wait_for(whole: Whole) -> None:
    """Raises BenchFailed if an event is still missing in the end, or there twice."""
    until, found = time.monotonic() + _WHOLE_WITHIN_S, await whole.count()
    while found[1] < whole.expected and time.monotonic() < until:
        await asyncio.sleep(1)
        found = await whole.count()
    if found != (whole.expected, whole.expected):
        raise BenchFailed(f"{whole.what}: expected {whole.expected:,}, found {found[0]:,} of {found[1]:,} events")


def _second(service: str) -> str:
    return f"{service}-2"


async def _measure(pairs: int, steps: Steps) -> Table:
    return table(await measure_sharing(pairs, steps))


if __name__ == "__main__":
    sys.exit(run_alone("sharing", __doc__, PAIRS, _measure))
