"""Hooks through the whole gateway, on a real port, over the real Kafka and Valkey."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import orjson
import pytest

from kite_billing.adapters.consumer import settled_of
from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.events.codec import decode
from kite_common.events.usage import UsageRecorded
from kite_common.projection.pending import Write
from kite_common.projection.writes import ProjectionWrites
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import SystemClock
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_common.topics import EVENTS
from kite_gateway.adapters.ids import RandomIds
from kite_gateway.adapters.message_log import KafkaMessageLog
from kite_gateway.adapters.place import places
from kite_gateway.adapters.reservations import Limits, RedisReservations
from kite_gateway.adapters.scripts import ScriptRunner, connect
from kite_gateway.application.accept_message import AcceptMessage, Submission
from kite_gateway.domain.admission import AdmissionRequest
from kite_gateway.domain.hooks.event import HookEvent, HookRequest, read_hook
from kite_gateway.testing import Account, vouch
from support.gateway import PARTITIONS, Gateway, Team, running, running_gateway
from support.providers import PROVIDERS
from support.stack import RunningStack

STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
ACME = {"specversion": "1.0", "id": "mine", "source": "https://acme", "type": "a.b", "data": {"x": 1}}
TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"


async def _events(gateway: Gateway, team: Team) -> list[tuple[dict[str, Any], UsageRecorded]]:
    """What the log holds of a team: each event with the usage that stands behind it."""
    records = await gateway.records(team)
    found = []
    for event, usage in zip(records[::2], records[1::2], strict=True):
        recorded = decode(usage.headers, usage.value)
        assert isinstance(recorded, UsageRecorded)
        found.append((orjson.loads(event.value), recorded))
    return found


async def test_an_accepted_hook_is_one_event_and_one_usage(gateway: Gateway) -> None:
    team = await gateway.open(Account(used=41, price=80, rate_per_min=600))
    token = await gateway.open_hook(team, "acme")
    headers = STRUCTURED | {"traceparent": TRACE, "X-Custom": "kept", "Cookie": "no"}
    status, answered, body = await gateway.ask("POST", f"/hooks/{team.id}/acme/{token}", data=orjson.dumps(ACME), headers=headers)
    ((event, usage),) = await _events(gateway, team)
    assert (status, body["id"], answered["ratelimit-limit"]) == (202, event["kiteid"], "600")
    assert body["usage"] == {"events_used": 42, "events_limit": 1_000, "amount_charged_atomic": 80, "amount_charged_sats": 80}
    assert event.items() >= ACME.items()
    assert orjson.loads(event["kiteoriginalheaders"]).items() >= {"x-custom": "kept"}.items()
    assert token not in str(event)
    assert (usage.event_id, usage.usage_kind, usage.price_atomic) == (event["kiteid"], "hook", 80)
    assert dict((await gateway.records(team))[0].headers)["traceparent"].startswith(b"00-" + b"1" * 32)


@pytest.mark.parametrize("source", sorted(PROVIDERS))
async def test_a_signature_opens_an_endpoint_whose_secret_is_sealed_in_the_log(source: str, gateway: Gateway) -> None:
    team, provider = await gateway.open(), PROVIDERS[source]
    await gateway.open_hook(team, source, provider.secret)
    path = f"/hooks/{team.id}/{source}"
    signed = provider.sign(provider.secret, provider.body, f"http://127.0.0.1:7700{path}", SystemClock().unix_ms() // 1000)
    headers = {"Content-Type": provider.content_type} | dict(signed)

    async def known() -> bool:
        return (await gateway.ask("POST", path, data=provider.body, headers=headers))[0] == 202

    await eventually(known, within_s=5, what="the secret has arrived")
    ((event, _),) = await _events(gateway, team)
    assert (event["kiteverified"], event["kitesource"]) == (True, source)
    status, _, body = await gateway.ask("POST", path, data=provider.body + b"&x=1", headers=headers)
    assert (status, body["error"]) == (401, "invalid_signature")


async def test_rotation_revocation_and_closing_hold_within_a_second(gateway: Gateway) -> None:
    team, provider = await gateway.open(), PROVIDERS["github"]
    token = await gateway.open_hook(team, "github", provider.secret)
    path = f"/hooks/{team.id}/github"

    async def deliver(secret: str | None, token: str | None) -> tuple[int, str]:
        headers = dict(provider.sign(secret, provider.body, "", 0)) if secret else {}
        answer = await gateway.ask("POST", path + (f"/{token}" if token else ""), data=provider.body, headers=headers)
        return answer[0], answer[2].get("error", "")

    async def becomes(secret: str | None, token: str | None, wanted: tuple[int, str]) -> None:
        async def is_so() -> bool:
            return await deliver(secret, token) == wanted

        await eventually(is_so, within_s=5, what=f"the answer is {wanted}")

    await gateway.put_endpoint(gateway.endpoint(team, "github", "newer", provider.secret))
    await becomes("newer", None, (202, ""))
    assert await deliver(provider.secret, None) == (202, "")
    await gateway.put_endpoint(gateway.endpoint(team, "github", "newer"))
    await becomes(provider.secret, None, (401, "invalid_signature"))
    await gateway.issue(team.issued["github"].model_copy(update={"revoked_at": SystemClock().unix_ms() - 1}))
    await becomes(None, token, (401, "invalid_hook_token"))
    assert await deliver("newer", token) == (202, ""), "a stale token with the right signature"
    await gateway.put_endpoint(gateway.endpoint(team, "github", "newer", active=False))
    await becomes("newer", None, (401, "invalid_hook_token"))


@pytest.fixture
async def second(stack: RunningStack) -> AsyncIterator[Gateway]:
    async with running_gateway(stack) as one:
        yield one


async def test_duplicates_over_two_gateways_at_once_make_one_event(gateway: Gateway, second: Gateway) -> None:
    team = await gateway.open()
    token = await gateway.open_hook(team, "github")
    path, headers = f"/hooks/{team.id}/github/{token}", {"X-GitHub-Delivery": "d1", "X-GitHub-Event": "ping"}

    async def known() -> bool:
        return await second.status("POST", path, data=b"", headers={"Content-Type": "application/json"}, is_not=401)

    await eventually(known, within_s=5, what="the other gateway knows the token")
    asked = (one.ask("POST", path, data=b'{"a":%d}' % number, headers=headers) for number in range(20) for one in (gateway, second))
    answers = await asyncio.gather(*asked)
    counted = Counter(status for status, _, _ in answers)
    assert counted[202] == 1
    assert counted.keys() <= {202, 200, 503}
    status, _, body = await second.ask("POST", path, data=b"{}", headers=headers)
    ((event, usage),) = await _events(gateway, team)
    assert (status, body) == (200, {"status": "duplicate_ignored", "id": event["kiteid"]})
    assert {body["id"] for status, _, body in answers if status < 300} == {event["kiteid"]} == {usage.event_id}


class DiesBeforeConfirming(RedisReservations):
    """Admission of a gateway that is killed when the event is in the log and nobody has been told."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.dead = asyncio.Event()

    async def confirm(self, request: AdmissionRequest) -> None:
        self.dead.set()
        await asyncio.Event().wait()


