"""Partitions in processes of their own, so that every core is used: Python runs one thread of them at a time. Sends plain values back."""

import asyncio
import gc
import logging
import multiprocessing
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from queue import Empty
from typing import Any, Final

from aiokafka.consumer import fetcher

from kite_cli.admin.audit.bounds import PartitionJob
from kite_cli.admin.audit.log_reader import LogReader
from kite_cli.admin.audit.partition import PartitionAudit, PartitionResult
from kite_cli.admin.audit.records import LogRecord
from kite_cli.admin.audit.redis_reader import RedisReader

# Below this a process would take longer to start than to work.
_ALONE: Final = 20_000
_LOOK_S: Final = 0.2
# Records are told in lots of this size.
_LOT: Final = 20_000

_told: Any = None


async def audited(jobs: Sequence[PartitionJob], processes: int, read: Callable[[int], None]) -> AsyncIterator[PartitionResult]:
    """The results, as they come; `read(n)` hears how many records more were read. Raises Unavailable."""
    records = sum(span.size for job in jobs for span in job.spans.values())
    if processes < 2 or records < _ALONE:
        for job in jobs:
            yield await _audit(job, read)
        return
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_begin, initargs=(told,)) as pool:
        loop = asyncio.get_running_loop()
        # The largest first, so that no process is left alone with it at the end.
        ordered = sorted(jobs, key=lambda job: -sum(span.size for span in job.spans.values()))
        waiting = {asyncio.ensure_future(loop.run_in_executor(pool, _run, job)) for job in ordered}
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                _hear(told, read)
                for one in done:
                    yield one.result()
        finally:
            for one in waiting:
                one.cancel()
            pool.shutdown(wait=False, cancel_futures=True)


def _hear(told: Any, read: Callable[[int], None]) -> None:
    try:
        while True:
            read(told.get_nowait())
    except Empty:
        return


class _PlainRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # the library is untyped
    """Hands out the parser's records as they are: a dataclass of eleven fields around each is half the time of reading."""

    def _consumer_record(self, tp: object, record: LogRecord) -> LogRecord:  # noqa: ARG002 - the library's signature
        return record


def _begin(told: Any) -> None:
    global _told  # noqa: PLW0603 - the only way a pool hands a queue to its processes
    _told = told
    # Only in these processes, which do nothing else: the library has no public place for it.
    fetcher.PartitionRecords = _PlainRecords
    # What brokers that are away make the library say is told by the error itself.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # Millions of dicts come and go without cycles: the collector would take a tenth of the time to find none.
    gc.disable()


def _run(job: PartitionJob) -> PartitionResult:
    lots = 0

    def read(number: int) -> None:
        nonlocal lots
        lots += number
        if lots >= _LOT:
            _told.put(lots)
            lots = 0

    result = asyncio.run(_audit(job, read))
    _told.put(lots)
    gc.collect()
    return result


async def _audit(job: PartitionJob, read: Callable[[int], None]) -> PartitionResult:
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(LogReader(job.where.kafka_bootstrap))
        redis = await stack.enter_async_context(RedisReader(job.where.redis_url))
        return await PartitionAudit(job, log, redis, read).run()
