"""Adapters that need no stack: credentials, sealing, request reading, the document against the routes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route
from starlette.types import Message

from kite_common import auth, crypto
from kite_common.auth import Peppers
from kite_common.errors import ApiError, Malformed, Unavailable
from kite_common.events.codec import encode
from kite_common.events.credentials import CredentialIssued
from kite_common.ids import TeamId, WebhookConfigId
from kite_common.log_position import partition_of
from kite_common.runtime.component import READY, Readiness
from kite_common.stream.group import Input
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_gateway.adapters.credentials import TableCredentials, decode_credential
from kite_gateway.adapters.http import accounts, documents, hooks, messages, paid, proxy, webhook_config, webhook_keys, webhook_test
from kite_gateway.adapters.http.app import openapi_document
from kite_gateway.adapters.http.bodies import Bodies
from kite_gateway.adapters.http.context import Context, read_head
from kite_gateway.adapters.http.request import ClientGone, idempotency_claim, json_object, read_body, team_id_of
from kite_gateway.adapters.place import places
from kite_gateway.adapters.webhook_configs import CipherSeal

NOW = make.NOW_MS


@dataclass
class FakeTable:
    """A followed topic in memory that counts look-ups."""

    rows: dict[str, CredentialIssued] = field(default_factory=dict)
    state: Readiness = READY

    def get(self, key: str) -> CredentialIssued | None:
        return self.rows.get(key)

    def readiness(self) -> Readiness:
        return self.state


def _issued(**given: Any) -> CredentialIssued:
    values: dict[str, Any] = {
        "team_id": make.TEAM, "id": "c", "prefix": make.API_KEY[5:13], "credential": "api_key", "name": "n", "permissions": ("write",),
        "secret_hash": auth.hash_secret(make.PEPPER, make.API_KEY), "created_at": 1,
    }  # fmt: skip
    return CredentialIssued(**(values | given))


def context(head: Mapping[bytes, bytes] | None = None) -> Context:
    """A request with these headers."""
    return Context("id", head or {}, [])


def _credentials(*issued: CredentialIssued) -> tuple[TableCredentials, FakeTable]:
    table = FakeTable({one.key: one for one in issued})
    return TableCredentials(table, Peppers(make.PEPPER)), table


def test_a_good_key_names_its_holder_also_when_asked_again() -> None:
    credentials, _ = _credentials(_issued())
    first, second = credentials.identify(make.API_KEY, NOW), credentials.identify(make.API_KEY, NOW)
    assert first is not None
    assert first is second
    assert (first.team_id, first.permissions) == (make.TEAM, ("write",))


@pytest.mark.parametrize(
    "text",
    ["", "x", make.HOOK_TOKEN, make.API_KEY.upper(), make.API_KEY + "0", make.API_KEY[:-1] + "0", "kite_00000000_" + "0" * 32, "\udcff"],
)
def test_any_other_text_names_nobody(text: str) -> None:
    credentials, _ = _credentials(_issued())
    assert credentials.identify(make.API_KEY, NOW) is not None
    assert credentials.identify(text, NOW) is None


def test_a_revocation_holds_at_once() -> None:
    credentials, table = _credentials(_issued())
    assert credentials.identify(make.API_KEY, NOW) is not None
    table.rows[_issued().key] = _issued(revoked_at=NOW)
    assert credentials.identify(make.API_KEY, NOW) is None


def test_keys_that_begin_with_the_same_digits_open_each_their_own_team() -> None:
    other = make.API_KEY[:-1] + ("0" if make.API_KEY[-1] != "0" else "1")
    theirs = make.credential(other, team_id="team_other")
    credentials, table = _credentials(_issued(), theirs)
    holders = [credentials.identify(key, NOW) for key in (make.API_KEY, other)]
    assert [holder.team_id for holder in holders if holder is not None] == [make.TEAM, "team_other"]
    table.rows[theirs.key] = theirs.model_copy(update={"revoked_at": NOW})
    assert credentials.identify(other, NOW) is None
    assert credentials.identify(make.API_KEY, NOW) is not None


def test_a_removed_key_is_dead_at_once() -> None:
    credentials, table = _credentials(_issued())
    assert credentials.identify(make.API_KEY, NOW) is not None
    table.rows.clear()
    assert credentials.identify(make.API_KEY, NOW) is None


def test_a_remembered_key_still_expires() -> None:
    credentials, _ = _credentials(_issued(expires_at=NOW + 1))
    assert credentials.identify(make.API_KEY, NOW) is not None
    assert credentials.identify(make.API_KEY, NOW + 1) is None


def test_new_permissions_hold_at_once() -> None:
    credentials, table = _credentials(_issued())
    credentials.identify(make.API_KEY, NOW)
    table.rows[_issued().key] = _issued(permissions=("read",))
    again = credentials.identify(make.API_KEY, NOW)
    assert again is not None
    assert again.permissions == ("read",)


def test_a_hook_token_of_that_prefix_is_no_api_key() -> None:
    credentials, _ = _credentials(_issued(credential="hook_token"))
    assert credentials.identify(make.API_KEY, NOW) is None


def test_while_not_all_keys_are_known_nobody_is_refused_for_good() -> None:
    credentials, table = _credentials()
    table.state = Readiness(ready=False, reason="loading")
    with pytest.raises(Unavailable):
        credentials.identify(make.API_KEY, NOW)
    table.state = READY
    assert credentials.identify(make.API_KEY, NOW) is None


def test_a_process_that_hears_of_no_revocation_lets_nobody_in_any_more() -> None:
    credentials, table = _credentials(_issued())
    assert credentials.identify(make.API_KEY, NOW) is not None
    table.state = Readiness(ready=False, reason="brokers away")
    with pytest.raises(Unavailable):
        credentials.identify(make.API_KEY, NOW)
    table.state = READY
    assert credentials.identify(make.API_KEY, NOW) is not None


def test_a_record_becomes_its_credential_and_a_tombstone_none() -> None:
    record = encode(_issued())
    read = Input("kite.credentials", 0, 0, NOW, record.key, record.value, record.headers)
    assert decode_credential(read) == _issued()
    assert decode_credential(Input("kite.credentials", 0, 1, NOW, record.key, None, ())) is None
    with pytest.raises(Malformed):
        decode_credential(Input("kite.credentials", 0, 2, NOW, record.key, b"{}", record.headers))


def test_a_sealed_secret_opens_only_for_its_team_and_config() -> None:
    seal = CipherSeal([b"k" * 32], lambda length: b"n" * length)
    sealed = seal.seal("secret", TeamId("team_a"), WebhookConfigId("config"))
    assert sealed is not None
    assert crypto.unseal([b"k" * 32], sealed, b"team_aconfig") == b"secret"
    with pytest.raises(Malformed):
        crypto.unseal([b"k" * 32], sealed, b"team_bconfig")
    assert CipherSeal([], lambda length: b"n" * length).seal("secret", TeamId("team_a"), WebhookConfigId("config")) is None


@given(
    st.text(alphabet=st.characters(categories=["Ll", "Nd"], max_codepoint=127), min_size=1).map(lambda text: "team_" + text),
    st.integers(1, 1_024),
)
def test_a_team_lives_where_every_other_service_looks(team: str, partitions: int) -> None:
    place = places(partitions)(TeamId(team))
    assert place.partition == partition_of(team.encode(), partitions)
    assert all(f"{{{team}}}" in key for key in place.admission)


@given(st.binary(max_size=300))
def test_any_body_is_an_object_or_invalid_json(body: bytes) -> None:
    try:
        found: object = json_object(body)
    except ApiError as error:
        found = error.code
    assert isinstance(found, dict) or found == "invalid_json"


@given(st.binary(max_size=100))
def test_any_query_has_a_team_or_none(query: bytes) -> None:
    assert isinstance(team_id_of(query), str | None)
    assert isinstance(team_id_of(b"team_id=" + query), str | None)


@pytest.mark.parametrize(
    ("query", "team_id"),
    [
        (b"", None), (b"team", None), (b"team_id", ""), (b"team_id=", ""), (b"team_id=a&team_id=b", "a"), (b"team%5Fid=a", "a"),
        (b"&" * 5_000 + b"team_id=a%3ab", "a:b"), (b"x=team_id=a", None), (b"team_id=a=b", "a=b"), (b"team_id=a+b", "a b"),
        (b"team_id=%ff", "\ufffd"), (b"TEAM_ID=a", None),
    ],
)  # fmt: skip
def test_the_first_team_of_a_query_counts(query: bytes, team_id: str | None) -> None:
    assert team_id_of(query) == team_id


@given(st.integers(1, 130), st.sampled_from([b"[", b'{"a":']))
def test_nesting_is_counted_exactly(levels: int, opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    body = b'{"x":' + opening * (levels - 1) + b"1" + closing * (levels - 1) + b"}"
    try:
        json_object(body)
        assert levels <= 100
    except ApiError:
        assert levels > 100


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=8), st.integers(0, 600))
async def test_a_body_passes_if_and_only_if_it_fits(chunks: list[bytes], limit: int) -> None:
    waiting: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    waiting[-1]["more_body"] = False

    async def receive() -> Message:
        return waiting.pop(0)

    whole = b"".join(chunks)
    try:
        found: bytes | str = await read_body(receive, context(), limit)
    except ApiError as error:
        found = error.code
    assert found == (whole if len(whole) <= limit else "payload_too_large")


@pytest.mark.parametrize("announced", [b"65537", b"0000065537", b"9" * 5_000])
async def test_any_announced_length_above_the_limit_is_enough(announced: bytes) -> None:
    async def receive() -> Message:
        raise AssertionError("the body must not be read")

    with pytest.raises(ApiError) as caught:
        await read_body(receive, context({b"content-length": announced}))
    assert caught.value.code == "payload_too_large"


async def test_a_body_that_never_begins_is_given_up() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("never")

    with pytest.raises(ApiError) as caught:
        await read_body(receive, context({b"content-length": b"10"}), timeout_s=0.01)
    assert (caught.value.code, caught.value.headers) == ("invalid_json", {"Connection": "close"})


async def test_a_client_that_hangs_up_before_its_body_gets_no_answer() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        await read_body(receive, context())


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("never")


def sending(bodies: Bodies, host: str, team_id: str | None = None) -> "asyncio.Task[bytes]":
    """A request whose body never comes."""
    begun = Context("id", {}, [], team_id=team_id, bodies=bodies, client_host=host)
    return asyncio.create_task(read_body(never, begun, timeout_s=30))


async def test_slow_bodies_make_room_and_who_has_most_of_them_begins() -> None:
    bodies = Bodies(4)
    one, *crowd = sending(bodies, "192.0.2.1"), *(sending(bodies, f"2001:db8::{host:x}") for host in range(3))
    await asyncio.sleep(0)
    team = sending(bodies, "192.0.2.1", "team_a")
    done, _ = await asyncio.wait({one, *crowd, team}, return_when=asyncio.FIRST_COMPLETED)
    assert done == {crowd[0]}, "the first of the network that sends most"
    error = crowd[0].exception()
    assert isinstance(error, ApiError)
    assert (error.code, error.retry_after_s, error.headers) == ("overloaded", 1, {"Connection": "close"})
    for task in (one, *crowd, team):
        task.cancel()
    await asyncio.gather(one, *crowd, team, return_exceptions=True)
    assert (bodies._of, bodies._waiting) == ({}, 0)


async def test_a_body_that_is_there_passes_however_many_do_not_come() -> None:
    bodies = Bodies(2)
    slow = [sending(bodies, f"192.0.2.{host}") for host in range(6)]
    await asyncio.sleep(0)

    async def whole() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    assert await read_body(whole, Context("id", {}, [], bodies=bodies)) == b"{}"
    await eventually(lambda: sum(task.done() for task in slow) == 5, every_s=0, what="they have made room")
    slow[-1].cancel()
    await asyncio.gather(*slow, return_exceptions=True)


def test_claims_tell_scopes_keys_and_bodies_apart() -> None:
    def claim(scope: bytes, key: bytes, body: bytes) -> Any:
        return idempotency_claim({b"idempotency-key": key}, scope, body)

    one = claim(b"a", b"k", b"body")
    assert one == claim(b"a", b"k", b"body")
    assert one.id != claim(b"b", b"k", b"body").id
    assert one.id != claim(b"a", b"l", b"body").id
    assert (one.id, one.body_digest) != (claim(b"a", b"k", b"other").id, claim(b"a", b"k", b"other").body_digest)
    assert idempotency_claim({}, b"a", b"body") is None


def test_repeated_headers_cannot_hide_behind_each_other() -> None:
    head: Mapping[bytes, bytes] = read_head([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
    assert head == {b"a": b"1, 3", b"b": b"2"}


def test_the_document_names_every_route_of_the_app() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    nothing: Any = None
    webhook_config.add_routes(app, nothing, nothing, allow_private=False)
    webhook_keys.add_routes(app, nothing, ())
    webhook_test.add_routes(app, nothing, nothing)
    accounts.add_routes(app, nothing, nothing)
    paid.add_routes(app, nothing, nothing)
    app.router.routes += messages.routes(nothing) + hooks.routes(nothing)
    app.router.routes += proxy.routes(nothing, nothing) + documents.routes(openapi_document())
    served = {(method, route.path) for route in app.router.routes if isinstance(route, Route) for method in route.methods or ()}
    named = {(method.upper(), path) for path, methods in openapi_document()["paths"].items() for method in methods}
    assert {(method, path) for method, path in served if method != "HEAD"} <= named
    assert {path for _, path in named} - {path for _, path in served} == {"/health", "/livez", "/ready", "/readyz", "/metrics"}


def test_the_page_shows_every_route_escaped() -> None:
    page = documents.render(openapi_document())
    assert [path for path in openapi_document()["paths"] if path not in page] == []
    hostile = openapi_document()
    hostile["info"]["title"] = "<script>alert(1)</script>"
    offered = hostile["paths"]["/api/v1/plans"]["get"]["responses"]["200"]["content"]["application/json"]
    offered["examples"] = {"<script>": {"value": {"name": "<script>alert(2)</script>"}}}
    assert "<script" not in documents.render(hostile)


def test_the_page_shows_real_requests_and_answers() -> None:
    page = documents.render(openapi_document())
    assert "Example: request <code>a_team_on_starter</code>" in page
    assert "Example: 402 <code>insufficient_funds</code>" in page
    assert page.count("pay_7hk3n34e4szaefcmtej6hv6ird") == 2, "a payment that is pending, on both routes"


async def test_a_reader_that_does_not_read_loses_its_place() -> None:
    class Hurried(proxy.TimedStream):
        part_timeout_s = 0.05

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) > 2:
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await Hurried(parts()).stream_response(send)
    assert len(sent) == 3