async def test_killed_between_log_and_answer_the_repeat_gets_the_same_id(gateway: Gateway) -> None:
    team = await gateway.open(Account(balance=100, month_limit=1))
    token = await gateway.open_hook(team, "github")
    redis, metrics, place_of = connect(gateway.stack.redis_url, 5.0), Metrics(), places(PARTITIONS)
    publisher = Publisher(Kafka(gateway.stack.kafka), EVENTS.name, PARTITIONS)
    server, limits = await vouch(redis, PARTITIONS), Limits(None, 60, 60.0)
    dying = DiesBeforeConfirming(ScriptRunner(redis, 5.0, metrics), place_of, limits, lambda _: 0, lambda _: 0.0, lambda _: server)
    clock = FrozenClock(from_unix_ms(SystemClock().unix_ms()))
    event = read_hook(HookRequest("github", {"x-github-delivery": "d1"}, b"{}", verified=False))
    assert isinstance(event, HookEvent)
    async with running([publisher]):
        accepting = asyncio.create_task(
            AcceptMessage(dying, KafkaMessageLog(publisher, place_of), clock, RandomIds())(Submission(team.id, event, TRACE))
        )
        await asyncio.wait_for(dying.dead.wait(), 10)
        accepting.cancel()

    async def repeat() -> tuple[int, Any]:
        status, _, body = await gateway.ask("POST", f"/hooks/{team.id}/github/{token}", data=b"{}", headers={"X-GitHub-Delivery": "d1"})
        return status, body

    # Not accepted as far as anybody knows, and not free either.
    status, body = await repeat()
    assert (status, body["error"]) == (503, "service_unavailable")
    ((stored, usage),) = await _events(gateway, team)
    # What billing does when it has read the usage; the quota is used up by now.
    account = make.account(team_id=team.id, applied=2, period_used=1, balance_atomic=0)
    await ProjectionWrites(redis).accounts([Write(account, (settled_of(usage),), create=False)], 0)
    assert await repeat() == (200, {"status": "duplicate_ignored", "id": stored["kiteid"]})
    assert len(await _events(gateway, team)) == 1
    await redis.aclose()


