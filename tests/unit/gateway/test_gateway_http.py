"""The HTTP surface over fakes: error shape, order of checks, limits, headers. No network."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from kite_common.clock import FrozenClock, to_unix_ms
from kite_common.crypto import team_signing_key
from kite_common.errors import CODES, OutcomeOpen, Unavailable
from kite_common.ids import KeyPrefix, TeamId
from kite_common.plans import shipped_catalog
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import random_bits
from kite_common.testing.eventually import eventually
from kite_gateway.adapters.http.accounts import Accounts
from kite_gateway.adapters.http.app import Surface, create_app
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.cors import Cors
from kite_gateway.adapters.http.edge import Edge
from kite_gateway.adapters.http.proxy import ReplayEndpoint
from kite_gateway.adapters.http.public import Public
from kite_gateway.application.accept_message import AcceptMessage
from kite_gateway.application.change_subscription import ChangeSubscription
from kite_gateway.application.configure_webhook import ConfigureWebhook
from kite_gateway.application.open_hook import OpenHook
from kite_gateway.application.send_test_event import SendTestEvent
from kite_gateway.domain.access import Principal
from kite_gateway.testing import (
    Account,
    CountingIds,
    FakeBilling,
    FakeClientRateLimits,
    FakeCredentials,
    FakeDeliveryCommands,
    FakeHooks,
    FakeMessageLog,
    FakeRateLimits,
    FakeReservations,
    FakeSeal,
    FakeWebhookConfigs,
)
from support.paid_routes import ingest_of, paid_routes

TEAM = TeamId("clerk-user:user_a")
NOW = datetime(2026, 4, 30, 10, tzinfo=UTC)
WRITER, READER = {"Authorization": "Bearer writer"}, {"Authorization": "Bearer reader"}
MESSAGE = {"from": "planner", "to": "builder", "body": "hello"}
SEND = "/api/v1/agents/messages"
CONFIG = "/api/v1/webhook-config"
OURS = f"?team_id={TEAM}"


@dataclass
class Gateway:
    """The app and the fakes behind it."""

    reservations: FakeReservations = field(default_factory=lambda: FakeReservations({TEAM: Account()}, now_ms=to_unix_ms(NOW)))
    log: FakeMessageLog = field(default_factory=FakeMessageLog)
    rate_limits: FakeRateLimits = field(default_factory=FakeRateLimits)
    configs: FakeWebhookConfigs = field(default_factory=FakeWebhookConfigs)
    orders: FakeDeliveryCommands = field(default_factory=FakeDeliveryCommands)
    seal: FakeSeal = field(default_factory=FakeSeal)
    billing: FakeBilling = field(default_factory=FakeBilling)
    metrics: Metrics = field(default_factory=Metrics)
    ready: Readiness = READY
    cors_origins: tuple[str, ...] = ()
    max_in_flight: int = 512
    replay: "HeldReplay | None" = None
    signing_roots: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        clock, ids = FrozenClock(NOW), CountingIds()
        holders = {"writer": _holder("write"), "reader": _holder("read"), "admin": _holder("*")}
        holders["other team"] = replace(holders["reader"], team_id=TeamId("team_other"))
        paid = paid_routes(self.billing, clock)
        self.app = create_app(Surface(
            bearer=Bearer(FakeCredentials(holders), self.rate_limits, clock),
            ingest=ingest_of(AcceptMessage(self.reservations, self.log, clock, ids), paid),
            open_hook=OpenHook(FakeHooks(), clock),
            configure_webhook=ConfigureWebhook(self.configs, self.seal, clock, ids),
            send_test_event=SendTestEvent(self.configs, self.orders, clock, ids),
            accounts=Accounts(
                Public(FakeClientRateLimits()), self.billing, ChangeSubscription(self.billing, self.billing, self.billing, clock),
                shipped_catalog(),
            ),
            paid=paid,
            replay=self.replay, readiness=lambda: [("part", self.ready)], metrics=self.metrics, random_bits=random_bits,
            cors_origins=self.cors_origins, max_in_flight=self.max_in_flight, signing_roots=self.signing_roots,
        ))  # fmt: skip

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url="http://kite")


@dataclass
class HeldReplay:
    """Answers whose readers take their second part only once `let_go` is set."""

    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    async def forward(self, _request: Request) -> Response:
        self.asked += 1

        async def parts() -> AsyncIterator[bytes]:
            yield b"part, "
            await self.let_go.wait()
            yield b"end"

        return StreamingResponse(parts())


def _holder(permission: str) -> Principal:
    return Principal(TEAM, KeyPrefix("01234567"), (permission,))


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.client() as client:
        yield client


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error shape of wire contract 2.3; the body for further looks."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["error"]) == (status, code)
    assert answer.status_code == CODES[code].status
    assert isinstance(body["message"], str)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.headers.get("retry-after") == (str(body["retry_after_secs"]) if "retry_after_secs" in body else None)
    return body


async def test_an_accepted_message_is_answered_as_the_contract_says(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.reservations.accounts[TEAM] = Account(used=41, rate_per_min=60)
    answer = await client.post(SEND + OURS, headers=WRITER, json=MESSAGE)
    ((_, event, _, _),) = gateway.log.records
    assert answer.status_code == 202
    assert answer.json() == {
        "id": orjson.loads(event)["id"], "created_at": "2026-04-30T10:00:00.000Z", "from": "planner", "to": "builder",
        "usage": {"events_used": 42, "events_limit": 1_000, "amount_charged_atomic": 100, "amount_charged_sats": 100},
    }  # fmt: skip
    assert answer.headers["cache-control"] == "private, no-store"
    assert [answer.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset")] == ["60", "59", "1"]
    assert "idempotency-replayed" not in answer.headers


@pytest.mark.parametrize(
    "query", ["team_id=clerk-user:user_a", "team_id=clerk-user%3Auser_a", "x=1&team_id=clerk-user%3auser_a&y", "team_id=clerk-user:user_a&"]
)
async def test_a_team_id_is_taken_raw_and_percent_encoded(query: str, client: httpx.AsyncClient) -> None:
    assert (await client.post(f"{SEND}?{query}", headers=WRITER, json=MESSAGE)).status_code == 202


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_of_the_key_may_have_any_case(scheme: str, client: httpx.AsyncClient) -> None:
    assert (await client.post(SEND + OURS, headers={"Authorization": f"{scheme} admin"}, json=MESSAGE)).status_code == 202


@pytest.mark.parametrize(
    ("headers", "query", "status", "code"),
    [
        ({}, "", 401, "unauthorized"),
        ({"Authorization": "Basic writer"}, OURS, 401, "unauthorized"),
        ({"Authorization": "Bearer "}, OURS, 401, "unauthorized"),
        ({"Authorization": "Bearer nobody"}, OURS, 401, "unauthorized"),
        ({"Authorization": "Bearer wr\xfcter"}, OURS, 401, "unauthorized"),
        (WRITER, "", 400, "missing_team_id"),
        (WRITER, "?team_id=", 400, "missing_team_id"),
        (WRITER, "?team_id=team_b", 403, "forbidden"),
        (WRITER, "?team_id=%ff%00", 403, "forbidden"),
        (READER, "?team_id=team_b", 403, "forbidden"),
        (READER, OURS, 403, "insufficient_permissions"),
    ],
)
async def test_who_may_not_send_learns_why_before_anything_else(
    headers: dict[str, str], query: str, status: int, code: str, gateway: Gateway, client: httpx.AsyncClient
) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = await client.post(SEND + query, headers=raw, content=b"x" * 70_000)
    assert_problem(answer, status, code)
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert answer.headers["cache-control"] == "private, no-store"
    assert (gateway.log.records, gateway.reservations.held) == ([], {})


def _deep(levels: int) -> bytes:
    inner = levels - 1
    return b'{"from":"a","to":"b","body":"","x":' + b"[" * inner + b"]" * inner + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'"text"', b"null", b"1", b'{"from":"a"', b'{"from":"\xff","to":"b","body":""}',
        b'{"from":"\xed\xa0\x80","to":"b","body":""}',
        b'{"from":"\\ud800","to":"b","body":""}', b'{"from":"a","to":"b","body":"","x":NaN}',
        b'{"from":"a","to":"b","body":"","x":Infinity}',
        b'{"from":"a","to":"b","body":"","x":1e999}', b'{"from":"a\x00","to":"b","body":""}', _deep(101), _deep(2_000), b"\xef\xbb\xbf{}",
        b"from=a&to=b&body=c",
    ],
)  # fmt: skip
async def test_what_is_no_json_object_is_refused(body: bytes, gateway: Gateway, client: httpx.AsyncClient) -> None:
    assert_problem(await client.post(SEND + OURS, headers=WRITER, content=body), 400, "invalid_json")
    assert (gateway.log.records, gateway.reservations.held) == ([], {})


@pytest.mark.parametrize(
    "body",
    [
        _deep(100), b'{"from":"a","from":"b","to":"c","body":""}', b'{"from":"\\u0001","to":"\\u007f","body":"\\u2028"}',
        b'{"from":"a","to":"b","body":"[[[[","x":' + b"1" * 300 + b"}", b' {"from":"a","to":"b","body":"","thread_id":null} ',
        b'{"from":"a","to":"b","body":"' + b"[" * 500 + b'"}',
    ],
)  # fmt: skip
async def test_unusual_json_is_taken(body: bytes, gateway: Gateway, client: httpx.AsyncClient) -> None:
    assert (await client.post(SEND + OURS, headers=WRITER, content=body)).status_code == 202
    assert gateway.log.records[0][1].isascii() or b"\x00" not in gateway.log.records[0][1]


async def test_a_wrong_field_is_named_and_stores_nothing(gateway: Gateway, client: httpx.AsyncClient) -> None:
    for field_name in ("thread_id", "reply_to_id", "body", "to", "from"):
        answer = await client.post(SEND + OURS, headers=WRITER, content=orjson.dumps(MESSAGE | {field_name: "a\x00b"}))
        assert assert_problem(answer, 400, "invalid_message")["field"] == field_name
    for field_name in ("from", "to"):
        answer = await client.post(SEND + OURS, headers=WRITER, json=MESSAGE | {field_name: ""})
        assert assert_problem(answer, 400, "invalid_message")["field"] == field_name
    assert (gateway.log.records, gateway.reservations.held) == ([], {})


def _body_of(size: int) -> bytes:
    frame = orjson.dumps(MESSAGE | {"body": ""})
    return frame.replace(b'"body":""', b'"body":"' + b"x" * (size - len(frame)) + b'"')


async def test_exactly_the_limit_passes_and_one_byte_more_does_not(client: httpx.AsyncClient) -> None:
    assert (await client.post(SEND + OURS, headers=WRITER, content=_body_of(65_536))).status_code == 202
    answer = await client.post(SEND + OURS, headers=WRITER, content=_body_of(65_537))
    assert assert_problem(answer, 413, "payload_too_large")["max_bytes"] == 65_536


async def test_a_stream_is_cut_off_at_the_limit(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 10_000
            yield b"x" * 10_000

    exact = _body_of(65_536)
    assert (await client.post(SEND + OURS, headers=WRITER, content=_pieces(exact))).status_code == 202
    assert_problem(await client.post(SEND + OURS, headers=WRITER, content=endless()), 413, "payload_too_large")
    assert sent <= 100_000


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(body), 1_000):
        yield body[begin : begin + 1_000]


async def test_an_announced_length_is_enough_to_refuse(client: httpx.AsyncClient) -> None:
    answer = await client.post(SEND + OURS, headers=WRITER | {"Content-Length": "65537"}, content=b"{}")
    assert_problem(answer, 413, "payload_too_large")


@pytest.mark.parametrize("encoding", ["gzip", "identity, gzip", "br", "x"])
async def test_an_encoded_body_is_refused_after_its_size(encoding: str, client: httpx.AsyncClient) -> None:
    headers = WRITER | {"Content-Encoding": encoding}
    assert_problem(await client.post(SEND + OURS, headers=headers, content=b"\x1f\x8b"), 415, "unsupported_media_type")
    assert_problem(await client.post(SEND + OURS, headers=headers, content=b"x" * 65_537), 413, "payload_too_large")


async def test_the_media_type_does_not_matter(client: httpx.AsyncClient) -> None:
    for name, value in (("Content-Type", "text/plain"), ("Content-Type", "application/xml"), ("Content-Encoding", "Identity")):
        answer = await client.post(SEND + OURS, headers=WRITER | {name: value}, content=orjson.dumps(MESSAGE))
        assert answer.status_code == 202


@pytest.mark.parametrize("key", [b"", b"with space", b"t\xe4st", b"a" * 256, b"tab\there"])
async def test_a_key_that_is_no_visible_ascii_is_refused(key: bytes, client: httpx.AsyncClient) -> None:
    headers = [(b"Authorization", b"Bearer writer"), (b"Idempotency-Key", key)]
    assert_problem(await client.post(SEND + OURS, headers=headers, json=MESSAGE), 400, "invalid_idempotency_key")


async def test_two_keys_are_none(client: httpx.AsyncClient) -> None:
    headers = [*WRITER.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert_problem(await client.post(SEND + OURS, headers=headers, json=MESSAGE), 400, "invalid_idempotency_key")


async def test_a_repeat_gets_the_same_bytes_and_is_charged_once(gateway: Gateway, client: httpx.AsyncClient) -> None:
    headers = WRITER | {"Idempotency-Key": "a" * 255}
    first = await client.post(SEND + OURS, headers=headers, json=MESSAGE)
    await client.post(SEND + OURS, headers=WRITER, json=MESSAGE)
    second = await client.post(SEND + OURS, headers=headers, json=MESSAGE)
    other = await client.post(SEND + OURS, headers=headers, json=MESSAGE | {"body": "other"})
    assert (second.status_code, second.content) == (202, first.content)
    assert second.headers["idempotency-replayed"] == "true"
    assert_problem(other, 409, "idempotency_key_reused")
    assert len(gateway.log.records) == 2


async def test_a_first_request_in_flight_holds_its_key(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.log.failure = OutcomeOpen("no acknowledgement")
    headers = WRITER | {"Idempotency-Key": "k"}
    await client.post(SEND + OURS, headers=headers, json=MESSAGE)
    assert (
        assert_problem(await client.post(SEND + OURS, headers=headers, json=MESSAGE), 409, "request_in_progress")["retry_after_secs"] >= 1
    )


@pytest.mark.parametrize(
    ("account", "status", "code", "extra"),
    [
        (Account(status="none"), 403, "no_active_subscription", {}),
        (Account(status="past_due"), 403, "no_active_subscription", {}),
        (Account(used=10, month_limit=10), 429, "quota_exceeded", {"scope": "month", "events_used": 10, "events_limit": 10}),
        (Account(day=99_999, day_used=3, day_limit=3), 429, "quota_exceeded", {"scope": "day", "events_used": 3, "events_limit": 3}),
        (Account(price=100, balance=70), 402, "insufficient_funds", {"required_atomic": 100, "available_atomic": 70}),
    ],
)
async def test_a_message_that_is_not_admitted_says_what_is_missing(
    account: Account, status: int, code: str, extra: dict[str, Any], gateway: Gateway, client: httpx.AsyncClient
) -> None:
    gateway.reservations.accounts[TEAM] = replace(account, rate_per_min=600)
    answer = await client.post(SEND + OURS, headers=WRITER, json=MESSAGE)
    body = assert_problem(answer, status, code)
    assert {name: body[name] for name in extra} == extra
    assert "ratelimit-limit" in answer.headers
    assert (gateway.log.records, gateway.reservations.held) == ([], {})


async def test_request_sixty_one_of_a_minute_is_one_too_many(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.reservations.accounts[TEAM] = Account(rate_per_min=60)
    for _ in range(60):
        assert (await client.post(SEND + OURS, headers=WRITER, json=MESSAGE)).status_code == 202
    answer = await client.post(SEND + OURS, headers=WRITER, json=MESSAGE)
    assert assert_problem(answer, 429, "rate_limit_exceeded")["retry_after_secs"] == 1
    assert (answer.headers["ratelimit-remaining"], answer.headers["ratelimit-reset"]) == ("0", "60")


async def test_an_unlimited_plan_answers_with_integers_and_without_limit_headers(gateway: Gateway, client: httpx.AsyncClient) -> None:
    unlimited = 9_007_199_254_740_991
    gateway.reservations.accounts[TEAM] = Account(month_limit=unlimited, day_limit=unlimited)
    answer = await client.post(SEND + OURS, headers=WRITER, json=MESSAGE)
    assert answer.json()["usage"]["events_limit"] == unlimited
    assert "ratelimit-limit" not in answer.headers


async def test_an_outage_is_503_and_never_a_false_success(gateway: Gateway, client: httpx.AsyncClient) -> None:
    for failure in (Unavailable("broker 10.0.0.7 away"), OutcomeOpen("broker 10.0.0.7 silent")):
        gateway.log.failure = failure
        answer = await client.post(SEND + OURS, headers=WRITER, json=MESSAGE)
        assert assert_problem(answer, 503, "service_unavailable")["retry_after_secs"] >= 1
        assert "10.0.0.7" not in answer.text
    gateway.reservations.accounts.clear()
    assert_problem(await client.post(SEND + OURS, headers=WRITER, json=MESSAGE), 503, "service_unavailable")


async def test_a_defect_is_500_without_its_text(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.log.records = None  # type: ignore[assignment]  # what append() then trips over stands for any defect
    answer = await client.post(SEND + OURS, headers=WRITER, json=MESSAGE)
    assert_problem(answer, 500, "internal_error")
    assert "NoneType" not in answer.text


async def test_more_than_can_be_worked_on_is_refused_at_once() -> None:
    gateway = Gateway(max_in_flight=2)
    gateway.log.gate = asyncio.Event()
    async with gateway.client() as client:
        held = [asyncio.create_task(client.post(SEND + OURS, headers=WRITER, json=MESSAGE)) for _ in range(2)]
        await eventually(lambda: gateway.metrics.value("kite_gateway_in_flight") == 2, every_s=0, what="both are in flight")
        refused = await client.post(SEND, content=b"not looked at")
        healthy = await client.get("/health")
        gateway.log.gate.set()
        answers = await asyncio.gather(*held)
        later = await client.post(SEND + OURS, headers=WRITER, json=MESSAGE)
    assert assert_problem(refused, 503, "overloaded")["retry_after_secs"] >= 1
    assert [answer.status_code for answer in (*answers, healthy, later)] == [202, 202, 200, 202]
    assert gateway.metrics.value("kite_gateway_in_flight") == 0


async def test_a_team_that_trickles_its_messages_takes_no_place_from_whole_ones() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with Gateway(max_in_flight=4).client() as client:
        slow = [asyncio.create_task(client.post(SEND + OURS, headers=WRITER, content=trickle())) for _ in range(4)]
        await eventually(lambda: sum(one.done() for one in slow) == 2, every_s=0.001, what="half of the places are free again")
        whole = await client.post(SEND + OURS, headers=WRITER, json=MESSAGE)
        refused = [one.result() for one in slow[:2]]
        for one in slow:
            one.cancel()
    assert whole.status_code == 202
    assert [assert_problem(one, 503, "overloaded")["retry_after_secs"] for one in refused] == [1, 1]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", SEND, "POST"), ("PATCH", CONFIG, "DELETE, GET, PUT"), ("POST", CONFIG, "DELETE, GET, PUT"),
        ("HEAD", CONFIG, "DELETE, GET, PUT"),
        ("POST", "/health", "GET, HEAD"), ("OPTIONS", SEND, "POST"),
    ],
)  # fmt: skip
async def test_a_wrong_method_names_the_right_ones(method: str, path: str, allow: str, client: httpx.AsyncClient) -> None:
    answer = await client.request(method, path)
    assert answer.headers["allow"] == allow
    if method != "HEAD":
        assert_problem(answer, 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path", ["/", "/api/v1", SEND + "/", "/api/v1/skills", "/api/federation/x", "/hooks/team_a/kite", "/api/v1/events", "/%00", "//"]
)
async def test_an_unknown_path_is_not_found_and_never_redirects(path: str, client: httpx.AsyncClient) -> None:
    assert_problem(await client.post(path), 404, "not_found")


@pytest.mark.parametrize("given", ["a", "A-z_0.9" * 18, "x" * 128])
async def test_a_request_id_is_echoed_when_valid(given: str, client: httpx.AsyncClient) -> None:
    for path in ("/health", "/nowhere", SEND):
        answer = await client.get(path, headers={"x-request-id": given})
        assert answer.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a\xe4", "a;b"])
async def test_a_request_id_is_replaced_when_not(given: str | None, client: httpx.AsyncClient) -> None:
    headers = [] if given is None else [(b"x-request-id", given.encode("latin-1"))]
    answers = [await client.get("/health", headers=headers) for _ in range(2)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 2
    assert all(len(one) == 36 and one[14] == "4" and one[19] in "89ab" for one in ids)


async def test_the_callers_trace_goes_on_and_a_broken_one_does_not(gateway: Gateway, client: httpx.AsyncClient) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for given in (trace, "broken"):
        await client.post(SEND + OURS, headers=WRITER | {"traceparent": given}, json=MESSAGE)
    kept, begun = (record[2] for record in gateway.log.records)
    assert kept.startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    assert kept.endswith("-01")
    assert kept != trace
    assert begun[3:35] != trace[3:35]


async def test_operators_can_ask_how_it_is(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.ready = Readiness(ready=False, reason="starting")
    assert (await client.head("/health")).status_code == 200
    assert (await client.get("/health")).json() == {"status": "ok"}
    assert (await client.get("/livez")).status_code == 200
    for path in ("/ready", "/readyz"):
        assert_problem(await client.get(path), 503, "service_unavailable")
    assert "kite_gateway_refused_total" in (await client.get("/metrics")).text


async def test_refusals_are_counted_by_code(gateway: Gateway, client: httpx.AsyncClient) -> None:
    await client.post(SEND)
    await client.get("/nowhere")
    assert gateway.metrics.value("kite_gateway_refused_total", code="unauthorized") == 1
    assert gateway.metrics.value("kite_gateway_refused_total", code="not_found") == 1


async def test_without_origins_no_cors_header_is_sent(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health", headers={"Origin": "https://a.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_only_allowed_origins_get_cors_headers() -> None:
    async with Gateway(cors_origins=("https://a.example",)).client() as client:
        allowed = await client.post(SEND, headers={"Origin": "https://a.example"})
        other = await client.post(SEND, headers={"Origin": "https://b.example"})
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        preflight = await client.options(SEND, headers=ask | {"Origin": "https://a.example"})
        refused = await client.options(SEND, headers=ask | {"Origin": "https://b.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    assert "idempotency-replayed" in allowed.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in other.headers
    assert other.headers["vary"] == "Origin"
    assert (preflight.status_code, refused.status_code) == (204, 405)
    assert "PUT" in preflight.headers["access-control-allow-methods"]


WANTED = {"url": "https://hooks.example.com/kite", "secret": "hush-hush", "event_types": ["com.kite.*"]}


async def test_a_webhook_config_is_put_shown_and_deleted(gateway: Gateway, client: httpx.AsyncClient) -> None:
    put = await client.put(CONFIG + OURS, headers=WRITER, json=WANTED)
    shown = await client.get(CONFIG + OURS, headers=READER)
    gone = await client.delete(CONFIG + OURS, headers=WRITER)
    config_id = put.json()["id"]
    stored = {"id": config_id, "team_id": TEAM, "url": WANTED["url"], "event_types": ["com.kite.*"], "active": True, "signature": "v1"}
    stored |= {"mode": "structured", "batch_max_events": 16, "batch_max_wait_ms": 200}
    at = "2026-04-30T10:00:00.000Z"
    assert (put.status_code, put.json()) == (200, stored)
    assert shown.json() == stored | {"created_at": at, "updated_at": at, "previous_secret_expires_at": None}
    assert (gone.status_code, gone.json()) == (200, {"ok": True})
    assert "hush" not in put.text + shown.text
    assert {answer.headers["cache-control"] for answer in (put, shown, gone)} == {"private, no-store"}
    assert_problem(await client.get(CONFIG + OURS, headers=READER), 404, "webhook_config_not_found")
    assert_problem(await client.delete(CONFIG + OURS, headers=WRITER), 404, "webhook_config_not_found")


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ({}, "invalid_url", "missing"),
        (WANTED | {"url": "x"}, "invalid_url", "syntax"),
        (WANTED | {"url": "ftp://x.example"}, "invalid_url", "scheme"),
        (WANTED | {"url": "http://10.0.0.1/"}, "invalid_url", "private_address"),
        (WANTED | {"secret": None}, "invalid_secret", None),
        (WANTED | {"event_types": ["*"]}, "invalid_event_types", None),
        (WANTED | {"signature": "v1a"}, "invalid_signature_scheme", None),
        (WANTED | {"mode": "binary"}, "invalid_batch", None),
    ],
)
async def test_a_bad_webhook_config_is_refused_and_not_stored(
    body: dict[str, Any], code: str, reason: str | None, gateway: Gateway, client: httpx.AsyncClient
) -> None:
    problem = assert_problem(await client.put(CONFIG + OURS, headers=WRITER, json=body), 400, code)
    assert problem.get("reason") == reason
    assert gateway.configs.configs == {}


async def test_webhook_routes_check_key_permission_body_and_limit(gateway: Gateway, client: httpx.AsyncClient) -> None:
    assert_problem(await client.get(CONFIG + OURS), 401, "unauthorized")
    assert_problem(await client.get(CONFIG, headers=READER), 400, "missing_team_id")
    assert_problem(await client.put(CONFIG + OURS, headers=READER, json=WANTED), 403, "insufficient_permissions")
    assert_problem(await client.put(CONFIG + OURS, headers=WRITER, content=b"x" * 65_537), 413, "payload_too_large")
    assert_problem(await client.put(CONFIG + OURS, headers=WRITER, content=b"["), 400, "invalid_json")
    gateway.rate_limits.used_up = True
    answer = await client.put(CONFIG + OURS, headers=WRITER, json=WANTED)
    assert_problem(answer, 429, "rate_limit_exceeded")
    assert answer.headers["ratelimit-limit"] == "60"
    gateway.rate_limits.used_up, gateway.seal.has_key = False, False
    assert_problem(await client.put(CONFIG + OURS, headers=WRITER, json=WANTED), 500, "secret_encryption_not_configured")


ROTATE = CONFIG + "/rotate-secret"


async def test_a_secret_is_rotated_with_a_body_and_without_and_shown_only_if_it_is_new_to_the_client(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    config_id = (await client.put(CONFIG + OURS, headers=WRITER, json=WANTED)).json()["id"]
    made = await client.post(ROTATE + OURS, headers=WRITER)
    given = await client.post(ROTATE + OURS, headers=WRITER, json={"secret": "hush again", "overlap_secs": 60})
    shown = await client.get(CONFIG + OURS, headers=READER)
    first = {"id": config_id, "team_id": TEAM, "previous_secret_expires_at": "2026-05-01T10:00:00.000Z"}
    assert (made.status_code, {name: value for name, value in made.json().items() if name != "secret"}) == (200, first)
    assert made.json()["secret"].startswith("whsec_")
    assert (given.status_code, given.json()) == (200, first | {"previous_secret_expires_at": "2026-04-30T10:01:00.000Z"})
    assert shown.json()["previous_secret_expires_at"] == "2026-04-30T10:01:00.000Z"
    assert made.headers["cache-control"] == "private, no-store"
    assert "hush" not in given.text + shown.text
    assert made.json()["secret"] not in given.text + shown.text
    assert [one.expires_at is None for one in gateway.configs.configs[TEAM].secrets] == [True, False]


async def test_the_rotation_route_checks_in_the_order_of_the_contract(gateway: Gateway, client: httpx.AsyncClient) -> None:
    assert_problem(await client.get(ROTATE + OURS, headers=WRITER), 405, "method_not_allowed")
    assert_problem(await client.post(ROTATE + OURS), 401, "unauthorized")
    assert_problem(await client.post(ROTATE + OURS, headers=READER), 403, "insufficient_permissions")
    assert_problem(await client.post(ROTATE + OURS, headers=WRITER, content=b"[]"), 400, "invalid_json")
    assert_problem(await client.post(ROTATE + OURS, headers=WRITER, json={"secret": "whsec_x"}), 400, "invalid_secret")
    assert_problem(await client.post(ROTATE + OURS, headers=WRITER, json={"overlap_secs": 604_801}), 400, "invalid_overlap")
    assert_problem(await client.post(ROTATE + OURS, headers=WRITER), 404, "webhook_config_not_found")
    await client.put(CONFIG + OURS, headers=WRITER, json=WANTED)
    gateway.rate_limits.used_up = True
    assert_problem(await client.post(ROTATE + OURS, headers=WRITER), 429, "rate_limit_exceeded")
    gateway.rate_limits.used_up, gateway.seal.has_key = False, False
    assert_problem(await client.post(ROTATE + OURS, headers=WRITER), 500, "secret_encryption_not_configured")


async def test_the_public_keys_are_served_to_everyone_and_only_then_a_config_may_ask_for_them(client: httpx.AsyncClient) -> None:
    path = "/api/v1/webhook-keys"
    assert (await client.get(path + OURS)).json() == {"keys": []}
    assert_problem(await client.get(path), 400, "missing_team_id")
    roots = bytes(32), b"r" * 32
    async with Gateway(signing_roots=roots).client() as signing:
        keys, others = await signing.get(path + OURS), await signing.get(path + "?team_id=team_other")
        put = await signing.put(CONFIG + OURS, headers=WRITER, json=WANTED | {"signature": "v1a"})
        shown = await signing.get(CONFIG + OURS, headers=READER)
    expected = [team_signing_key(root, TEAM) for root in roots]
    assert keys.json() == {"keys": [{"id": key.id, "public_key": key.public_text} for key in expected]}
    assert not {one["public_key"] for one in others.json()["keys"]} & {key.public_text for key in expected}
    assert (put.json()["signature"], shown.json()["signature"]) == ("v1a", "v1a")


async def test_the_document_and_its_page_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page, document = await client.get("/docs"), await client.get("/openapi.json")
    assert document.json()["openapi"] == "3.1.0"
    assert page.headers["content-type"].startswith("text/html")
    assert SEND in page.text
    # Examples name URLs in their text; nothing is loaded by that.
    assert not [word for word in ('href="http', "<script", "<link", "<img", "<iframe", "src=", "@import", "url(") if word in page.text]


EVENTS = "/api/v1/events"


async def _eight_under_way(replay: HeldReplay, client: httpx.AsyncClient) -> list["asyncio.Task[httpx.Response]"]:
    readers = [asyncio.create_task(client.get(EVENTS + OURS, headers=READER)) for _ in range(8)]
    await eventually(lambda: replay.asked == 8, every_s=0.001, what="eight answers are under way")
    return readers


async def test_one_team_reads_at_most_eight_answers_at_once_and_takes_no_place_from_others() -> None:
    replay = HeldReplay()
    async with Gateway(replay=replay).client() as client:
        readers = await _eight_under_way(replay, client)
        assert_problem(await client.get(EVENTS + OURS, headers=WRITER), 429, "rate_limit_exceeded")
        readers += [asyncio.create_task(client.get(EVENTS + OURS, headers={"Authorization": "Bearer other team"}))]
        await eventually(lambda: replay.asked == 9, every_s=0.001, what="the request of another is passed on")
        replay.let_go.set()
        assert {(answer.status_code, answer.text) for answer in await asyncio.gather(*readers)} == {(200, "part, end")}
        assert (await client.get(EVENTS + OURS, headers=WRITER)).status_code == 200


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer nobody's"}, {}])
async def test_who_has_no_good_key_holds_no_answer_of_a_replay_that_stands_still(headers: dict[str, str]) -> None:
    replay = HeldReplay()
    async with Gateway(replay=replay).client() as client:
        answer = await client.get(EVENTS + OURS, headers=headers)
    assert_problem(answer, 401, "unauthorized")
    assert (answer.headers["www-authenticate"], answer.headers["cache-control"], replay.asked) == ("Bearer", "private, no-store", 0)


async def test_all_teams_together_read_so_many_answers_at_once_and_no_more() -> None:
    replay, clock = HeldReplay(), FrozenClock(NOW)
    teams = [TeamId(f"team_{number}") for number in range(3)]
    holders: dict[str, Principal] = {team: replace(_holder("read"), team_id=team) for team in teams}
    endpoint = ReplayEndpoint(replay, Bearer(FakeCredentials(holders), FakeRateLimits(), clock), most=2)
    app = Edge(Starlette(routes=[Route(EVENTS, endpoint)]), max_in_flight=9, cors=Cors(()), metrics=Metrics(), random_bits=random_bits)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kite") as client:
        asks = [partial(client.get, EVENTS, headers={"Authorization": f"Bearer {team}"}) for team in teams]
        readers = [asyncio.create_task(ask()) for ask in asks[:2]]
        await eventually(lambda: replay.asked == 2, every_s=0.001, what="two answers are under way")
        assert assert_problem(await asks[2](), 503, "overloaded")["retry_after_secs"] == 1
        replay.let_go.set()
        await asyncio.gather(*readers)
        assert (await asks[2]()).status_code == 200


async def test_a_reader_that_goes_away_leaves_its_place() -> None:
    replay = HeldReplay()
    async with Gateway(replay=replay).client() as client:
        readers = await _eight_under_way(replay, client)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
        replay.let_go.set()
        assert (await client.get(EVENTS + OURS, headers=READER)).status_code == 200
