"""Reads a partition, commits what is handled, drains when it is taken away. The same for events and for retries. No rules."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from kite_common.errors import KiteError, Unavailable
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import pause
from kite_common.stream.group import Feed
from kite_delivery.adapters.endpoints import TableEndpoints
from kite_delivery.adapters.start_position import HasBegun, begin_reading
from kite_delivery.application.partition_work import PartitionWork

log = get_logger("kite.delivery")


@dataclass(frozen=True, slots=True)
class LoopTimes:
    """Seconds: between commits (what a kill repeats), and to finish attempts in when the partition is taken away."""

    commit_every_s: float = 0.2
    release_within_s: float = 2.0


async def run_partition(
    feed: Feed, works: Mapping[str, PartitionWork], read: Callable[[], Awaitable[None]], has_begun: HasBegun, times: LoopTimes
) -> None:
    """Run `read` until the feed closes, committing the position of each topic's work meanwhile; then drain and commit once more.

    Raises PositionLost before anything is read, what stopped a work, or what `read` raised: then nothing is drained, and all that is open
    is read again.
    """
    commits = _Commits(feed, works)
    try:
        for topic in works:
            await begin_reading(feed, topic, has_begun)
        await _until_closing(feed, read, commits, times.commit_every_s)
        async with _cancelled_at_exit(commits.go_on(times.commit_every_s)):
            # What is handled meanwhile is committed meanwhile: the group may give us no time after the draining.
            await asyncio.gather(*(work.drain(times.release_within_s) for work in works.values()))
        await commits.commit()
    finally:
        for work in works.values():
            work.abandon()


async def refreshed(endpoints: TableEndpoints, partition: int, feed: Feed) -> bool:
    """Wait until every config written before now is seen, however long the log is away; False if the feed closed meanwhile."""
    while not feed.closing.is_set():
        try:
            await endpoints.refreshed(partition)
        except (Unavailable, TimeoutError):
            log.warning("delivery.configs_behind", partition=partition)
            await pause(0.5, feed.closing)
        else:
            return True
    return False


async def _until_closing(feed: Feed, read: Callable[[], Awaitable[None]], commits: "_Commits", commit_every_s: float) -> None:
    """Both loops run until the feed closes or one of them raises."""
    async with _cancelled_at_exit(read()) as reading, _cancelled_at_exit(commits.run(commit_every_s)) as committing:
        async with _cancelled_at_exit(feed.closing.wait()) as closing:
            done, _ = await asyncio.wait({reading, committing, closing}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


@contextlib.asynccontextmanager
async def _cancelled_at_exit(work: Awaitable[object]) -> AsyncIterator["asyncio.Future[object]"]:
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


class _Commits:
    """Commits positions that have moved."""

    def __init__(self, feed: Feed, works: Mapping[str, PartitionWork]) -> None:
        self._feed, self._works = feed, works
        self._committed: dict[str, int] = {}

    async def run(self, every_s: float) -> None:
        """Commit for ever. Raises what stopped a work."""
        while True:
            await asyncio.sleep(every_s)
            for work in self._works.values():
                work.check()
            await self.commit()

    async def go_on(self, every_s: float) -> None:
        """Commit for ever, whatever has stopped."""
        while True:
            await asyncio.sleep(every_s)
            await self.commit()

    async def commit(self) -> None:
        """Commit once. A commit that fails is not lost: the next one covers it."""
        moved = {
            topic: work.position
            for topic, work in self._works.items()
            if work.position is not None and work.position != self._committed.get(topic)
        }
        if not moved:
            return
        try:
            await self._feed.commit(moved)
        except KiteError as error:
            log.warning("delivery.commit_delayed", partition=self._feed.partition, kind=type(error).__name__)
        else:
            self._committed |= moved