async def test_a_body_of_exactly_the_limit_is_stored_whole_also_when_every_byte_of_it_is_escaped(gateway: Gateway) -> None:
    team = await gateway.open()
    path = f"/hooks/{team.id}/acme/{await gateway.open_hook(team, 'acme')}"
    bodies = [b"\n" * 262_144, b"\xff" * 262_144, b"%01" * 87_381 + b"x", orjson.dumps("x" * 262_142)]
    types = ["text/plain", "image/png", "application/x-www-form-urlencoded", "application/json"]
    for body, content_type in zip(bodies, types, strict=True):
        assert len(body) == 262_144
        assert (await gateway.ask("POST", path, data=BytesIO(body), headers={"Content-Type": content_type}))[0] == 202
        status, _, refused = await gateway.ask("POST", path, data=BytesIO(body + b" "), headers={"Content-Type": content_type})
        assert (status, refused["error"], refused["max_bytes"]) == (413, "payload_too_large", 262_144)
    head = f"POST {path} HTTP/1.1\r\nHost: k\r\nContent-Length: 262145\r\n\r\n".encode()
    assert (await gateway.exchange(head)).startswith(b"HTTP/1.1 413 ")
    assert len(await _events(gateway, team)) == 4


BAD: list[tuple[str, dict[str, Any], int, str]] = [
    ("no JSON", {"data": b"{", "headers": {"Content-Type": "application/json"}}, 400, "invalid_json"),
    ("no CloudEvent and no JSON", {"data": b"\x00", "headers": STRUCTURED}, 400, "invalid_json"),
    ("a lone surrogate", {"data": b'"\\ud800"', "headers": STRUCTURED}, 400, "invalid_json"),
    ("NaN", {"data": b"[NaN]", "headers": STRUCTURED}, 400, "invalid_json"),
    ("deep nesting", {"data": b"[" * 5_000 + b"]" * 5_000, "headers": STRUCTURED}, 400, "invalid_json"),
    ("a batch", {"data": b"[]", "headers": {"Content-Type": "application/cloudevents-batch+json"}}, 415, "unsupported_media_type"),
    ("compressed", {"data": b"\x1f\x8b", "headers": {"Content-Encoding": "gzip"}}, 415, "unsupported_media_type"),
    ("an agent's message", {"data": orjson.dumps(ACME | {"type": "com.kite.agent.message"}), "headers": STRUCTURED}, 400, "reserved_type"),
    ("a notice of Kite", {"data": orjson.dumps(ACME | {"type": "kite.webhook.test"}), "headers": STRUCTURED}, 400, "reserved_type"),
    ("a bad key", {"data": b"x", "headers": {"Idempotency-Key": "a b"}}, 400, "invalid_idempotency_key"),
    ("ten megabytes", {"data": b"x" * 10_000_000}, 413, "payload_too_large"),
]  # fmt: skip


