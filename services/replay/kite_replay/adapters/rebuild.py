"""Makes the archive anew from all that the log retains, beside the one that is served, and lets it take over (domain/generation.py).

The new one is filled as any archive is: one archiver a partition, each from the tail of what it has stored. So a rebuild that was ended at
any moment goes on where it was, and its rows are the ones that the old archive has, with the same `created_at`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from kite_common.clock import Clock
from kite_common.errors import Fenced, KiteError, Unavailable
from kite_common.runtime import faults
from kite_common.runtime.observe import get_logger
from kite_common.stream.input import input_of
from kite_common.stream.kafka import Kafka
from kite_replay.adapters.clickhouse.address import Address
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.adapters.clickhouse.claim import Claim, Claimed, held
from kite_replay.adapters.clickhouse.generations import Generations, generations_of, last_known
from kite_replay.adapters.clickhouse.pool import away_is_unavailable
from kite_replay.application.archive_records import PartitionArchiver
from kite_replay.application.grouped_inserts import GroupedInserts, InsertPolicy
from kite_replay.domain.generation import Generation, closing, next_number, opening
from kite_replay.domain.rows import TABLES, BadRecord

log = get_logger("kite.replay.rebuild")

# Where tests let a rebuild die.
FILLED: Final = "rebuild.filled"
CLOSED: Final = "rebuild.closed"
OPENING: Final = "rebuild.opening"
_NEAR_RECORDS: Final = 2_000
_LAPS: Final = 20
_MAX_RECORDS: Final = 20_000
# Until rows of teams that were erased meanwhile are gone; while the archive is closed it has to take over within a minute.
_FORGOTTEN_WITHIN_S: Final = 600.0
_FORGOTTEN_CLOSED_S: Final = 15.0
_FORGETTING_S: Final = 0.1
_OVERTAKEN: Final = "another rebuild was quicker: its archive is served, or about to be"
_POLICY: Final = InsertPolicy(interval_s=0.05, full_rows=10_000)


class RebuildFailed(KiteError):
    """The rebuilt archive does not take over; the old one is served as before."""


class Overtaken(RebuildFailed):
    """Another rebuild was quicker: its archive is served, or about to be."""


class _Behind(Exception):
    """What was stored by an earlier attempt does not fit the log any more."""


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `whole` offsets of the log are in the new archive."""

    done: int
    whole: int


@dataclass(frozen=True, slots=True)
class RebuiltArchive:
    """Generation `number` is served now. `records` were read; `bad` ones are in the dead letters from before. Readers got 503 for
    `closed_s` at most, and for the restart of their process besides. `kept`: the archive of before, generation `before`, which nobody
    removes."""

    number: int
    records: int
    bad: int
    closed_s: float
    kept: Address
    before: int


class _Counting:
    """A quarantine for records that an archiver has set aside already, when they came."""

    def __init__(self) -> None:
        self.count = 0

    async def put(self, records: Sequence[BadRecord]) -> None:
        """Count them."""
        self.count += len(records)


async def rebuild_archive(
    kafka: Kafka, address: Address, partitions: int, kept_days: int, clock: Clock, told: Callable[[Progress], None],
    *, erased: Callable[[], Awaitable[Collection[str]]], grace_s: float, closed: Callable[[], None] = lambda: None,
) -> RebuiltArchive:  # fmt: skip
    """Fill the next generation and let it take over. Repeat it after it was ended: it goes on. `grace_s`: for how long after the closing
    some process may still serve the old one. `erased` tells the teams of which nothing is to come back. It is asked again before closing
    and before opening: what was filled of a team before it was erased is removed. Nobody can carry an erasure out between the last question
    and the opening, since nobody has an archive open then.

    Raises Unavailable if Kafka or ClickHouse do not answer, RebuildFailed if taking over took too long,
    Overtaken if another rebuild did it, Claimed if another one is under way.
    """
    generations = generations_of(address)
    claim = generations.claim()
    try:
        # Also what the list of steps raises, which is asked for without a pool.
        with away_is_unavailable("rebuild"):
            async with contextlib.AsyncExitStack() as alone:
                if claim is not None:
                    await alone.enter_async_context(held(claim))
                number = next_number(await asyncio.to_thread(_last_or_begun, generations, clock.unix_ms()))
                rebuild = _Rebuild(kafka, generations, number, partitions, kept_days, clock, told, grace_s, closed, claim, erased)
                try:
                    return await rebuild.attempt()
                except _Behind as error:
                    log.warning("rebuild.begins_anew", generation=number, reason=str(error))
                    await rebuild.drop()
                    return await rebuild.attempt()
    except Fenced as error:
        raise Unavailable("ClickHouse was started anew, or another fills the same archive") from error
    except KafkaError as error:
        raise Unavailable(f"Kafka does not answer: {type(error).__name__}") from error


