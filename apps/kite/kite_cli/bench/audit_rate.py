"""`python -m kite_cli.bench.audit_rate --pairs 250000`: records a second that `kitectl audit` reads, and the memory it takes.

On a stack of its own, whose log is written as services would have left it: four records an event. The archive is left out.
"""

import argparse
import asyncio
import os
import sys
import time

import orjson
from rich.console import Console

from kite_cli.admin.audit.places import ArchiveAt
from kite_cli.admin.audit.progress import Stages
from kite_cli.admin.audit.run import Audit, Options, Report
from kite_cli.bench.audit_log import write_log
from kite_cli.bench.steps import Steps
from kite_cli.bench.whole import bare_stack
from kite_cli.local.environment import PARTITIONS
from kite_cli.local.step import StepFailed
from kite_cli.target import LogTarget

_KIB_A_MIB = 1024


async def measure(pairs: int, teams: int, body_bytes: int, processes: int, console: Console) -> tuple[int, Report, float]:
    """Write a log, audit it: its records, the report, and seconds. Raises StepFailed."""
    async with bare_stack() as kite:
        steps = Steps(console)
        async with steps.step(f"write {pairs:,} events with what follows from them", pairs / 5_000) as step:
            records = await write_log(kite, pairs, teams, body_bytes, lambda _: None)
            step.said = f"{records:,} records"
        addresses = kite.local.addresses
        target = LogTarget(addresses.kafka_bootstrap, addresses.redis_url, PARTITIONS, 1, None)
        archive, options = ArchiveAt(None, "not checked: left out of the measurement"), Options(processes=processes)
        work = Audit(target, archive, None, options, Stages(console))
        began = time.monotonic()
        report = await work.run()
        return records, report, time.monotonic() - began


def main() -> int:
    """Run it; 1 if the audit finds anything, or not all records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=250_000, help="events with their usage")
    parser.add_argument("--teams", type=int, default=200)
    parser.add_argument("--body-bytes", type=int, default=256)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    try:
        records, report, took_s = asyncio.run(
            measure(arguments.pairs, arguments.teams, arguments.body_bytes, arguments.processes, console)
        )
    except StepFailed as error:
        print(error, file=sys.stderr)
        return 1
    found = report.to_json()
    print(orjson.dumps({
        "records": report.records, "seconds": round(took_s, 2), "records_per_s": round(report.records / took_s),
        "cpu_us_a_record": round(report.cpu_s / report.records * 1e6, 2), "processes": arguments.processes,
        "ok": report.ok, "violations": found["violations"][:5],
        "peak_mib_of_a_process": report.peak_kib // _KIB_A_MIB,
    }).decode())  # fmt: skip
    return 0 if report.ok and report.records >= records else 1


if __name__ == "__main__":
    sys.exit(main())
