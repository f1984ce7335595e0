"""One rebuild at a time on a server, and no empty archive where a later one is there. A real server, a real broker."""

import asyncio
import fcntl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

import pytest

from kite_common.errors import Unavailable
from kite_common.runtime.system import SystemClock
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.testing import make
from kite_common.topics import EVENTS
from kite_replay.adapters import rebuild as rebuilding
from kite_replay.adapters.clickhouse.address import Address, InProcess, Server, parse_address
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.adapters.clickhouse.claim import LAPSES_AFTER_S, Claim, Claimed, held
from kite_replay.adapters.clickhouse.clients import open_client
from kite_replay.adapters.clickhouse.generations import generations_of, last_known
from kite_replay.adapters.rebuild import rebuild_archive
from kite_replay.domain.generation import GIVEN_UP_AFTER_MS, Generation, closing, next_number, serving
from kite_replay.domain.rows import TABLES
from kite_replay.testing.records import batch, event_rows
from support.clickhouse import Served
from support.log import running
from support.stack import RunningStack

KEPT_DAYS, EVENTS_STORED = 90, 400


@pytest.fixture
def database(served: Served) -> Server:
    """One of the test's own."""
    address = parse_address(served.url)
    assert isinstance(address, Server)
    return replace(address, database=f"t{token_hex(4)}")


@pytest.fixture
async def stored(stack: RunningStack, monkeypatch: pytest.MonkeyPatch) -> Kafka:
    """A log of events in topics of the test's own, of which rebuilds make that table alone."""
    kafka, prefix = Kafka(stack.kafka), f"t{token_hex(4)}."
    topics = [replace(topic, name=prefix + topic.name) for topic in (EVENTS,)]
    await ensure_topics(kafka, topics, 2, 1)
    monkeypatch.setattr(rebuilding, "TABLES", [replace(TABLES[0], topic=topics[0].name)])
    publisher = Publisher(kafka, topics[0].name, 2)
    async with running(publisher):
        for number in range(EVENTS_STORED):
            await publisher.publish(number % 2, [make.event_record(event_id=make.event_id(number))])
    return kafka


async def rebuild(
    kafka: Kafka, address: Address, closed: Callable[[], None] = lambda: None, gone: Callable[[], frozenset[str]] = frozenset
) -> rebuilding.RebuiltArchive:  # fmt: skip
    async def erased() -> frozenset[str]:
        return gone()

    return await rebuild_archive(
        kafka, address, 2, KEPT_DAYS, SystemClock(), lambda _progress: None, erased=erased, grace_s=0, closed=closed
    )


def rows_of(database: Server, number: int) -> list[tuple[int, int]]:
    """Rows and events of a generation."""
    client = open_client(database, f"{database.database}_g{number}")
    try:
        return [(int(rows), int(events)) for rows, events in client.query("SELECT count(), uniqExact(event_id) FROM events").result_rows]
    finally:
        client.close()


