"""Binds the archived topics to the archiver: one task per partition, from where the archive ends. No rules.

The group's offsets are committed only so that lag can be seen; nothing here reads them.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from kite_common.errors import ApiError, ConfigurationError, Fenced, Unavailable
from kite_common.runtime import faults
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import pause
from kite_replay.application.archive_records import PartitionArchiver
from kite_replay.application.grouped_inserts import GroupedInserts
from kite_replay.application.ports import ErasableArchive, Erasures, Quarantine
from kite_replay.domain.rows import LogRecord, Table

log = get_logger("kite.replay.archiver")

GROUP: Final = "kite-archiver"
_MAX_RECORDS: Final = 5_000
_POLL_S: Final = 0.5
# A committed position is only looked at by people and dashboards.
_SHOW_EVERY_S: Final = 1.0
_SHOW_WITHIN_S: Final = 2.0
# Handing a partition over waits this long for inserts that run; what is not stored then is read again by the next owner.
_FINISH_S: Final = 2.0
# ClickHouse away: asked again after one second, then slower.
_RETRY_S: Final = (1.0, 2.0, 5.0)
# Refused as a former owner: not taken back before two heartbeats have told whose the partition is.
_FENCED_S: Final = 3.0
# How often it is looked what is left of the teams that are erased; slower, up to the second one, while that fails.
_LOOK_EVERY_S: Final = 1.0
_LOOK_MOST_S: Final = 60.0
# Where tests let an archiver die.
ORDERED: Final = "erasure.removal_ordered"
REMOVED: Final = "erasure.removed"


class Reading(Protocol):
    """Who is shown what is read (`kite_replay.adapters.archive_spans`)."""

    def begun(self, partition: int) -> None: ...
    def read(self, partition: int, records: Sequence[LogRecord]) -> None: ...


class PartitionFeed(Protocol):
    """What of `kite_common.stream.group.Feed` is used."""

    @property
    def closing(self) -> asyncio.Event:
        """Set when the partition is being given away."""
        ...

    async def batch(self, *topics: str, max_records: int = ..., timeout_s: float = ...) -> Sequence[LogRecord]: ...
    async def commit(self, offsets: Mapping[str, int]) -> None: ...
    async def end_offset(self, topic: str) -> int: ...
    def seek(self, topic: str, offset: int) -> None: ...
    async def seek_to_beginning(self, topic: str) -> int: ...
    def pause(self, *topics: str) -> None: ...
    def resume(self, *topics: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ArchiveOwner:
    """Owner of the archived topics' partitions (`kite_common.stream.group.Owner`). `reading` None: tracing is off."""

    inserts: Mapping[Table, GroupedInserts]
    archive: ErasableArchive
    quarantine: Quarantine
    erasures: Erasures
    reading: Reading | None = None

    async def own(self, partition: int, feed: PartitionFeed) -> None:
        """Archive the partition until it is given away. An archive that was away, or refused us, is asked for its tail anew.

        So it is when a team has been erased: then nobody stores anything that was made before that was known, when its rows are removed.
        The removal itself stops nobody's archiving, whatever becomes of it (`_Erasing`).
        """
        failures = 0
        while not feed.closing.is_set():
            try:
                await self._archive_until_erasure(partition, feed)
            except (Unavailable, Fenced) as error:
                delay_s = _FENCED_S if isinstance(error, Fenced) else _RETRY_S[min(failures, len(_RETRY_S) - 1)]
                log.warning("archive.waiting", partition=partition, reason=str(error), retry_s=delay_s)
                feed.pause(*(table.topic for table in self.inserts))
                await pause(delay_s, feed.closing)
                failures += 1

    async def _archive_until_erasure(self, partition: int, feed: PartitionFeed) -> None:
        erasing = _Erasing(self, partition, frozenset(await self.erasures.known(partition)))
        archivers = {
            table.topic: PartitionArchiver(
                table, partition, archive=self.archive, inserts=inserts, quarantine=self.quarantine, erased=erasing.teams
            )
            for table, inserts in self.inserts.items()
        }
        if self.reading is not None:
            self.reading.begun(partition)
        try:
            for topic, archiver in archivers.items():
                await _seek(feed, topic, partition, await archiver.begin())
            feed.resume(*archivers)
            await _archive(archivers, feed, erasing, None if self.reading is None else partial(self.reading.read, partition))
            async with asyncio.timeout(_FINISH_S):
                await _all([archiver.finish() for archiver in archivers.values()])
        except TimeoutError:
            log.warning("archive.unfinished", partition=partition)
        finally:
            await erasing.end()
            for archiver in archivers.values():
                archiver.abandon()
            if self.reading is not None:
                self.reading.begun(partition)


