"""Filters by type and agent, and walks that look at a bounded part of the archive at a time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.errors import Malformed
from kite_common.ids import EventId, TeamId
from kite_common.testing import strategies
from kite_replay.adapters.clickhouse import sql
from kite_replay.application.read_events import ReadEvents, ReadRequest
from kite_replay.domain import cursor as cursors
from kite_replay.domain import filters, scopes
from kite_replay.domain.cursor import Cursor
from kite_replay.domain.filters import Filters
from kite_replay.domain.paid import PaidRange
from kite_replay.domain.query import EventQuery, Found, Place
from kite_replay.domain.retention import Retention
from kite_replay.domain.rows import EVENTS_TABLE
from kite_replay.testing import NOW_MS, MemoryArchive, batch, event_rows

TEAM = TeamId("team_a")
MESSAGE = "com.kite.agent.message"
A = "https://getkite.sh/agents/a"
texts = st.lists(strategies.texts.filter(bool), max_size=3).map(tuple)


@pytest.mark.parametrize(
    ("wanted", "event", "matched"),
    [
        (Filters(), ("x", "s", ""), True),
        (Filters(types=("com.github.*",)), ("com.github.push", "s", ""), True),
        (Filters(types=("com.github.*",)), ("com.github", "s", ""), False),
        (Filters(types=("com.github.*",)), ("com.githubx", "s", ""), False),
        (Filters(types=("x", "com.github.push")), ("com.github.push", "s", ""), True),
        (Filters(agents=("a",)), (MESSAGE, A, "b"), True),
        (Filters(agents=("b",)), (MESSAGE, A, "b"), True),
        (Filters(agents=("c",)), (MESSAGE, A, "b"), False),
        (Filters(agents=("a",)), ("other", A, "a"), False),
        (Filters(senders=("a",), receivers=("b", "c")), (MESSAGE, A, "b"), True),
        (Filters(senders=("b",)), (MESSAGE, A, "b"), False),
        (Filters(senders=("a/b",)), (MESSAGE, "https://getkite.sh/agents/a%2Fb", "x"), True),
        (Filters(types=("x",), agents=("a",)), (MESSAGE, A, "b"), False),
    ],
)
def test_values_of_a_filter_combine_with_or_and_filters_with_and(wanted: Filters, event: tuple[str, str, str], matched: bool) -> None:
    assert filters.matches(wanted, *event) is matched


@pytest.mark.parametrize("text", ["", "*", "a*", "a.*.b", "a b", "a\n", "**", "x" * 257])
def test_a_type_that_nobody_can_mean_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        filters.parse([text], [], [], [])


@pytest.mark.parametrize("values", [[""], ["x" * 257], ["x"] * 21])
def test_agents_are_bounded(values: list[str]) -> None:
    for given_values in ([[], values, [], []], [[], [], values, []], [[], [], [], values]):
        with pytest.raises(Malformed):
            filters.parse(*given_values)


@given(st.builds(Filters, texts, texts, texts, texts))
def test_values_never_enter_the_text_of_a_query(wanted: Filters) -> None:
    statement = sql.page(EventQuery(TEAM, 0, None, scopes.ALL, 1, wanted), Place("e", 5, 7))
    names = set(re.findall(r"\{(\w+):\w+\}", statement.text))
    assert names == set(statement.parameters)
    assert re.fullmatch(r"[\w\s(){}:.,'=<>]*", statement.text)


class Windowed(MemoryArchive):
    """Looks at three events at a time, as a real archive at a hundred thousand."""

    looked_at = 3

    async def find(self, query: EventQuery) -> Found:
        everything = (await super().find(EventQuery(query.team_id, query.from_ms, query.after_seq, scopes.ALL, 10_000))).rows
        until = everything[self.looked_at - 1] if len(everything) >= self.looked_at else None
        rows = (await super().find(query)).rows
        if until is None:
            return Found(rows)
        inside = tuple(row for row in rows if row.kiteseq <= until.kiteseq)
        return Found(inside) if len(inside) == query.limit else Found(inside, True, Place(*until[:3]))


async def windowed(matching: list[bool]) -> Windowed:
    archive = Windowed()
    rows = event_rows(TEAM, range(len(matching)), at_ms=NOW_MS)
    for at, yes in enumerate(matching):
        rows[at] = rows[at]._replace(type="wanted" if yes else "other", created_at=NOW_MS + at // 2)
    if rows:
        await archive.append(EVENTS_TABLE, [batch(rows)])
    return archive


def asked(since: str | None, limit: int) -> ReadRequest:
    return ReadRequest(TEAM, None if since is None else cursors.parse(since), since, limit, ("*",), Filters(types=("wanted",)))


@given(st.lists(st.booleans(), max_size=25), st.integers(1, 4))
async def test_a_walk_under_a_filter_sees_every_match_once_in_bounded_steps(matching: list[bool], limit: int) -> None:
    archive = await windowed(matching)
    seen: list[int] = []
    since: str | None = None
    for _ in range(len(matching) + 2):
        read = ReadEvents(archive, Retention(90), FrozenClock(from_unix_ms(NOW_MS)))  # a new one: nothing is remembered
        page = await read(asked(since, limit))
        assert len(page.rows) <= limit
        assert not page.has_more or page.next_cursor != since  # it always gets on
        seen += [row.kiteseq >> 10 for row in page.rows]
        since = page.next_cursor
        if not page.has_more:
            break
    else:
        raise AssertionError("the walk does not end")
    assert seen == [at for at, yes in enumerate(matching) if yes]


@given(st.lists(st.booleans(), min_size=1, max_size=25), st.integers(1, 4))
async def test_a_bought_page_under_a_filter_is_the_same_at_every_reading(matching: list[bool], limit: int) -> None:
    archive = await windowed(matching)
    read = ReadEvents(archive, Retention(90), FrozenClock(from_unix_ms(NOW_MS)))
    page = await read(asked(None, limit))
    if not page.rows:
        return
    last = page.rows[-1]
    bought = PaidRange(Cursor(last.created_ms, EventId(last.event_id)), len(page.rows))
    assert (await read.exactly(asked(None, limit), bought)).rows == page.rows
