"""POST /hooks over fakes: answers, order of checks, what is stored. No network."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from kite_common.clock import FrozenClock, to_unix_ms
from kite_common.errors import CODES, OutcomeOpen, Unavailable
from kite_common.ids import TeamId
from kite_common.plans import shipped_catalog
from kite_common.runtime.component import READY
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import random_bits
from kite_common.testing import make
from kite_gateway.adapters.http.accounts import Accounts
from kite_gateway.adapters.http.app import Surface, create_app
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.hooks import MAX_BODY_BYTES
from kite_gateway.adapters.http.public import Public
from kite_gateway.application.accept_message import AcceptMessage
from kite_gateway.application.change_subscription import ChangeSubscription
from kite_gateway.application.configure_webhook import ConfigureWebhook
from kite_gateway.application.open_hook import OpenHook
from kite_gateway.application.send_test_event import SendTestEvent
from kite_gateway.domain.hooks.credentials import Endpoint
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
from support.providers import PROVIDERS

TEAM = TeamId("clerk-user:user_a")
NOW = datetime(2026, 4, 30, 10, tzinfo=UTC)
NOW_S = to_unix_ms(NOW) // 1000
ORIGIN = "https://kite.example"
TOKEN = make.HOOK_TOKEN
PATH = f"/hooks/{TEAM}/acme"
WITH_TOKEN = f"{PATH}/{TOKEN}"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
EVENT = {"specversion": "1.0", "id": "mine", "source": "https://acme", "type": "a.b", "data": {"x": 1}}


@dataclass
class Gateway:
    """The app and the fakes behind it: every provider's endpoint has its secret, `acme` has none, all have the token."""

    reservations: FakeReservations = field(default_factory=lambda: FakeReservations({TEAM: Account()}, now_ms=to_unix_ms(NOW)))
    log: FakeMessageLog = field(default_factory=FakeMessageLog)
    rate_limits: FakeRateLimits = field(default_factory=FakeRateLimits)
    hooks: FakeHooks = field(default_factory=FakeHooks)
    metrics: Metrics = field(default_factory=Metrics)
    max_in_flight: int = 512

    def __post_init__(self) -> None:
        clock, ids, billing = FrozenClock(NOW), CountingIds(), FakeBilling()
        self.hooks.endpoints |= {(TEAM, source): Endpoint(secrets=(one.secret,)) for source, one in PROVIDERS.items()}
        self.hooks.endpoints |= {(TEAM, "acme"): Endpoint(), (TEAM, "closed"): Endpoint(active=False)}
        self.hooks.tokens |= {(TEAM, source, TOKEN): "right" for _, source in self.hooks.endpoints}
        paid = paid_routes(billing, clock)
        self.app = create_app(Surface(
            bearer=Bearer(FakeCredentials(), self.rate_limits, clock),
            ingest=ingest_of(AcceptMessage(self.reservations, self.log, clock, ids), paid),
            open_hook=OpenHook(self.hooks, clock),
            configure_webhook=ConfigureWebhook(FakeWebhookConfigs(), FakeSeal(), clock, ids),
            send_test_event=SendTestEvent(FakeWebhookConfigs(), FakeDeliveryCommands(), clock, ids),
            accounts=Accounts(
                Public(FakeClientRateLimits()), billing, ChangeSubscription(billing, billing, billing, clock), shipped_catalog(), x402=True
            ),
            paid=paid,
            replay=None, readiness=lambda: [("part", READY)], metrics=self.metrics, random_bits=random_bits,
            max_in_flight=self.max_in_flight, public_url=ORIGIN,
        ))  # fmt: skip

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url="http://other.example")

    def stored(self) -> list[dict[str, Any]]:
        return [orjson.loads(event) for _, event, _, _ in self.log.records]


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.client() as client:
        yield client


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["error"]) == (status, code)
    assert answer.status_code == CODES[code].status
    assert isinstance(body["message"], str)
    assert answer.headers["x-request-id"]
    assert answer.headers.get("retry-after") == (str(body["retry_after_secs"]) if "retry_after_secs" in body else None)
    return body