def _last_or_begun(generations: Generations, now_ms: int) -> Generation:
    """The last step; where there is no list, it is written before anything is filled: what is half filled would look like all there is."""
    last = generations.last()
    if last is None:
        last = replace(last_known(generations) or Generation(0, 0, opened=True, at_ms=0), at_ms=now_ms)
        generations.write(last)
    return last


@dataclass(frozen=True, slots=True)
class _Rebuild:
    """One rebuild of generation `number`, which holds the claim if there is one."""

    kafka: Kafka
    generations: Generations
    number: int
    partitions: int
    kept_days: int
    clock: Clock
    told: Callable[[Progress], None]
    grace_s: float
    closed: Callable[[], None]
    claim: Claim | None
    erased: Callable[[], Awaitable[Collection[str]]]

    async def attempt(self) -> RebuiltArchive:
        """Go on from what is stored. Raises _Behind if that does not fit the log, and as `rebuild_archive`."""
        consumer = self.kafka.consumer(fetch_max_bytes=64 << 20, max_partition_fetch_bytes=4 << 20)
        archive = ClickHouseArchive(self.generations.address(self.number), self.kept_days, may_write=self._is_alone)
        now_s = asyncio.get_running_loop().time
        try:
            await consumer.start()
            filling = _Filling(consumer, archive, self.partitions, self.told)
            await filling.begin()
            await filling.forget(await self.erased(), _FORGOTTEN_WITHIN_S)
            for _ in range(_LAPS):
                if await filling.lap() < _NEAR_RECORDS:
                    break
            await filling.forget(await self.erased(), _FORGOTTEN_WITHIN_S)
            step, began_s = await self._close(), now_s()
            # Until nobody serves the old one any more; then all that it can have served is in the log, and soon in here.
            while now_s() < began_s + self.grace_s:
                await filling.lap()
            await filling.lap()
            await filling.forget(await self.erased(), _FORGOTTEN_CLOSED_S)
        finally:
            await consumer.stop()
            # In process the engine must be let go of before another process opens it.
            await asyncio.to_thread(archive.close)
        await self._open(step)
        before = self.generations.address(step.before)
        return RebuiltArchive(self.number, filling.records, filling.bad, now_s() - began_s, before, step.before)

    async def drop(self) -> None:
        """Remove what was filled. Raises Overtaken or Claimed if it may be what is served by now."""
        if next_number(await asyncio.to_thread(self.generations.last)) != self.number:
            raise Overtaken(_OVERTAKEN)
        self._must_be_alone()
        await asyncio.to_thread(self.generations.drop, self.number)

    async def _close(self) -> Generation:
        faults.reached(FILLED)
        step = closing(await asyncio.to_thread(self.generations.last), self.clock.unix_ms())
        if step.number != self.number:
            raise Overtaken(_OVERTAKEN)
        self._must_be_alone()
        await asyncio.to_thread(self.generations.write, step)
        self.closed()
        faults.reached(CLOSED)
        return step

    async def _open(self, step: Generation) -> None:
        opened = opening(step, self.clock.unix_ms())
        if opened is None:
            raise RebuildFailed(
                "taking over took more than a minute: the archive of before is served again within another; repeat the command"
            )
        if await asyncio.to_thread(self.generations.last) != step:
            raise Overtaken(_OVERTAKEN)
        self._must_be_alone()
        faults.reached(OPENING)
        await asyncio.to_thread(self.generations.write, opened)

    def _must_be_alone(self) -> None:
        if not self._is_alone():
            raise Claimed("this rebuild stood still for so long that another may have begun")

    def _is_alone(self) -> bool:
        return self.claim is None or self.claim.is_held()


