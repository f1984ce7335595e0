"""The beginning of a run: its schedule, its window, and who is told when that opens and closes. Sends no request."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

from kite_cli.bench.load.client import now_s
from kite_cli.bench.load.job import Job
from kite_cli.bench.load.loops import Tally, Window
from kite_cli.bench.load.schedule import poisson

Say = Callable[[str], None]

# Between the last preparation and the first request.
_LEAD_S = 0.05


@asynccontextmanager
async def measuring(job: Job, say: Say) -> AsyncIterator[tuple[Sequence[float], Tally]]:
    """When each request is due (nothing for a closed loop) and where answers are counted; says `measuring` and `measured` in time."""
    times = [] if job.kind == "closed" else poisson(job.rate, job.warm_up_s + job.measure_s, Random(job.seed))  # noqa: S311 - a schedule
    # What exists now stays: collections during the run look at young objects only, as in the services.
    gc.collect()
    gc.freeze()
    start_s = now_s() + _LEAD_S
    window = Window(start_s + job.warm_up_s, start_s + job.warm_up_s + job.measure_s)
    telling = asyncio.create_task(_tell(window, say))
    try:
        yield [start_s + at for at in times], Tally(window)
        await telling
    finally:
        telling.cancel()


async def _tell(window: Window, say: Say) -> None:
    await asyncio.sleep(window.begin_s - now_s())
    say("measuring")
    await asyncio.sleep(window.end_s - now_s())
    say("measured")