async def test_an_accepted_hook_is_answered_as_the_contract_says(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.reservations.accounts[TEAM] = Account(used=41, rate_per_min=60)
    answer = await client.post(WITH_TOKEN, json={"a": 1}, headers={"x-custom": "kept"})
    ((team, _, _, usage),) = gateway.log.records
    (stored,) = gateway.stored()
    assert answer.status_code == 202
    assert answer.json() == {
        "id": stored["kiteid"], "created_at": "2026-04-30T10:00:00.000Z",
        "usage": {"events_used": 42, "events_limit": 1_000, "amount_charged_atomic": 100, "amount_charged_sats": 100},
    }  # fmt: skip
    assert [answer.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset")] == ["60", "59", "1"]
    assert answer.headers["cache-control"] == "private, no-store"
    assert (team, usage.event_id, usage.usage_kind, usage.idempotency, usage.delivery_claim) == (TEAM, stored["id"], "hook", None, None)
    assert (stored["type"], stored["kitesource"], stored["data"]) == ("com.acme.event", "acme", {"a": 1})
    assert orjson.loads(stored["kiteoriginalheaders"])["x-custom"] == "kept"
    assert TOKEN not in gateway.log.records[0][1].decode()
    assert gateway.metrics.value("kite_gateway_messages_accepted_total", kind="hook") == 1


@pytest.mark.parametrize("path", [WITH_TOKEN, WITH_TOKEN.replace(":", "%3A"), WITH_TOKEN.replace(":", "%3a")])
async def test_a_team_id_is_taken_raw_and_percent_encoded(path: str, client: httpx.AsyncClient) -> None:
    assert (await client.post(path, json={})).status_code == 202


async def test_the_token_works_by_path_and_by_bearer(gateway: Gateway, client: httpx.AsyncClient) -> None:
    for scheme in ("Bearer", "bearer"):
        assert (await client.post(PATH, json={}, headers={"Authorization": f"{scheme} {TOKEN}"})).status_code == 202
    assert (await client.post(WITH_TOKEN, json={}, headers={"Authorization": "Bearer other"})).status_code == 202
    for path, headers in ((PATH, {}), (PATH, {"Authorization": f"Basic {TOKEN}"}), (f"{PATH}/{TOKEN[:-1]}", BEARER)):
        body = assert_problem(await client.post(path, json={}, headers=headers), 401, "invalid_hook_token")
        assert body["message"] == "invalid hook token"
    assert len(gateway.log.records) == 3


@pytest.mark.parametrize(
    "path", ["/hooks/team_b/acme", f"/hooks/{TEAM}/other", f"/hooks/{TEAM}/closed", "/hooks/a%20b/acme", "/hooks/%00/acme"]
)
async def test_unknown_and_closed_endpoints_answer_like_a_wrong_token(path: str, client: httpx.AsyncClient) -> None:
    for answer in (await client.post(f"{path}/{TOKEN}", json={}), await client.post(path, json={}, headers=BEARER)):
        assert assert_problem(answer, 401, "invalid_hook_token") == {"error": "invalid_hook_token", "message": "invalid hook token"}


@pytest.mark.parametrize(
    "path",
    ["/hooks", "/hooks/", f"/hooks/{TEAM}", f"/hooks/{TEAM}/", f"{WITH_TOKEN}/", f"{WITH_TOKEN}/x", f"/hooks/{TEAM}/kite",
     f"/hooks/{TEAM}/kite/{TOKEN}",
     f"/hooks/{TEAM}/Acme", f"/hooks/{TEAM}/-a", f"/hooks/{TEAM}/a_b", f"/hooks/{TEAM}/{'a' * 65}", f"/hooks/{TEAM}/a%2Fb/c/d"],
)  # fmt: skip
async def test_other_paths_are_unknown(path: str, gateway: Gateway, client: httpx.AsyncClient) -> None:
    assert_problem(await client.post(path, content=b"x" * 300_000), 404, "not_found")
    assert gateway.log.records == []


async def test_only_post_is_taken(client: httpx.AsyncClient) -> None:
    for path in (PATH, WITH_TOKEN):
        answer = await client.get(path)
        assert_problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("source", sorted(PROVIDERS))
async def test_a_signature_alone_delivers_and_a_wrong_one_never(source: str, gateway: Gateway, client: httpx.AsyncClient) -> None:
    provider, path = PROVIDERS[source], f"/hooks/{TEAM}/{source}"
    headers = {"content-type": provider.content_type}
    signed = headers | dict(provider.sign(provider.secret, provider.body, ORIGIN + path.replace(":", "%3A"), NOW_S))
    answer = await client.post(path.replace(":", "%3A"), content=provider.body, headers=signed)
    assert answer.status_code == 202, answer.text
    (stored,) = gateway.stored()
    assert (stored["kiteverified"], stored["kitesource"]) == (True, source)
    # The token alone delivers, too; together with a wrong signature it does not.
    assert (await client.post(f"{path}/{TOKEN}", content=provider.body, headers=headers)).status_code == 202
    assert gateway.stored()[1]["kiteverified"] is False
    changed = provider.body + b"&x=1"
    for target in (path, f"{path}/{TOKEN}", f"{path}/wrong"):
        assert_problem(await client.post(target, content=changed, headers=signed), 401, "invalid_signature")
    assert_problem(await client.post(path, content=provider.body, headers=headers), 401, "invalid_hook_token")
    assert len(gateway.log.records) == 2


async def test_twilio_signs_the_whole_public_url_token_and_query_included(gateway: Gateway, client: httpx.AsyncClient) -> None:
    provider, path = PROVIDERS["twilio"], f"/hooks/{TEAM}/twilio/{TOKEN}?a=b%20c".replace(":", "%3A")
    headers = {"content-type": provider.content_type} | dict(provider.sign(provider.secret, provider.body, ORIGIN + path, NOW_S))
    assert (await client.post(path, content=provider.body, headers=headers)).status_code == 202
    assert gateway.stored()[0]["kiteverified"] is True
    assert_problem(await client.post(path + "d", content=provider.body, headers=headers), 401, "invalid_signature")


@pytest.mark.parametrize("chunked", [True, False])
async def test_exactly_the_limit_passes_and_one_byte_more_does_not(chunked: bool, gateway: Gateway, client: httpx.AsyncClient) -> None:
    def content(size: int) -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            for begin in range(0, size, 100_000):
                yield b"x" * min(100_000, size - begin)

        return pieces() if chunked else b"x" * size

    assert (await client.post(WITH_TOKEN, content=content(MAX_BODY_BYTES))).status_code == 202
    # Before anybody has shown a token.
    body = assert_problem(await client.post(PATH, content=content(MAX_BODY_BYTES + 1)), 413, "payload_too_large")
    assert body["max_bytes"] == 262_144
    assert len(gateway.log.records) == 1


async def test_a_smaller_plan_has_a_smaller_limit(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.reservations.accounts[TEAM] = Account(max_payload=1_000)
    assert (await client.post(WITH_TOKEN, content=b"x" * 1_000)).status_code == 202
    assert assert_problem(await client.post(WITH_TOKEN, content=b"x" * 1_001), 413, "payload_too_large")["max_bytes"] == 1_000


async def test_the_checks_come_in_the_order_of_the_contract(gateway: Gateway, client: httpx.AsyncClient) -> None:
    broken: dict[str, Any] = {"content": b"{", "headers": STRUCTURED | {"content-encoding": "gzip", "Idempotency-Key": "a b"}}
    assert_problem(await client.post(PATH, **broken), 401, "invalid_hook_token")
    assert_problem(await client.post(WITH_TOKEN, **broken), 415, "unsupported_media_type")
    del broken["headers"]["content-encoding"]
    assert_problem(await client.post(WITH_TOKEN, **broken), 400, "invalid_json")
    broken["content"] = orjson.dumps(EVENT | {"type": "com.kite.agent.message"})
    assert_problem(await client.post(WITH_TOKEN, **broken), 400, "reserved_type")
    broken["content"] = orjson.dumps(EVENT)
    assert_problem(await client.post(WITH_TOKEN, **broken), 400, "invalid_idempotency_key")
    del broken["headers"]["Idempotency-Key"]
    assert (await client.post(WITH_TOKEN, **broken)).status_code == 202
    gateway.reservations.accounts[TEAM] = Account(status="past_due")
    assert_problem(await client.post(WITH_TOKEN, **broken), 403, "no_active_subscription")
    gateway.reservations.accounts[TEAM] = Account(month_limit=0, balance=0)
    assert (await client.post(WITH_TOKEN, **broken)).json()["status"] == "duplicate_ignored"
    broken["content"] = orjson.dumps(EVENT | {"id": "other"})
    body = assert_problem(await client.post(WITH_TOKEN, **broken), 429, "quota_exceeded")
    assert (body["scope"], body["events_limit"]) == ("month", 0)
    gateway.reservations.accounts[TEAM] = Account(balance=0)
    body = assert_problem(await client.post(WITH_TOKEN, **broken), 402, "insufficient_funds")
    assert (body["required_atomic"], body["available_atomic"]) == (100, 0)
    assert len(gateway.log.records) == 1


async def test_batches_are_not_taken(client: httpx.AsyncClient) -> None:
    answer = await client.post(WITH_TOKEN, content=b"[]", headers={"content-type": "application/cloudevents-batch+json"})
    assert_problem(answer, 415, "unsupported_media_type")


async def test_a_repeated_delivery_gets_the_first_id_and_is_not_charged(gateway: Gateway, client: httpx.AsyncClient) -> None:
    path, headers = f"/hooks/{TEAM}/github/{TOKEN}", {"x-github-delivery": "d1", "x-github-event": "ping"}
    first = await client.post(path, json={"a": 1}, headers=headers)
    again = await client.post(path, json={"b": 2}, headers=headers)
    other = await client.post(path, json={"a": 1}, headers=headers | {"x-github-delivery": "d2"})
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 202)
    assert again.json() == {"status": "duplicate_ignored", "id": first.json()["id"]}
    assert [usage.event_id for *_, usage in gateway.log.records] == [first.json()["id"], other.json()["id"]]
    assert gateway.log.records[0][3].delivery_claim is not None
    assert gateway.metrics.value("kite_gateway_messages_accepted_total", kind="hook") == 2


async def test_equal_raw_bodies_are_all_accepted(gateway: Gateway, client: httpx.AsyncClient) -> None:
    answers = [await client.post(WITH_TOKEN, json={"id": "1"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.json()["id"] for answer in answers}) == 3


async def test_a_structured_event_keeps_its_id_beside_the_event_id(gateway: Gateway, client: httpx.AsyncClient) -> None:
    first = await client.post(WITH_TOKEN, json=EVENT, headers=STRUCTURED)
    again = await client.post(PATH, json=EVENT, headers=STRUCTURED | BEARER)
    (stored,) = gateway.stored()
    assert (stored["id"], stored["kiteid"]) == ("mine", first.json()["id"])
    assert (again.status_code, again.json()["id"]) == (200, stored["kiteid"])
    assert gateway.log.records[0][3].event_id == stored["kiteid"]


async def test_an_idempotency_key_holds_within_its_source(gateway: Gateway, client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    first, again = [await client.post(WITH_TOKEN, json={"a": 1}, headers=key) for _ in range(2)]
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (202, first.json(), "true")
    assert_problem(await client.post(WITH_TOKEN, json={"a": 2}, headers=key), 409, "idempotency_key_reused")
    assert (await client.post(f"/hooks/{TEAM}/github/{TOKEN}", json={"a": 1}, headers=key)).json()["id"] != first.json()["id"]
    assert len(gateway.log.records) == 2


async def test_what_is_in_flight_is_neither_told_as_done_nor_done_twice(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.log.failure = OutcomeOpen("no acknowledgement")
    assert_problem(await client.post(WITH_TOKEN, json=EVENT, headers=STRUCTURED), 503, "service_unavailable")
    gateway.log.failure = None
    body = assert_problem(await client.post(WITH_TOKEN, json=EVENT, headers=STRUCTURED), 503, "service_unavailable")
    assert body["retry_after_secs"] == 1
    assert gateway.log.records == []


async def test_what_was_surely_not_written_may_be_delivered_again(gateway: Gateway, client: httpx.AsyncClient) -> None:
    gateway.log.failure = Unavailable("broker away")
    assert_problem(await client.post(WITH_TOKEN, json=EVENT, headers=STRUCTURED), 503, "service_unavailable")
    gateway.log.failure = None
    assert (await client.post(WITH_TOKEN, json=EVENT, headers=STRUCTURED)).status_code == 202


async def test_slacks_question_is_answered_and_costs_nothing(gateway: Gateway, client: httpx.AsyncClient) -> None:
    question = {"type": "url_verification", "challenge": "3eZbrw1aB10FEMAGAZd4FyFQ"}
    answer = await client.post(f"/hooks/{TEAM}/slack/{TOKEN}", json=question)
    assert (answer.status_code, answer.json()) == (200, {"challenge": question["challenge"]})
    assert (gateway.log.records, gateway.reservations.held) == ([], {})
    assert_problem(await client.post(f"/hooks/{TEAM}/slack", json=question), 401, "invalid_hook_token")
    gateway.rate_limits.used_up = True
    assert_problem(await client.post(f"/hooks/{TEAM}/slack/{TOKEN}", json=question), 429, "rate_limit_exceeded")


async def test_nobody_is_waited_for_who_may_not_deliver_whatever_comes(client: httpx.AsyncClient) -> None:
    """A body that never comes would hold a place among the requests in flight."""
    wrong = "khk_" + TOKEN[4:].translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
    signed = {"X-Hub-Signature-256": "sha256=" + "0" * 64}
    unsigned = [(PATH, {}), (f"{PATH}/{wrong}", {}), (f"/hooks/{TEAM}/closed/{TOKEN}", {}), ("/hooks/no team/acme", {}), (PATH, signed)]
    for path, headers in [*unsigned, (f"/hooks/{TEAM}/github", {}), ("/hooks/team_x/github", signed)]:
        for length in ({}, {"Content-Length": "2"}):
            async with asyncio.timeout(10):
                assert_problem(await client.post(path, content=_never(), headers=headers | length), 401, "invalid_hook_token")
    async with asyncio.timeout(10):
        large = {"Content-Length": str(MAX_BODY_BYTES + 1)}
        assert_problem(await client.post(PATH, content=_never(), headers=large), 413, "payload_too_large")


async def _never() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def test_hooks_count_as_requests_in_flight() -> None:
    gateway = Gateway(max_in_flight=0)
    async with gateway.client() as client:
        assert_problem(await client.post(WITH_TOKEN, json={}), 503, "overloaded")
    assert gateway.log.records == []
