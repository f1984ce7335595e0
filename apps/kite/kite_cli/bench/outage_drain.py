"""How fast billing works off what an outage has left: an hour at 1,000 messages a second, 3.6 million, unless fewer are asked for.

`python -m kite_cli.bench.outage_drain --pairs 3600000`
"""

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Final

from kite_cli.bench.alone import run_alone
from kite_cli.bench.backlog import append_backlog
from kite_cli.bench.counts import count_ledger
from kite_cli.bench.drain import Drained, Mark, drained
from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.processes import sample
from kite_cli.bench.scrape import read, total
from kite_cli.bench.steps import Steps
from kite_cli.bench.tables import Table, number
from kite_cli.bench.teams import open_teams
from kite_cli.bench.whole import bare_stack, start_services

HOUR: Final = 3_600_000
AIM_PER_S: Final = 20_000
_TEAMS: Final = 50
# As the messages of the other measurements; what billing reads and skips is part of its work.
_BODY_BYTES: Final = 1_000
_LOOK_S: Final = 0.25
# Far below any rate that is of use: only so that it ends.
_LEAST_PER_S: Final = 500


@dataclass(frozen=True, slots=True)
class OutageDrain:
    """`pairs` events with their usage, appended while billing was stopped; `until_first_s`: from its start to its first entry."""

    pairs: int
    appended_per_s: float
    until_first_s: float
    billing: Drained


async def measure_outage_drain(pairs: int, steps: Steps) -> OutageDrain:
    """Stop billing, append, start it, watch it. Raises BenchFailed, also if an event has not exactly one entry afterwards."""
    async with bare_stack() as kite:
        await start_services(kite, ("billing",))
        senders = await open_teams(kite, _TEAMS)
        await kite.local.child("billing").stop()
        async with steps.step(f"append {pairs:,} events with their usage", pairs / 15_000) as step:
            began = time.monotonic()
            await append_backlog(kite, senders, pairs, _BODY_BYTES, lambda _: None)
            appended_per_s = pairs / (time.monotonic() - began)
            step.said = f"{appended_per_s:,.0f}/s"
        async with steps.step("billing drains", pairs / AIM_PER_S) as step:
            began, marks = time.monotonic(), list[Mark]()
            starting = asyncio.create_task(kite.local.child("billing").start())
            until_first_s = 0.0
            while not marks or marks[-1].done < pairs:
                await asyncio.sleep(_LOOK_S)
                done = total(await read(kite, "billing"), "kite_billing_records_total", kind="usage")
                if done and "billing" in kite.pids:
                    until_first_s = until_first_s or time.monotonic() - began
                    marks.append(Mark(done, sample(kite.pids)))
                if time.monotonic() - began > 120 + pairs / _LEAST_PER_S:
                    raise BenchFailed(f"billing has charged {marks[-1].done if marks else 0:,.0f} of {pairs:,}")
            await starting
            found = drained(marks)
            step.said = f"{found.per_s:,.0f} records/s"
        await kite.local.child("billing").stop()
        ledger = await count_ledger(kite)
        if (ledger.of_events, ledger.distinct) != (pairs, pairs):
            raise BenchFailed(f"{pairs:,} events have {ledger.of_events:,} entries of {ledger.distinct:,} events")
    return OutageDrain(pairs, appended_per_s, until_first_s, found)


def table(run: OutageDrain) -> Table:
    """What is shown of it."""
    reached = "reached" if run.billing.per_s >= AIM_PER_S else "not reached"
    rows = (
        ("usage records charged a second", number(run.billing.per_s)),
        (f"aim: {AIM_PER_S:,} a second", reached),
        ("an hour of 1,000 a second, at this rate", f"{HOUR / run.billing.per_s:,.0f} s"),
        ("from billing's start to its first entry", f"{run.until_first_s:.1f} s"),
        ("cores: billing", number(run.billing.cpu.share("billing"))),
        ("cores: kafka", number(run.billing.cpu.share("kafka"))),
    )
    note = (
        f"{run.pairs:,} events, each with its usage record, appended while billing was stopped; one billing process, alone with Kafka and "
        "Valkey on this machine; from its first entries to its last. Counted afterwards: one ledger entry for each event, none besides."
    )
    return Table("Drain after an outage", ("what", "found"), rows, note)


async def _measure(pairs: int, steps: Steps) -> Table:
    return table(await measure_outage_drain(pairs, steps))


if __name__ == "__main__":
    sys.exit(run_alone("outage_drain", __doc__, HOUR, _measure))
