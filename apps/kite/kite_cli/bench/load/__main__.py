"""`python -m kite_cli.bench.load`: a job as one JSON line in, state lines and the outcome out. Ends with its caller."""

import sys
from dataclasses import asdict

import orjson
import uvloop

from kite_cli.bench.load import journeys
from kite_cli.bench.load.client import Pool
from kite_cli.bench.load.job import Job, Outcome
from kite_cli.bench.load.loops import OpenLoop, closed_loop
from kite_cli.bench.load.requests import messages
from kite_cli.bench.load.window import measuring
from kite_cli.local.ports import LOOPBACK


async def run(job: Job) -> Outcome:
    """Make one run. Raises OSError if the gateway cannot be reached, RunFailed if it refuses what comes before the load."""
    pool = Pool(LOOPBACK, job.port, job.connections)
    await pool.open()
    try:
        return await _run(job, pool)
    finally:
        await pool.close()


async def _run(job: Job, pool: Pool) -> Outcome:
    match job.kind:
        case "delivered":
            return await journeys.delivered(job, pool, _say)
        case "replayable":
            return await journeys.replayable(job, pool, _say)
    requests = messages(job.senders, job.body_bytes)
    async with measuring(job, _say) as (due_s, tally):
        if job.kind == "closed":
            await closed_loop(pool, requests, tally, job.patience_s)
        else:
            await OpenLoop(pool, requests, due_s, tally).run(job.patience_s)
        return tally.outcome()


def _say(state: str, **fields: object) -> None:
    sys.stdout.buffer.write(orjson.dumps({"state": state} | fields) + b"\n")
    sys.stdout.buffer.flush()


def main() -> int:
    """Do the job of standard input; 1 with the reason if it cannot be done."""
    job = Job.from_json(sys.stdin.buffer.readline())
    try:
        outcome = uvloop.run(run(job))
    except (OSError, TimeoutError, journeys.RunFailed) as error:
        _say("failed", reason=f"{type(error).__name__}: {error}")
        return 1
    _say("done", outcome=asdict(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
