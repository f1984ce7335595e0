"""What a team and a message take: memory of each process for a team with a wallet and a key, bytes of log and archive for an event.

`python -m kite_cli.bench.footprint --pairs 100000`
"""

import asyncio
import sys
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from kite_cli.bench.alone import run_alone
from kite_cli.bench.backlog import append_backlog
from kite_cli.bench.processes import resident_mib
from kite_cli.bench.scrape import settled
from kite_cli.bench.steps import Step, Steps
from kite_cli.bench.tables import Table, number
from kite_cli.bench.teams import open_teams
from kite_cli.bench.whole import SERVICES, Kite, bare_stack, start_services
from kite_replay.adapters.clickhouse.address import parse_address
from kite_replay.adapters.clickhouse.clients import open_client

PAIRS: Final = 100_000
# As many teams for an event: a wallet's memory is small beside that of an interpreter, so it takes many to be seen.
_TEAMS_PER_PAIR: Final = 0.2
# What the first ones bring with them (buffers, code that is loaded when it is first used) is no team's.
_FIRST: Final = 500
_AT_ONCE: Final = 50
_BODY_BYTES: Final = 1_000
_WITHIN_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of each service, and the bytes Valkey says it uses."""

    resident: dict[str, float]
    valkey: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes: of memory for each of `teams`; of disk for each of `events`, one copy, by topic and by table (compressed)."""

    teams: int
    events: int
    by_team: dict[str, float]
    by_event: dict[str, float]


async def measure_footprint(pairs: int, steps: Steps) -> Footprint:
    """Open teams, then append events of the first of them. Raises BenchFailed, StepFailed."""
    teams = int(pairs * _TEAMS_PER_PAIR)
    async with bare_stack(clickhouse_server=True) as kite:
        await start_services(kite, SERVICES)
        senders = await open_teams(kite, _FIRST)
        before = await _memory(kite)
        async with steps.step(f"open {teams:,} teams", teams / 300) as step:
            await _open(kite, teams, step)
        after = await _memory(kite)
        disk_before = _topics(kite)
        async with steps.step(f"append {pairs:,} events, wait until all is billed and archived", pairs / 3_000):
            await append_backlog(kite, senders, pairs, _BODY_BYTES, lambda _: None)
            await settled(kite, within_s=_WITHIN_S)
        by_topic = {f"log: {name}": (size - disk_before.get(name, 0)) / pairs for name, size in _topics(kite).items()}
        by_table = {f"archive: {name}": size / pairs for name, size in (await _tables(kite)).items()}
    by_team = {name: (after.resident[name] - before.resident[name]) / teams for name in SERVICES}
    by_team["valkey"] = (after.valkey - before.valkey) / teams
    return Footprint(teams, pairs, by_team, {name: size for name, size in (by_topic | by_table).items() if size >= 1})


def table(run: Footprint) -> Table:
    """What is shown of it."""
    rows = [(f"memory: {name}", "team", number(size)) for name, size in run.by_team.items()]
    rows += [(name, "event", number(size)) for name, size in sorted(run.by_event.items(), key=lambda item: -item[1])]
    note = (
        f"{run.teams:,} teams with a wallet and a key each, no webhook; {run.events:,} events of {_BODY_BYTES:,} bytes, all of one text. "
        "Memory is what a process has grown by. The log is uncompressed, one copy; the archive is compressed, and texts "
        "that are all the same compress far better than those of agents will."
    )
    return Table("Footprint", ("what", "for one", "bytes"), tuple(rows), note)


async def _open(kite: Kite, teams: int, step: Step) -> None:
    for done in range(0, teams, _AT_ONCE):
        await open_teams(kite, min(_AT_ONCE, teams - done))
    await settled(kite)
    step.said = f"{teams:,} teams"


async def _memory(kite: Kite) -> Memory:
    redis = Redis.from_url(kite.local.addresses.redis_url)
    try:
        used = (await redis.info("memory"))["used_memory"]
    finally:
        await redis.aclose()
    return Memory({name: mib * 2**20 for name, mib in resident_mib(kite.pids).items()}, int(used))


def _topics(kite: Kite) -> dict[str, int]:
    """Bytes of each topic's segments; those of Kafka's own are left out."""
    sizes: dict[str, int] = {}
    for segment in (kite.local.options.data / "kafka" / "data").glob("*/*.log"):
        name = segment.parent.name.rpartition("-")[0]
        if name.startswith("kite."):
            sizes[name] = sizes.get(name, 0) + segment.stat().st_size
    return sizes


async def _tables(kite: Kite) -> dict[str, int]:
    client = await asyncio.to_thread(open_client, parse_address(kite.local.addresses.clickhouse_url), "kite")
    query = "SELECT table, sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'kite' GROUP BY table"
    return {name: int(size) for name, size in (await asyncio.to_thread(client.query, query)).result_rows}


async def _measure(pairs: int, steps: Steps) -> Table:
    return table(await measure_footprint(pairs, steps))


if __name__ == "__main__":
    sys.exit(run_alone("footprint", __doc__, PAIRS, _measure))