class _Erasing:
    """What erased teams have in the archive is removed while their partition is archived without them.

    It runs beside the archiving and fails by itself: nobody else waits for a removal that ClickHouse refuses, or is slow with.
    """

    def __init__(self, owner: ArchiveOwner, partition: int, teams: frozenset[str]) -> None:
        self.teams, self._owner, self._partition = teams, owner, partition
        # Tables that were not looked at yet, and those of which a removal is under way.
        self._unseen = [table for table in owner.inserts if table.erasable] if teams else []
        self._left: list[Table] = []
        self._look_at_s, self._go_on_at_s, self._failures = 0.0, 0.0, 0
        self._running: asyncio.Task[None] | None = None

    def look(self) -> bool:
        """Whether these are still all the teams that are erased. If so, the removal goes on, if it is due. Raises Fenced."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._look_at_s:
            return True
        self._look_at_s = now_s + _LOOK_EVERY_S
        seen = self._owner.erasures.seen(self._partition)
        if seen.keys() != self.teams:
            return False
        if self._running is not None and self._running.done():
            self._failures = self._failures + 1 if self._has_failed(self._running) else 0
            self._go_on_at_s = now_s + _slower_s(self._failures) if self._failures else 0.0
            self._running = None
        # What is there is looked for whatever is on record: an archive that was rebuilt may have rows of teams that were done before.
        is_needed = bool(self._unseen or self._left) or not all(seen.values())
        if is_needed and self._running is None and now_s >= self._go_on_at_s:
            self._running = asyncio.create_task(self._go_on(on_record=all(seen.values())))
        return True

    async def end(self) -> None:
        """Leave what is not done to whoever owns the partition next: all of it may be done again."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
            if not self._running.cancelled():
                self._running.exception()  # seen: whoever owns the partition next meets it, too

    async def _go_on(self, *, on_record: bool) -> None:
        """Order the removal of what is there, look what is left, and put on record that nothing is. Raises Unavailable, ApiError.

        Nobody stores anything of these teams by now: tails were asked for after they were known.
        """
        archive = self._owner.archive
        while self._unseen:
            table = self._unseen[0]
            if await archive.rows_of(table, self.teams):
                await archive.remove(table, self.teams)
                self._left.append(table)
                faults.reached(ORDERED)
            del self._unseen[0]
        self._left = [table for table in self._left if await archive.rows_of(table, self.teams)]
        if not self._left and not on_record:
            faults.reached(REMOVED)
            await self._owner.erasures.carried_out(self._partition, self.teams)

    def _has_failed(self, done: "asyncio.Task[None]") -> bool:
        try:
            done.result()
        except (Unavailable, ApiError) as error:
            log.warning("erasure.waiting", partition=self._partition, reason=str(error), retry_s=_slower_s(self._failures + 1))
            return True
        return False


def _slower_s(failures: int) -> float:
    """Seconds until the removal is tried again, after so many failures on end."""
    return min(_LOOK_EVERY_S * 2.0 ** min(failures, 10), _LOOK_MOST_S)


async def _archive(
    archivers: Mapping[str, PartitionArchiver], feed: PartitionFeed, erasing: _Erasing, show: Callable[[Sequence[LogRecord]], None] | None
) -> None:
    """Take what comes until the partition is given away, or another team is erased; `show` sees it first."""
    shown: dict[str, int] = {}
    show_at = 0.0
    while not feed.closing.is_set() and erasing.look():
        records = await feed.batch(*archivers, max_records=_MAX_RECORDS, timeout_s=_POLL_S)
        if show is not None:
            show(records)
        by_topic = _by_topic(records)
        await _all([archivers[topic].take(taken) for topic, taken in by_topic.items()])
        positions = {topic: position for topic, archiver in archivers.items() if (position := archiver.position()) is not None}
        now = asyncio.get_running_loop().time()
        if positions != shown and now >= show_at:
            show_at = now + _SHOW_EVERY_S
            if await _show(feed, positions):
                shown = positions


async def _show(feed: PartitionFeed, positions: Mapping[str, int]) -> bool:
    """Whether it worked. Nobody depends on it: a commit that fails or hangs must not stop archiving."""
    try:
        async with asyncio.timeout(_SHOW_WITHIN_S):
            await feed.commit(positions)
    except (Unavailable, TimeoutError):
        return False
    return True


def _by_topic(records: Sequence[LogRecord]) -> dict[str, list[LogRecord]]:
    by_topic: dict[str, list[LogRecord]] = {}
    for record in records:
        by_topic.setdefault(record.topic, []).append(record)
    return by_topic


async def _all(takes: Sequence[Coroutine[None, None, None]]) -> None:
    """Do the topics' work side by side; when one fails the others are ended first, for all begin anew. Raises Unavailable, Fenced."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for take in takes:
                tasks.create_task(take)
    except* (Unavailable, Fenced) as errors:
        failed = errors
    else:
        return
    is_fenced = failed.subgroup(Fenced) is not None
    raise (Fenced if is_fenced else Unavailable)(str(failed.exceptions[0])) from failed


async def _seek(feed: PartitionFeed, topic: str, partition: int, offset: int | None) -> None:
    if offset is None:
        await feed.seek_to_beginning(topic)
        return
    end = await feed.end_offset(topic)
    if offset > end:
        # Its offsets begin anew: new events would take the positions, and so the kiteseq, of archived ones.
        log.error("archive.ahead_of_log", topic=topic, partition=partition, end=end, archived=offset)
        raise ConfigurationError([f"{topic}-{partition} ends at {end}, its archive at {offset}: a topic made anew needs a new archive"])
    feed.seek(topic, offset)
