"""Limits, scopes and what SQL becomes of them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.errors import Malformed
from kite_common.ids import EventId, TeamId
from kite_common.testing import strategies
from kite_replay.adapters.clickhouse import sql
from kite_replay.domain import scopes
from kite_replay.domain.query import EventQuery, parse_limit
from kite_replay.domain.scopes import AgentTo, Everything, SourceContains, TypeContains

scope_texts = strategies.texts | st.builds("{}:{}".format, st.sampled_from(["source", "type", "agent_to", "other"]), strategies.texts)


@pytest.mark.parametrize(
    ("text", "limit"),
    [(None, 100), ("1", 1), ("7", 7), ("1000", 1000), ("0", 1), ("-1", 1), ("1001", 1000), ("5000", 1000), ("007", 7), ("-0", 1)],
)
def test_a_limit_is_clamped_into_1_to_1000(text: str | None, limit: int) -> None:
    assert parse_limit(text) == limit


def test_a_limit_of_a_million_digits_is_clamped_without_being_computed() -> None:
    assert parse_limit("9" * 1_000_000) == 1000


@pytest.mark.parametrize("text", ["", "x", "1.0", "1e3", " 5", "5 ", "+5", "--5", "-", "1_000", "0x10", "\u0665", "NaN", "true", "null"])
def test_a_limit_that_is_no_integer_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_limit(text)


@given(st.text(max_size=30))
def test_any_limit_text_is_in_range_or_malformed(text: str) -> None:
    try:
        assert 1 <= parse_limit(text) <= 1000
    except Malformed:
        assert not re.fullmatch("-?[0-9]+", text)


def test_scopes_are_read_by_their_first_colon() -> None:
    assert scopes.parse(["source:a:b", "type:t", "agent_to:x y"]) == (SourceContains("a:b"), TypeContains("t"), AgentTo("x y"))


def test_everything_swallows_narrower_scopes() -> None:
    assert scopes.parse(["type:a", "*"]) == (Everything(),)


@pytest.mark.parametrize("texts", [[], [""], ["source"], ["source:"], ["type:"], ["agent_to:"], ["TYPE:a"], ["**"], ["from:a"]])
def test_unknown_empty_and_nameless_scopes_match_nothing(texts: list[str]) -> None:
    assert scopes.parse(texts) == ()


@pytest.mark.parametrize(
    ("text", "event", "matched"),
    [
        ("source:github", ("com.x", "https://github.com/o/r", "", ""), True),
        ("source:github", ("com.github.push", "https://x", "", ""), True),
        ("source:github", ("com.x", "https://x", "my-github", ""), True),
        ("source:GitHub", ("com.github.push", "https://github.com", "github", ""), False),
        ("type:push", ("com.github.push", "s", "", ""), True),
        ("type:push", ("com.github.pull", "push", "push", "push"), False),
        ("agent_to:b", ("com.kite.agent.message", "s", "", "b"), True),
        ("agent_to:b", ("com.kite.agent.message", "s", "", "bb"), False),
        ("agent_to:b", ("com.kite.agent.message.v2", "s", "", "b"), False),
    ],
)
def test_a_scope_matches_as_the_contract_says(text: str, event: tuple[str, str, str, str], matched: bool) -> None:
    assert scopes.matches(scopes.parse([text]), *event) is matched


def test_scopes_combine_with_or() -> None:
    wanted = scopes.parse(["source:a", "type:b"])
    assert scopes.matches(wanted, "b", "x", "", "")
    assert scopes.matches(wanted, "x", "a", "", "")
    assert not scopes.matches(wanted, "x", "x", "", "")


@given(strategies.team_ids(), st.lists(scope_texts, max_size=5), st.none() | st.integers(0, 1 << 53), st.integers(-(1 << 50), 1 << 50))
def test_a_statement_never_holds_a_value_in_its_text(team: TeamId, texts: list[str], after: int | None, from_ms: int) -> None:
    plain = sql.page(EventQuery(TeamId("t"), 0, None, scopes.parse(texts), 1)).text
    statement = sql.page(EventQuery(team, from_ms, after, scopes.parse(texts), 1000))
    assert statement.text == plain
    placeholders = set(re.findall(r"\{(\w+):\w+\}", statement.text))
    assert placeholders == set(statement.parameters)


def test_a_statement_always_asks_for_one_team_first() -> None:
    for statement in (sql.page(EventQuery(TeamId("t"), 0, None, (), 1)), sql.seq_of(TeamId("t"), 0, EventId("e"))):
        assert "WHERE team_id = {team:String} AND" in statement.text
        assert statement.parameters["team"] == "t"


def test_no_scope_selects_nothing() -> None:
    assert "AND (0)" in sql.page(EventQuery(TeamId("t"), 0, None, (), 1)).text


def test_a_start_before_the_first_event_is_before_kiteseq_0() -> None:
    assert sql.page(EventQuery(TeamId("t"), 0, None, scopes.ALL, 1)).parameters["after_seq"] == -1
