"""Reading pages: refusals, cursors, retention, walks."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kite_common.clock import FrozenClock, to_unix_ms
from kite_common.errors import ApiError
from kite_common.ids import TeamId
from kite_replay.application.read_events import Page, ReadEvents, ReadRequest
from kite_replay.domain import cursor as cursors
from kite_replay.domain.allowance import RateLimit, rate_limit, rate_refusal
from kite_replay.domain.query import EventQuery, Found
from kite_replay.domain.retention import Retention
from kite_replay.domain.rows import EVENTS_TABLE
from kite_replay.testing import NOW_MS, MemoryArchive, batch, event_rows

TEAM = TeamId("team_a")
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
DAY_MS = 86_400_000


def reader(archive: MemoryArchive, clock: FrozenClock | None = None) -> ReadEvents:
    return ReadEvents(archive, Retention(90), clock or FrozenClock(NOW))


def request(since: str | None = None, limit: int = 100, key_scopes: tuple[str, ...] = ("*",)) -> ReadRequest:
    return ReadRequest(TEAM, None if since is None else cursors.parse(since), since, limit, key_scopes)


async def archive_of(*times_ms: int) -> MemoryArchive:
    archive = MemoryArchive()
    for offset, at_ms in enumerate(times_ms):
        await archive.append(EVENTS_TABLE, [batch(event_rows(TEAM, [offset], at_ms=at_ms))])
    return archive


def offsets(page: Page) -> list[int]:
    return [row.kiteseq >> 10 for row in page.rows]


async def test_without_a_cursor_reading_starts_at_the_oldest_retained_event() -> None:
    archive = await archive_of(NOW_MS - 92 * DAY_MS, NOW_MS - 89 * DAY_MS, NOW_MS)
    page = await reader(archive)(request())
    assert offsets(page) == [1, 2]
    assert not page.has_more


async def test_a_cursor_with_an_event_is_strictly_after_it_and_a_time_alone_includes_its_rows() -> None:
    archive = await archive_of(NOW_MS, NOW_MS, NOW_MS, NOW_MS + 1)
    rows = (await reader(archive)(request())).rows
    assert offsets(await reader(archive)(request(f"{cursors.timestamp(NOW_MS)}:{rows[1].event_id}"))) == [2, 3]
    assert offsets(await reader(archive)(request(cursors.timestamp(NOW_MS)))) == [0, 1, 2, 3]


async def test_more_is_announced_only_when_more_is_readable() -> None:
    archive = await archive_of(NOW_MS, NOW_MS, NOW_MS)
    assert (await reader(archive)(request(limit=2))).has_more
    assert not (await reader(archive)(request(limit=3))).has_more


async def test_an_empty_page_gives_the_cursor_back_that_was_sent() -> None:
    archive = await archive_of()
    assert (await reader(archive)(request())).next_cursor is None
    sent = "2026-05-01T12:00:00Z"
    page = await reader(archive)(request(sent))
    assert (page.rows, page.next_cursor, page.has_more) == ((), sent, False)


async def test_a_cut_page_says_that_there_is_more() -> None:
    class Cutting(MemoryArchive):
        async def find(self, query: EventQuery) -> Found:
            return Found((await super().find(query)).rows[:1], cut=True)

    archive = Cutting()
    await archive.append(EVENTS_TABLE, [batch(event_rows(TEAM, [0, 1, 2]))])
    page = await reader(archive)(request())
    assert offsets(page) == [0]
    assert page.has_more


@pytest.mark.parametrize("shift_ms", [1, -1])
async def test_a_cursor_whose_event_is_unknown_or_at_another_time_is_invalid(shift_ms: int) -> None:
    archive = await archive_of(NOW_MS)
    (row,) = (await reader(archive)(request())).rows
    with pytest.raises(ApiError, match="invalid_cursor"):
        await reader(archive)(request(f"{cursors.timestamp(NOW_MS + shift_ms)}:{row.event_id}"))


async def test_an_expired_cursor_names_a_start_that_works_and_misses_nothing_retained() -> None:
    archive = await archive_of(NOW_MS - 90 * DAY_MS, NOW_MS)
    clock = FrozenClock(NOW)
    read = reader(archive, clock)
    with pytest.raises(ApiError, match="cursor_expired") as caught:
        await read(request("2026-01-01 00:00:00"))
    oldest = str(caught.value.extra["oldest_cursor"])
    clock.advance(timedelta(minutes=59))
    assert offsets(await read(request(oldest))) == [0, 1]


@given(
    st.lists(st.integers(-95 * DAY_MS, 0), max_size=12).map(sorted),
    st.integers(-95 * DAY_MS, 0) | st.sampled_from([-90 * DAY_MS + shift for shift in (-3_600_001, -3_600_000, -1, 0, 1)]),
    st.integers(0, 3_600_000),
)
async def test_a_cursor_works_or_names_one_that_works_for_an_hour_and_misses_nothing_retained(
    ages_ms: list[int], since_ms: int, later_ms: int
) -> None:
    archive = await archive_of(*(NOW_MS + age for age in ages_ms))
    clock = FrozenClock(NOW)
    read = reader(archive, clock)
    since = cursors.timestamp(NOW_MS + since_ms)
    start_ms = since_ms
    try:
        page = await read(request(since))
    except ApiError as error:
        assert since_ms < -90 * DAY_MS - 3_600_000  # noqa: PT017 - both outcomes are checked
        clock.advance(timedelta(milliseconds=later_ms))
        page = await read(request(str(error.extra["oldest_cursor"])))
        start_ms = -90 * DAY_MS
    assert offsets(page) == [at for at, age in enumerate(ages_ms) if age >= start_ms]


async def test_an_expired_cursor_is_expired_even_if_its_event_is_unknown() -> None:
    with pytest.raises(ApiError, match="cursor_expired"):
        await reader(await archive_of())(request("2020-01-01 00:00:00:01900000-0000-7000-8000-000000000001"))


@pytest.mark.parametrize(("rate", "refused"), [(None, None), (RateLimit(60, 3, 57), None), (RateLimit(60, 0, 60, 1), 1)])
def test_a_request_above_the_rate_is_refused_and_told_how_long(rate: RateLimit | None, refused: int | None) -> None:
    error = rate_refusal(rate)
    assert (None if error is None else (error.code, error.retry_after_s)) == (None if refused is None else ("rate_limit_exceeded", refused))


async def test_a_keys_scopes_narrow_what_is_read() -> None:
    archive = await archive_of(NOW_MS, NOW_MS)
    assert offsets(await reader(archive)(request(key_scopes=("agent_to:builder",)))) == [0, 1]
    assert offsets(await reader(archive)(request(key_scopes=("agent_to:other",)))) == []
    assert offsets(await reader(archive)(request(key_scopes=()))) == []


@settings(deadline=None)
@given(gaps=st.lists(st.sampled_from([0, 0, 0, 1, 1000]), min_size=0, max_size=60), limit=st.integers(1, 10), fresh=st.booleans())
async def test_walking_by_cursor_reads_every_event_once_in_order(gaps: list[int], limit: int, fresh: bool) -> None:
    times = [NOW_MS + sum(gaps[: index + 1]) for index in range(len(gaps))]
    archive = await archive_of(*times)
    read, seen, since = reader(archive), [], None
    while True:
        # A fresh reader is a replica that did not hand the cursor out.
        page = await (reader(archive) if fresh else read)(request(since, limit))
        seen += offsets(page)
        since = page.next_cursor
        if not page.has_more:
            break
    assert seen == list(range(len(gaps)))


@given(st.integers(1, 100_000), st.integers(0, 100_000 * 60_000))
def test_what_is_told_of_a_bucket_is_within_its_limit(per_minute: int, level: int) -> None:
    level = min(level, per_minute * 60_000)
    told = rate_limit(per_minute, level, allowed=level >= 60_000)
    assert told is not None
    assert 0 <= told.remaining <= told.limit == per_minute
    assert 0 <= told.reset_s <= 60
    assert told.retry_after_s is None or 1 <= told.retry_after_s <= 60


def test_a_rate_of_0_is_no_limit() -> None:
    assert rate_limit(0, 0, allowed=True) is None


def test_the_three_edges_of_retention_never_cross() -> None:
    for days in (1, 90, 3650):
        retention, now_ms = Retention(days), to_unix_ms(NOW)
        deleted_ms = now_ms - retention.kept_days() * DAY_MS
        assert deleted_ms < retention.oldest_readable_ms(now_ms) < retention.edge_ms(now_ms) == now_ms - days * DAY_MS
