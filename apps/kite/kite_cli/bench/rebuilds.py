"""How fast what is no truth is made again from the log: the archive, the accounts, and Redis with its wait.

`python -m kite_cli.bench.rebuilds --pairs 100000`
"""

import sys
import time
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Final

from kite_cli.admin.rebuild_accounts import compare_accounts, rules_of_environment
from kite_cli.admin.rebuild_redis import rebuild_redis
from kite_cli.bench.alone import run_alone
from kite_cli.bench.backlog import append_backlog
from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.scrape import settled
from kite_cli.bench.steps import Steps
from kite_cli.bench.tables import Table, number
from kite_cli.bench.teams import open_teams
from kite_cli.bench.whole import Kite, bare_stack, start_services
from kite_cli.local.environment import PARTITIONS
from kite_cli.local.folders import data_folder
from kite_cli.target import LogTarget
from kite_common.runtime.system import SystemClock
from kite_replay.adapters.clickhouse.address import InProcess
from kite_replay.adapters.rebuild import Progress, rebuild_archive

PAIRS: Final = 200_000
_TEAMS: Final = 50
_BODY_BYTES: Final = 1_000
_KEPT_DAYS: Final = 91
_WITHIN_S: Final = 1_200.0


@dataclass(frozen=True, slots=True)
class Rebuilds:
    """`archive_per_s` counts records of the log (events, their usages, ledger entries), `accounts_per_s` entries of the ledger."""

    pairs: int
    archive_per_s: float
    archive_s: float
    accounts_per_s: float
    accounts_s: float
    redis_closed_s: float


async def measure_rebuilds(pairs: int, steps: Steps) -> Rebuilds:
    """Fill a log, then make everything again from it. Raises BenchFailed, also if an account is not what the log says."""
    async with bare_stack() as kite:
        await start_services(kite, ("billing",))
        senders = await open_teams(kite, _TEAMS)
        async with steps.step(f"append {pairs:,} events, billing charges them", pairs / 5_000):
            await append_backlog(kite, senders, pairs, _BODY_BYTES, lambda _: None)
            await settled(kite, "billing", within_s=_WITHIN_S)
        target = LogTarget(kite.local.addresses.kafka_bootstrap, kite.local.addresses.redis_url, PARTITIONS, 1, None)
        async with steps.step("rebuild redis", 100) as step:
            redis = await rebuild_redis(target, _WITHIN_S, lambda _: None)
            step.said = f"closed for {redis.closed_ms / 1000:.0f} s"
        await kite.local.child("billing").stop()
        async with steps.step("rebuild accounts --check", pairs / 10_000) as step:
            accounts_s, entries = await _accounts(target)
            step.said = f"{entries / accounts_s:,.0f} entries/s"
        async with steps.step("rebuild archive", pairs / 10_000) as step:
            archive_s, records = await _archive(kite)
            step.said = f"{records / archive_s:,.0f} records/s"
    return Rebuilds(pairs, records / archive_s, archive_s, entries / accounts_s, accounts_s, redis.closed_ms / 1000)


async def _accounts(target: LogTarget) -> tuple[float, int]:
    began = time.monotonic()
    found = await compare_accounts(target, rules_of_environment(), lambda _done, _whole: None)
    if not found.ok or found.equal < _TEAMS:
        raise BenchFailed(f"{len(found.differing)} accounts differ, {found.equal} are equal: {found.differing[:1]}")
    return time.monotonic() - began, found.entries


async def _archive(kite: Kite) -> tuple[float, int]:
    """Seconds until all of the log was in, and how many records that were; the change-over, which is a wait, is left out."""
    began = filled_at = time.monotonic()

    def told(now: Progress) -> None:
        nonlocal filled_at
        if now.done == now.whole:
            filled_at = time.monotonic()

    async def erased() -> frozenset[str]:
        return frozenset()

    with TemporaryDirectory(prefix="archive-", dir=data_folder()) as folder:
        address = InProcess(f"{folder}/clickhouse")
        done = await rebuild_archive(kite.kafka, address, PARTITIONS, _KEPT_DAYS, SystemClock(), told, erased=erased, grace_s=0)
    return filled_at - began, done.records


def table(run: Rebuilds) -> Table:
    """What is shown of it."""
    rows = (
        ("archive: records of the log a second", number(run.archive_per_s), f"{run.archive_s:.1f} s"),
        ("accounts --check: ledger entries a second", number(run.accounts_per_s), f"{run.accounts_s:.1f} s"),
        ("redis: admission closed", "", f"{run.redis_closed_s:.1f} s"),
    )
    note = (
        f"A log of {run.pairs:,} events of {_TEAMS} teams, each with its usage and its ledger entry, the broker on the same machine. "
        "The archive is filled with no other service running; its change-over, 15 s in which readers get 503, comes on top. The accounts' "
        "figure has two seconds of waiting for each partition in it. Redis waits 90 s whatever there is, and reads a day of claims."
    )
    return Table("Rebuilds", ("what", "a second", "took"), rows, note)


async def _measure(pairs: int, steps: Steps) -> Table:
    return table(await measure_rebuilds(pairs, steps))


if __name__ == "__main__":
    sys.exit(run_alone("rebuilds", __doc__, PAIRS, _measure))
