"""Identifiers: what parses, what is derived, and that derived ids are the same in every process and version."""

import contextlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common import ids
from kite_common.errors import Malformed
from kite_common.ids import CommandId, EventId, TeamId, WebhookConfigId
from kite_common.testing import strategies

EVENT = EventId("019dddd4-bd00-7c79-b7a0-93c4d5f60718")


@pytest.mark.parametrize("text", ["team_abc", "clerk-user:user_2ab", "A", "9", "x" * 128, "a-b:c_d"])
def test_team_ids_of_urls_parse(text: str) -> None:
    assert ids.parse_team_id(text) == text


@pytest.mark.parametrize("text", ["", "x" * 129, "_a", ":a", "-a", "a b", "a/b", "a%3Ab", "ä", "a\n", "a\x00", "{team}"])
def test_other_texts_are_no_team_ids(text: str) -> None:
    with pytest.raises(Malformed):
        ids.parse_team_id(text)


@given(st.text())
def test_a_text_is_a_team_id_or_malformed_and_nothing_else(text: str) -> None:
    with contextlib.suppress(Malformed):
        assert ids.parse_team_id(text) == text


@given(strategies.unix_ms, strategies.random_bits)
def test_event_ids_are_uuids_of_version_7_with_their_time(unix_ms: int, bits: int) -> None:
    parsed = uuid.UUID(ids.uuid7(unix_ms, bits))
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == unix_ms


@given(strategies.unix_ms, strategies.random_bits, strategies.random_bits)
def test_event_ids_keep_all_74_random_bits(unix_ms: int, one: int, other: int) -> None:
    assert (ids.uuid7(unix_ms, one) == ids.uuid7(unix_ms, other)) == (one == other)


@given(st.integers(0, (1 << 48) - 2), strategies.random_bits, strategies.random_bits)
def test_event_ids_sort_by_time(unix_ms: int, one: int, other: int) -> None:
    assert ids.uuid7(unix_ms, one) < ids.uuid7(unix_ms + 1, other)


@given(st.binary(min_size=16, max_size=16))
def test_new_team_ids_are_lower_case_letters_and_digits_that_parse(random: bytes) -> None:
    team = ids.new_team_id(random)
    assert ids.parse_team_id(team) == team
    assert len(team) == 31
    assert team == team.lower()


@given(strategies.event_ids())
def test_derived_ids_are_uuids_of_version_5(event_id: EventId) -> None:
    derived = ids.ledger_entry_of_event(event_id)
    assert uuid.UUID(derived).version == 5
    assert uuid.UUID(derived).variant == uuid.RFC_4122
    root = uuid.uuid5(uuid.NAMESPACE_DNS, "getkite.sh")
    assert derived == str(uuid.uuid5(uuid.uuid5(root, "ledger"), "event:" + event_id))


def test_derived_ids_never_change_because_the_log_is_full_of_them() -> None:
    config = WebhookConfigId("0f2d9c1e-58a7-4a3f-8b62-3d1f5e7a9c04")
    command = CommandId("5e0f6a52-6b0c-4f0e-9d0e-0d2b6f5c8a11")
    assert ids.ledger_entry_of_event(EVENT) == "536593ea-15b5-5d8c-98d1-82572df3bbf4"
    assert ids.delivery_of(EVENT, config) == "3742d8de-f804-5ba2-b1da-6c8b89a23ab7"
    assert ids.delivery_of(EVENT, None) == "4fa0ff8c-87e7-5ec3-8f17-9573550a49f2"
    assert ids.subscription_of(command) == "c319e67f-000f-5ffa-ab98-ecec643c11cf"


def test_ids_derived_for_different_purposes_differ() -> None:
    derived = [
        ids.ledger_entry_of_event(EVENT),
        ids.ledger_entry_of_command(CommandId(EVENT)),
        ids.subscription_of(CommandId(EVENT)),
        ids.notice_of(TeamId("team_a"), "month:1"),
        ids.notice_of(TeamId("team_a"), "month:2"),
        ids.delivery_of(EVENT, None),
    ]
    assert len(set(derived)) == len(derived)


@pytest.mark.parametrize(
    ("text", "expected"), [(EVENT, True), (EVENT.upper(), True), (EVENT[:-1], False), (EVENT + "0", False), ("", False)]
)
def test_only_36_character_texts_are_uuids(text: str, expected: bool) -> None:
    assert ids.is_uuid(text) is expected


@given(st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 74) - 1))
def test_the_time_of_an_event_id_is_the_one_it_was_made_of(unix_ms: int, bits: int) -> None:
    assert ids.time_of(ids.uuid7(unix_ms, bits)) == unix_ms


@pytest.mark.parametrize("text", ["", "msg_1", str(uuid.uuid5(uuid.NAMESPACE_OID, "x"))])
def test_no_other_text_has_a_time(text: str) -> None:
    assert ids.time_of(text) is None