class _Filling:
    """One consumer and an archiver for each partition of each table, none of a group."""

    def __init__(
        self, consumer: AIOKafkaConsumer, archive: ClickHouseArchive, partitions: int, told: Callable[[Progress], None]
    ) -> None:  # fmt: skip
        self._archive, self._gone = archive, set[str]()
        self._consumer, self._told, self._quarantine, self.records = consumer, told, _Counting(), 0
        self._archivers: Mapping[TopicPartition, PartitionArchiver] = {
            TopicPartition(table.topic, number): PartitionArchiver(
                table, number, archive=archive, inserts=inserts, quarantine=self._quarantine, erased=self._gone
            )
            for table, inserts in {table: GroupedInserts(table, archive, _POLICY) for table in TABLES}.items()
            for number in range(partitions)
        }
        self._begins: Mapping[Any, int] = {}

    @property
    def bad(self) -> int:
        """Records no row could be made of."""
        return self._quarantine.count

    async def begin(self) -> None:
        """Go to where each partition's rows end. Raises _Behind if the log has no record there any more, or not yet."""
        places = list(self._archivers)
        self._consumer.assign(places)
        self._begins, ends = await self._consumer.beginning_offsets(places), await self._consumer.end_offsets(places)
        for place, archiver in self._archivers.items():
            offset = await archiver.begin()
            if offset is not None and not self._begins[place] <= offset <= ends[place]:
                raise _Behind(f"{place.topic}-{place.partition}: {offset} is not within the log")
            self._consumer.seek(place, self._begins[place] if offset is None else offset)

    async def forget(self, teams: Collection[str], within_s: float) -> None:
        """Take nothing of these teams any more, and remove what was filled of them; on return it is gone. To be called between laps.

        Raises RebuildFailed if that takes longer than `within_s`, Unavailable.
        """
        new = set(teams) - self._gone
        self._gone.update(new)
        left = [table for table in TABLES if table.erasable and new and await self._archive.rows_of(table, new)]
        for table in left:
            await self._archive.remove(table, new)
        try:
            async with asyncio.timeout(within_s):
                while left := [table for table in left if await self._archive.rows_of(table, new)]:  # noqa: ASYNC110
                    await asyncio.sleep(_FORGETTING_S)
        except TimeoutError:
            names = ", ".join(table.name for table in left)
            raise RebuildFailed(f"rows of teams that were erased meanwhile are still in {names} after {within_s:.0f} s") from None

    async def lap(self) -> int:
        """Take everything up to where the log ends now, and wait until it is stored; how many offsets that were."""
        ends = await self._consumer.end_offsets(list(self._archivers))
        ahead = await self._left(ends)
        left = ahead
        while left > 0:
            for place, records in (await self._consumer.getmany(timeout_ms=200, max_records=_MAX_RECORDS)).items():
                self.records += len(records)
                await self._archivers[place].take([input_of(one) for one in records])
            left = await self._left(ends)
            whole = sum(end - self._begins[place] for place, end in ends.items())
            self._told(Progress(whole - max(0, left), whole))
        for archiver in self._archivers.values():
            await archiver.finish()
        if ahead <= 0:
            await asyncio.sleep(_POLICY.interval_s)
        return ahead

    async def _left(self, ends: Mapping[Any, int]) -> int:
        return sum([max(0, end - await self._consumer.position(place)) for place, end in ends.items()])
