"""Access, message fields, webhook configs, targets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.events.agent_message import AgentMessage, to_event
from kite_common.events.envelope import read_stored
from kite_common.ids import EventId, KeyPrefix, TeamId, WebhookConfigId
from kite_common.testing import make
from kite_gateway.domain.access import Principal, check_access
from kite_gateway.domain.message import InvalidField, read_message
from kite_gateway.domain.target import is_private_host
from kite_gateway.domain.webhook_config import (
    InvalidConfig,
    WantedConfig,
    configured,
    deactivated,
    identity,
    read_config,
)

TEAM = TeamId("team_a")
GOOD: dict[str, Any] = {"url": "https://example.com/hook", "secret": "shared"}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


def _principal(*permissions: str) -> Principal:
    return Principal(TEAM, KeyPrefix("01234567"), permissions)


@pytest.mark.parametrize(
    ("principal", "team_id", "expected"),
    [
        (None, None, "unauthorized"),
        (None, "team_a", "unauthorized"),
        (_principal("write"), None, "missing_team_id"),
        (_principal("write"), "", "missing_team_id"),
        (_principal("read"), "team_b", "forbidden"),
        (_principal("read"), "team_a", "insufficient_permissions"),
        (_principal(), "team_a", "insufficient_permissions"),
        (_principal("write"), "team_a", None),
        (_principal("admin"), "team_a", None),
        (_principal("*"), "team_a", None),
    ],
)
def test_access_is_refused_in_the_order_of_the_contract(principal: Principal | None, team_id: str | None, expected: str | None) -> None:
    assert check_access(principal, team_id, "write") == expected


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "from"),
        ({"from": "", "to": "b", "body": ""}, "from"),
        ({"from": 1, "to": "b", "body": ""}, "from"),
        ({"from": "a", "body": ""}, "to"),
        ({"from": "a", "to": None, "body": ""}, "to"),
        ({"from": "a", "to": "b"}, "body"),
        ({"from": "a", "to": "b", "body": ["x"]}, "body"),
        ({"from": "a", "to": "b", "body": "", "thread_id": 1}, "thread_id"),
        ({"from": "a", "to": "b", "body": "", "reply_to_id": {}}, "reply_to_id"),
    ],
)
def test_a_wrong_field_is_named(body: dict[str, Any], field: str) -> None:
    found = read_message(body)
    assert isinstance(found, InvalidField)
    assert found.field == field


def test_null_is_absent_and_unknown_fields_are_ignored() -> None:
    body = {"from": "a", "to": "b", "body": "", "thread_id": None, "reply_to_id": "r", "more": [1]}
    assert read_message(body) == AgentMessage("a", "b", "", None, "r")


@given(st.dictionaries(st.sampled_from(["from", "to", "body", "thread_id", "reply_to_id", "x"]), json_values))
def test_any_object_is_a_message_without_nul_or_names_a_field(body: dict[str, Any]) -> None:
    found = read_message(body)
    assert isinstance(found, AgentMessage | InvalidField)
    assert isinstance(found, InvalidField) or not any("\x00" in text for text in found.data().values())


@given(st.text(min_size=1), st.text(min_size=1), st.text())
def test_agent_ids_of_any_text_make_a_safe_url_and_one_line(from_: str, to: str, body: str) -> None:
    stored = read_stored(to_event(AgentMessage(from_, to, body), EventId(make.EVENT_ID), make.NOW_MS), 1)
    assert stored.source.isascii()
    assert not set(stored.source) & set(' "<>\\^`{|}\x00\r\n')


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "a.localhost", "localhost.", "127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "10.0.0.1", "172.16.3.4",
        "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "::1", "::",
        "fe80::1", "fe80::1%1", "fc00::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:a00:1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "::127.0.0.1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_private(host: str) -> None:
    assert is_private_host(host)


@pytest.mark.parametrize(
    "host", ["example.com", "8.8.8.8", "2606:4700::1111", "localhost.example.com", "1.2.3.4.5", "256.1.1.1", "64:ff9b::808:808"]
)
def test_public_addresses_and_names_are_not(host: str) -> None:
    assert not is_private_host(host)


@given(st.text(max_size=40))
def test_any_host_text_gets_an_answer(host: str) -> None:
    assert is_private_host(host) in (True, False)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (None, "missing"),
        ("", "missing"),
        (7, "syntax"),
        ("example.com/x", "syntax"),
        ("//example.com/x", "syntax"),
        ("http:example.com", "syntax"),
        ("http:///x", "syntax"),
        ("https://user:pw@example.com", "syntax"),
        ("https://@example.com", "syntax"),
        ("https://example.com/#part", "syntax"),
        ("https://example.com/#", "syntax"),
        ("https://exa mple.com", "syntax"),
        ("https://example.com:0/", "syntax"),
        ("https://example.com:70000/", "syntax"),
        ("https://[::1/", "syntax"),
        ("https://example.com/\x00", "syntax"),
        ("https://example.com\\@10.0.0.1/", "syntax"),
        ("https://bücher.example/", "syntax"),
        ("https://example.com/" + "a" * 2_048, "syntax"),
        ("ftp://example.com/x", "scheme"),
        ("javascript:alert(1)", "scheme"),
        ("http://localhost:8080/", "private_address"),
        ("http://[::1]/", "private_address"),
        ("http://127.1/", "private_address"),
    ],
)
def test_a_url_that_is_no_target_says_why(url: object, reason: str) -> None:
    found = read_config({"url": url, "secret": "s"}, allow_private=False)
    assert isinstance(found, InvalidConfig)
    assert (found.code, found.reason) == ("invalid_url", reason)


@pytest.mark.parametrize(
    "url", ["https://example.com", "HTTP://Example.com:8080/a?b=c", "https://example.com/" + "a" * 2_028, "http://[2606:4700::1111]/"]
)
def test_a_public_url_is_taken_as_it_is(url: str) -> None:
    found = read_config({"url": url, "secret": "s"}, allow_private=False)
    assert isinstance(found, WantedConfig)
    assert found.url == url


def test_private_targets_can_be_allowed() -> None:
    assert isinstance(read_config({"url": "http://127.0.0.1:9/", "secret": "s"}, allow_private=True), WantedConfig)


@pytest.mark.parametrize("secret", [None, 1, "", "a" * 257, "a\nb", "whsec_", "whsec_short", "whsec_" + "A" * 200])
def test_a_secret_that_cannot_sign_is_refused_without_being_quoted(secret: object) -> None:
    found = read_config(GOOD | {"secret": secret}, allow_private=False)
    assert isinstance(found, InvalidConfig)
    assert found.code == "invalid_secret"
    assert not isinstance(secret, str) or len(secret) < 7 or secret not in found.message


@pytest.mark.parametrize(
    "types", ["a", {}, [""], ["*"], ["a*"], ["a.*.b"], ["a.**"], [".*"], ["a b"], [1], ["a" * 129], ["a"] * 101, [None]]
)
def test_event_types_outside_the_grammar_are_refused(types: object) -> None:
    found = read_config(GOOD | {"event_types": types}, allow_private=False)
    assert isinstance(found, InvalidConfig)
    assert found.code == "invalid_event_types"


@pytest.mark.parametrize("types", [None, [], ["com.kite.agent.message"], ["com.github.*"], ["a" * 128], ["a"] * 100])
def test_event_types_within_the_grammar_are_taken(types: list[str] | None) -> None:
    found = read_config(GOOD | {"event_types": types}, allow_private=False)
    assert isinstance(found, WantedConfig)
    assert found.event_types == tuple(types or ())


@given(st.dictionaries(st.sampled_from(["url", "secret", "event_types"]), json_values))
def test_any_object_is_a_config_or_says_what_is_wrong(body: dict[str, Any]) -> None:
    assert isinstance(read_config(body, allow_private=False), WantedConfig | InvalidConfig)


def test_an_active_config_keeps_id_and_creation_time_and_takes_the_new_secret_alone() -> None:
    wanted, new_id = WantedConfig("https://b.example", "s", ("x",)), WebhookConfigId("new")
    first = configured(None, wanted, TEAM, WebhookConfigId("first"), "sealed 1", 1)
    second = configured(first, wanted, TEAM, new_id, "sealed 2", 2)
    assert (second.id, second.created_at, second.updated_at) == ("first", 1, 2)
    assert [secret.sealed for secret in second.secrets] == ["sealed 2"]


def test_after_deactivation_comes_a_new_id_and_no_secret_is_kept() -> None:
    wanted = WantedConfig("https://b.example", "s", ())
    ended = deactivated(configured(None, wanted, TEAM, WebhookConfigId("first"), "sealed", 1), 2)
    again = configured(ended, wanted, TEAM, WebhookConfigId("second"), "sealed", 3)
    assert (ended.active, ended.secrets, identity(ended, WebhookConfigId("second"))) == (False, (), "second")
    assert (again.active, again.id, again.created_at) == (True, "second", 3)


def test_a_wanted_config_hides_its_secret() -> None:
    assert "hush" not in repr(WantedConfig("https://b.example", "hush", ()))