async def test_of_two_rebuilds_at_once_one_is_refused_and_every_event_has_one_row(stored: Kafka, database: Server) -> None:
    """A story: each went on from the rows the other had just stored, and stored them once more."""
    ended = await asyncio.gather(*(rebuild(stored, database) for _ in range(3)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in ended) == ["Claimed", "Claimed", "RebuiltArchive"], ended
    assert rows_of(database, 1) == [(EVENTS_STORED, EVENTS_STORED)]


@pytest.mark.parametrize("erased_before", ["filling", "closing", "opening"])
async def test_a_rebuild_brings_nothing_of_an_erased_team_back(stored: Kafka, database: Server, erased_before: str) -> None:
    """A story: a team that was erased while it filled was back when it opened, after the command had said that it is gone."""
    asked = iter(["filling", "closing", "opening"])
    seen: list[str] = []

    def gone() -> frozenset[str]:
        seen.append(next(asked))
        return frozenset({make.TEAM}) if erased_before in seen else frozenset()

    publisher = Publisher(stored, vars(rebuilding)["TABLES"][0].topic, 2)
    async with running(publisher):
        for number in range(3):
            await publisher.publish(0, [make.event_record(event_id=make.event_id(EVENTS_STORED + number), team_id="team_stays")])
    rebuilt = await rebuild(stored, database, gone=gone)
    assert seen == ["filling", "closing", "opening"]
    assert rebuilt.records == EVENTS_STORED + 3
    assert rows_of(database, 1) == [(3, 3)]


async def test_a_rebuild_that_goes_on_removes_what_it_had_filled_of_a_team_that_was_erased_meanwhile(
    stored: Kafka, database: Server
) -> None:  # fmt: skip
    def ended() -> None:
        raise InterruptedError

    with pytest.raises(Unavailable):
        await rebuild(stored, database, closed=ended)
    assert rows_of(database, 1) == [(EVENTS_STORED, EVENTS_STORED)]
    await rebuild(stored, database, gone=lambda: frozenset({make.TEAM}))
    assert rows_of(database, 1) == [(0, 0)]


async def test_a_whole_rebuild_after_the_list_was_lost_fills_another_generation(stored: Kafka, database: Server) -> None:
    assert (await rebuild(stored, database)).number == 1
    client = open_client(database, "default")
    client.command(f"DROP DATABASE `{database.database}` SYNC")
    client.close()
    again = await rebuild(stored, database)
    assert (again.number, again.before) == (2, 1)
    assert rows_of(database, 1) == rows_of(database, 2) == [(EVENTS_STORED, EVENTS_STORED)]
    last = await asyncio.to_thread(generations_of(database).last)
    assert serving(last, SystemClock().unix_ms()) == 2


async def test_who_lost_its_claim_in_the_change_over_does_not_open(
    stored: Kafka, database: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lapse() -> None:
        monkeypatch.setattr(Claim, "is_held", lambda _claim: False)

    with pytest.raises(Claimed, match="stood still"):
        await rebuild(stored, database, closed=lapse)
    last = await asyncio.to_thread(generations_of(database).last)
    assert last is not None
    assert (last.number, last.opened) == (1, False)
    assert serving(last, last.at_ms + GIVEN_UP_AFTER_MS) == 0, "the one of before is served again"


async def test_what_does_not_fit_the_log_is_removed_and_filled_anew_unless_it_may_be_served_by_now(
    stored: Kafka, database: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = ClickHouseArchive(replace(database, database=f"{database.database}_g1"), KEPT_DAYS)
    ahead = event_rows(make.TEAM, [EVENTS_STORED * 10], partition=0, at_ms=SystemClock().unix_ms())
    await filled.append(TABLES[0], [batch(ahead)])
    await asyncio.to_thread(filled.close)
    client = open_client(database, "default")
    client.command(f"CREATE DATABASE `{database.database}`")
    client.close()
    generations = generations_of(database)
    await asyncio.to_thread(generations.write, Generation(0, 0, opened=True, at_ms=1))
    dropping = rebuilding._Rebuild.drop

    async def late(one: rebuilding._Rebuild) -> None:
        # It stood still meanwhile: another rebuild has filled this generation, and it is served.
        await asyncio.to_thread(generations.write, Generation(1, 0, opened=True, at_ms=2))
        await dropping(one)

    monkeypatch.setattr(rebuilding._Rebuild, "drop", late)
    with pytest.raises(rebuilding.Overtaken):
        await rebuild(stored, database)
    monkeypatch.setattr(rebuilding._Rebuild, "drop", dropping)
    assert rows_of(database, 1) == [(1, 1)], "what is served was not removed"
    await asyncio.to_thread(generations.write, Generation(1, 0, opened=False, at_ms=3))
    assert (await rebuild(stored, database)).number == 1
    assert rows_of(database, 1) == [(EVENTS_STORED, EVENTS_STORED)]


def test_a_folder_that_an_engine_has_open_is_not_removed(tmp_path: Path) -> None:
    folder = tmp_path / "clickhouse.g1"
    folder.mkdir()
    generations = generations_of(InProcess(str(tmp_path / "clickhouse")))
    with (folder / "status").open("w") as status:
        fcntl.flock(status, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            generations.drop(1)
        assert (folder / "status").exists()
    generations.drop(1)
    assert not folder.exists()


async def test_a_place_that_cannot_be_an_archive_is_said_to_be_away(stored: Kafka, tmp_path: Path) -> None:
    """A story: what the list of generations raised was a traceback."""
    (tmp_path / "file").write_text("where a folder should be")
    with pytest.raises(Unavailable, match="ClickHouse is away or refuses"):
        await rebuild(stored, InProcess(str(tmp_path / "file" / "clickhouse")))


async def test_a_claim_that_could_not_be_renewed_in_time_is_lost_for_good(database: Server) -> None:
    now = 1_000.0
    claim = Claim(database, lambda: now)
    assert not claim.is_held()
    async with held(claim):
        assert claim.is_held()
        with pytest.raises(Claimed, match="under way"):
            await asyncio.to_thread(Claim(database).take)
        assert claim.is_held(), "who was refused disturbs nobody"
        now += LAPSES_AFTER_S / 2 + 1
        assert not claim.is_held()
        now -= LAPSES_AFTER_S / 2 + 1
        assert not claim.is_held()
        with pytest.raises(Claimed, match="stood still"):
            await asyncio.to_thread(claim.renew)


async def test_after_a_holder_that_was_killed_the_next_may_begin(database: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(Claim(database).take)
    monkeypatch.setattr("kite_replay.adapters.clickhouse.claim._HOLDER", _lapsing_after(2))
    async with asyncio.timeout(30):
        while True:
            claim = Claim(database)
            try:
                await asyncio.to_thread(claim.take)
            except Claimed:
                await asyncio.sleep(0.2)
            else:
                break
    assert claim.is_held()


def _lapsing_after(seconds: int) -> str:
    from kite_replay.adapters.clickhouse import claim

    return claim._HOLDER.replace(f"INTERVAL {claim.LAPSES_AFTER_S} SECOND", f"INTERVAL {seconds} SECOND")


async def test_where_the_list_of_generations_is_gone_nobody_begins_with_an_empty_archive(database: Server) -> None:
    """A story: DROP DATABASE of the first one, and replay answered as if nothing had ever been sent."""
    first = ClickHouseArchive(database, KEPT_DAYS)
    assert await first.broken_parts() == 0
    later = ClickHouseArchive(replace(database, database=f"{database.database}_g1"), KEPT_DAYS)
    assert await later.broken_parts() == 0
    await asyncio.to_thread(generations_of(database).write, Generation(1, 0, opened=True, at_ms=1))
    client = open_client(database, "default")
    client.command(f"DROP DATABASE `{database.database}` SYNC")
    client.close()
    again = ClickHouseArchive(database, KEPT_DAYS)
    with pytest.raises(Unavailable, match=f"database {database.database}_g1 is there: kitectl rebuild archive"):
        await again.broken_parts()
    assert "kitectl rebuild archive" in again.readiness().reason
    for archive in (first, later, again):
        await asyncio.to_thread(archive.close)


async def test_a_rebuild_after_that_fills_another_one_and_a_failed_one_goes_back_to_what_was_there(database: Server) -> None:
    """A story: it filled, dropped or overtook the only archive there was, because the list said that there had never been one."""
    for number in (2, 10):
        later = ClickHouseArchive(replace(database, database=f"{database.database}_g{number}"), KEPT_DAYS)
        await later.broken_parts()
        await asyncio.to_thread(later.close)
    generations = generations_of(database)
    known = await asyncio.to_thread(last_known, generations)
    assert known == Generation(10, 10, opened=True, at_ms=0)
    assert next_number(known) == 11
    claim = Claim(database)
    await asyncio.to_thread(claim.take)
    assert await asyncio.to_thread(generations.lost) == 10, "a rebuild's claim is no archive"
    step = closing(known, 1_000)
    await asyncio.to_thread(generations.write, step)
    assert serving(await asyncio.to_thread(generations.last), 1_000 + GIVEN_UP_AFTER_MS) == 10


def test_a_first_archive_beside_one_that_is_being_filled_is_not_lost(tmp_path: Path) -> None:
    first = tmp_path / "clickhouse"
    generations = generations_of(InProcess(str(first)))
    assert generations.lost() is None
    for name in ("clickhouse.g9", "clickhouse.g10", "clickhouse.g11.bak"):
        (tmp_path / name).mkdir()
    (tmp_path / "clickhouse.g12").write_text("no folder")
    assert generations.lost() == 10
    first.mkdir()
    assert generations.lost() == 10, "an empty folder, such as a volume that was mounted, is no archive"
    (first / "data").mkdir()
    assert generations.lost() is None
    (first / "data").rmdir()
    generations.write(Generation(1, 0, opened=True, at_ms=1))
    assert generations.lost() is None
