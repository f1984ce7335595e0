"""Endpoints as facts: opened, rotated, closed, counted."""

from hypothesis import given
from hypothesis import strategies as st

from kite_common.events.hooks import OVERLAP_MS, HookEndpoint, active_sources, closed, opened, secret_context
from kite_common.ids import TeamId, endpoint_of, is_source
from kite_common.testing import make

TEAM, NOW = TeamId(make.TEAM), make.NOW_MS


def _secrets(endpoint: HookEndpoint) -> list[tuple[str, int | None]]:
    return [(one.sealed, one.expires_at) for one in endpoint.secrets]


def test_an_endpoint_keeps_its_id_however_often_it_is_opened() -> None:
    first = opened(None, TEAM, "github", None, NOW)
    again = opened(closed(first, NOW + 1), TEAM, "github", "s", NOW + 2)
    assert (first.id, again.id, first.secrets, first.active) == (endpoint_of(TEAM, "github"), first.id, (), True)
    assert (again.created_at, again.updated_at, again.active) == (NOW, NOW + 2, True)
    assert opened(None, TEAM, "gitlab", None, NOW).id != first.id


def test_another_secret_ends_the_former_in_ten_minutes_and_no_secret_changes_nothing() -> None:
    first = opened(None, TEAM, "github", "one", NOW)
    second = opened(first, TEAM, "github", "two", NOW + 1_000)
    assert _secrets(second) == [("two", None), ("one", NOW + 1_000 + OVERLAP_MS)]
    assert opened(second, TEAM, "github", None, NOW + 2_000).secrets == second.secrets
    third = opened(second, TEAM, "github", "three", NOW + 1_000 + OVERLAP_MS)
    assert _secrets(third) == [("three", None), ("two", NOW + 1_000 + 2 * OVERLAP_MS)]


@given(st.lists(st.integers(0, OVERLAP_MS), max_size=20))
def test_however_often_it_is_rotated_the_newest_is_first_and_lives_longest(waits: list[int]) -> None:
    endpoint, now_ms = opened(None, TEAM, "github", "first", NOW), NOW
    for number, wait in enumerate(waits):
        now_ms += wait
        endpoint = opened(endpoint, TEAM, "github", f"s{number}", now_ms)
    ends = [one.expires_at for one in endpoint.secrets]
    assert ends[0] is None
    later = [end for end in ends[1:] if end is not None]
    assert len(later) == len(ends) - 1 <= 7
    assert later == sorted(later, reverse=True)
    assert all(end > now_ms for end in later)


def test_a_closed_endpoint_keeps_no_secret() -> None:
    shut = closed(opened(None, TEAM, "github", "s", NOW), NOW + 1)
    assert (shut.active, shut.secrets, shut.updated_at) == (False, (), NOW + 1)
    assert opened(shut, TEAM, "github", None, NOW + 2).secrets == ()


def test_a_token_alone_counts_as_a_source_and_a_closed_endpoint_does_not() -> None:
    stored = [make.hook_endpoint(), make.hook_endpoint(source="slack", active=False)]
    tokens = [make.credential(make.HOOK_TOKEN, source=source) for source in ("github", "slack", "ci", "ci")]
    assert active_sources(stored, tokens) == {"github", "ci"}


def test_what_is_sealed_for_one_endpoint_is_sealed_for_no_other() -> None:
    assert len({secret_context(team, source) for team in ("a", "a:b") for source in ("c", "c-d")}) == 4


@given(st.text(max_size=70))
def test_a_source_is_a_slug_and_never_kite(text: str) -> None:
    good = 1 <= len(text) <= 64 and set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and text[0] != "-" and text != "kite"
    assert is_source(text) == good
    assert not is_source("kite")
    assert is_source("kite-2")