async def test_bad_input_is_refused_clearly_and_stores_nothing(gateway: Gateway) -> None:
    team = await gateway.open()
    token = await gateway.open_hook(team, "acme")
    for what, given, status, code in BAD:
        data, headers = BytesIO(given["data"]), given.get("headers", {})
        found, _, body = await gateway.ask("POST", f"/hooks/{team.id}/acme/{token}", data=data, headers=headers)
        assert (what, found, body["error"]) == (what, status, code)
        assert body["message"]
    wrong = [
        f"/hooks/{team.id}/acme", f"/hooks/{team.id}/acme/{token[:-1]}", f"/hooks/{team.id}/acme/{token}%20",
        f"/hooks/{team.id}/other/{token}", f"/hooks/team_nobody/acme/{token}", f"/hooks/%ff%fe/acme/{token}",
        f"/hooks/{team.id}/acme/{team.keys['write']}", f"/hooks/{team.id}/acme/{'a' * 8_000}",
    ]  # fmt: skip
    for path in wrong:
        found, headers, body = await gateway.ask("POST", path, data=b"{}", headers={"X-Kite-Signature": "sha256=00"})
        assert (path, found, body) == (path, 401, {"error": "invalid_hook_token", "message": "invalid hook token"})
        assert headers["www-authenticate"] == "Bearer"
    for path in (f"/hooks/{team.id}/kite/{token}", f"/hooks/{team.id}/ACME/{token}", f"/hooks/{team.id}/acme/{token}/"):
        found, _, body = await gateway.ask("POST", path, data=b"{}")
        assert (path, found, body["error"]) == (path, 404, "not_found")
    # An API key opens no hook, a hook token no other route.
    found, _, body = await gateway.ask("POST", f"/hooks/{team.id}/acme", data=b"{}", headers=team.bearer())
    assert (found, body["error"]) == (401, "invalid_hook_token")
    url = team.url("/api/v1/agents/messages")
    assert (await gateway.ask("POST", url, data=b"{}", headers={"Authorization": f"Bearer {token}"}))[0] == 401
    assert await gateway.records(team) == []


async def test_without_the_cipher_key_a_secured_endpoint_answers_503_and_others_work(stack: RunningStack) -> None:
    async with running_gateway(stack, hook_secret_cipher_key=None) as gateway:
        team = await gateway.open()
        token = await gateway.open_hook(team, "acme")
        await gateway.put_endpoint(gateway.endpoint(team, "github", "secret"))

        async def is_away() -> bool:
            return (await gateway.ask("POST", f"/hooks/{team.id}/github", data=b"{}"))[0] == 503

        await eventually(is_away, within_s=5, what="the endpoint has arrived")
        assert (await gateway.ask("POST", f"/hooks/{team.id}/acme/{token}", data=b"{}"))[0] == 202


async def test_requests_and_hooks_share_one_bucket(gateway: Gateway) -> None:
    # Twelve seconds bring one request back: far longer than this takes.
    team = await gateway.open(Account(rate_per_min=5))
    token = await gateway.open_hook(team, "acme")
    while (await gateway.send(team))[0] != 429:
        pass
    status, headers, body = await gateway.ask("POST", f"/hooks/{team.id}/acme/{token}", data=b"{}")
    assert (status, body["error"], headers["ratelimit-limit"], headers["ratelimit-remaining"]) == (429, "rate_limit_exceeded", "5", "0")
    assert headers["retry-after"] == str(body["retry_after_secs"])
