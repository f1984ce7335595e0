"""The whole gateway as main builds it, on a real port, over the real Kafka and Valkey."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from kite_common import crypto
from kite_common.events.codec import decode, record_kind
from kite_common.events.envelope import CONTENT_TYPE_HEADER
from kite_common.events.usage import UsageRecorded
from kite_common.events.webhooks import WebhookConfigured
from kite_common.runtime.http import HttpServer
from kite_common.runtime.system import SystemClock
from kite_common.testing.eventually import eventually
from kite_common.topics import WEBHOOKS
from kite_gateway.adapters.scripts import connect
from kite_gateway.testing import Account
from support.gateway import CIPHER_KEY, CONFIG, MESSAGE, SEND, Gateway, running, running_gateway
from support.stack import RunningStack


async def test_an_accepted_message_and_its_usage_stand_side_by_side_in_the_log(gateway: Gateway) -> None:
    team = await gateway.open(Account(used=41, price=80, rate_per_min=600))
    status, headers, answer = await gateway.send(team, traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    event, usage = await gateway.records(team)
    stored = orjson.loads(event.value)
    assert (status, answer["id"], answer["created_at"]) == (202, stored["id"], stored["time"])
    assert answer["usage"] == {"events_used": 42, "events_limit": 1_000, "amount_charged_atomic": 80, "amount_charged_sats": 80}
    assert headers["ratelimit-limit"] == "600"
    assert (record_kind(event.headers), record_kind(usage.headers)) == ("event", "usage")
    assert CONTENT_TYPE_HEADER in event.headers
    assert dict(event.headers)["traceparent"].startswith(b"00-4bf92f3577b34da6a3ce929d0e0e4736-")
    assert stored["data"] == MESSAGE
    recorded = decode(usage.headers, usage.value)
    assert isinstance(recorded, UsageRecorded)
    assert (recorded.event_id, recorded.price_atomic, recorded.idempotency) == (stored["id"], 80, None)


async def test_twenty_at_once_with_one_key_make_one_event(gateway: Gateway) -> None:
    team = await gateway.open()
    answers = await asyncio.gather(*(gateway.send(team, **{"Idempotency-Key": "one"}) for _ in range(20)))
    assert {status for status, _, _ in answers} <= {202, 409}
    assert len({body["id"] for status, _, body in answers if status == 202}) == 1
    assert {body["error"] for status, _, body in answers if status == 409} <= {"request_in_progress"}
    status, headers, _ = await gateway.send(team, **{"Idempotency-Key": "one"})
    assert (status, headers["Idempotency-Replayed"]) == (202, "true")
    assert len(await gateway.records(team)) == 2


async def test_a_rush_on_a_small_wallet_is_charged_only_for_what_it_held(gateway: Gateway) -> None:
    team = await gateway.open(Account(price=100, balance=5_000))
    answers = await asyncio.gather(*(gateway.send(team) for _ in range(200)))
    assert sorted(status for status, _, _ in answers) == [202] * 50 + [402] * 150
    assert len(await gateway.records(team)) == 100


async def test_the_largest_bodies_of_many_at_once_all_arrive(gateway: Gateway) -> None:
    team = await gateway.open()
    frame = len(orjson.dumps(MESSAGE | {"body": ""}))
    body = orjson.dumps(MESSAGE | {"body": "x" * (65_536 - frame)})
    answers = await asyncio.gather(*(gateway.ask("POST", team.url(SEND), headers=team.bearer(), data=body) for _ in range(40)))
    assert [status for status, _, _ in answers] == [202] * 40
    assert len(await gateway.records(team)) == 80


HOSTILE: list[tuple[str, dict[str, Any], int, str]] = [
    ("too large", {"data": b"x" * 65_537}, 413, "payload_too_large"),
    ("a wrong type", {"data": b'{"from":1,"to":"b","body":""}'}, 400, "invalid_message"),
    ("an empty to", {"data": b'{"from":"a","to":"","body":""}'}, 400, "invalid_message"),
    ("a list", {"data": b"[]"}, 400, "invalid_json"),
    ("nothing", {"data": b""}, 400, "invalid_json"),
    ("a raw NUL", {"data": b'{"from":"a\x00","to":"b","body":""}'}, 400, "invalid_json"),
    ("an escaped NUL", {"data": b'{"from":"a","to":"b","body":"\\u0000"}'}, 400, "invalid_message"),
    ("bad UTF-8", {"data": b'{"from":"\xff","to":"b","body":""}'}, 400, "invalid_json"),
    ("a lone surrogate", {"data": b'{"from":"\\udfff","to":"b","body":""}'}, 400, "invalid_json"),
    ("deep nesting", {"data": b'{"from":"a","to":"b","body":"","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}"}, 400, "invalid_json"),
    ("a huge number", {"data": b'{"from":"a","to":"b","body":"","x":1e999}'}, 400, "invalid_json"),
    ("an encoding", {"data": b"\x1f\x8b", "headers": {"Content-Encoding": "gzip"}}, 415, "unsupported_media_type"),
    ("a bad key header", {"data": b"{}", "headers": {"Idempotency-Key": "a b"}}, 400, "invalid_idempotency_key"),
]


async def test_hostile_input_is_refused_clearly_and_nothing_is_stored(gateway: Gateway) -> None:
    team = await gateway.open()
    for what, given, status, code in HOSTILE:
        headers = team.bearer() | given.get("headers", {})
        found, _, body = await gateway.ask("POST", team.url(SEND), headers=headers, data=given["data"])
        assert (what, found, body["error"]) == (what, status, code)
        assert body["message"]
    for url, status, code in ((SEND, 400, "missing_team_id"), (f"{SEND}?team_id=team_other", 403, "forbidden")):
        found, _, body = await gateway.ask("POST", url, headers=team.bearer(), json=MESSAGE)
        assert (found, body["error"]) == (status, code)
    assert await gateway.records(team) == []


async def test_text_that_looks_dangerous_is_stored_safely(gateway: Gateway) -> None:
    team = await gateway.open()
    odd = {"from": "a\x01\r\n/../ü😀", "to": "\x1b[31m", "body": "\x01'; DROP TABLE events; --"}
    status, _, answer = await gateway.ask("POST", team.url(SEND), headers=team.bearer(), json=odd)
    stored = orjson.loads((await gateway.records(team))[0].value)
    assert (status, answer["from"], stored["data"]) == (202, odd["from"], odd)
    assert stored["source"] == "https://getkite.sh/agents/a%01%0D%0A%2F..%2F%C3%BC%F0%9F%98%80"
    assert stored["kitesummary"].isprintable()


async def test_an_announced_length_is_refused_before_the_body_comes(gateway: Gateway) -> None:
    team = await gateway.open()
    head = (
        f"POST {team.url(SEND)} HTTP/1.1\r\nHost: kite\r\nAuthorization: {team.bearer()['Authorization']}\r\nContent-Length: 65537\r\n\r\n"
    ).encode()
    assert (await gateway.exchange(head)).startswith(b"HTTP/1.1 413 ")


async def test_a_stream_without_a_length_is_cut_off_at_the_limit(gateway: Gateway) -> None:
    team = await gateway.open()
    head = (
        f"POST {team.url(SEND)} HTTP/1.1\r\nHost: kite\r\nAuthorization: {team.bearer()['Authorization']}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode()
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    assert (await gateway.exchange(head, *[chunk] * 17)).startswith(b"HTTP/1.1 413 ")


async def test_a_revoked_key_is_refused_within_a_second(gateway: Gateway) -> None:
    team = await gateway.open()
    assert (await gateway.send(team))[0] == 202
    await gateway.issue(team.issued["write"].model_copy(update={"revoked_at": SystemClock().unix_ms()}))

    async def is_refused() -> bool:
        return (await gateway.send(team))[0] == 401

    await eventually(is_refused, within_s=5, what="the revocation has arrived")


async def test_a_webhook_config_is_stored_sealed_and_read_back(gateway: Gateway) -> None:
    team = await gateway.open()
    wanted = {"url": "https://hooks.example.com/x", "secret": "hush-hush", "event_types": ["com.kite.*"]}
    status, _, put = await gateway.ask("PUT", team.url(CONFIG), headers=team.bearer(), json=wanted)
    again = (await gateway.ask("PUT", team.url(CONFIG), headers=team.bearer(), json=wanted | {"event_types": None}))[2]
    shown = (await gateway.ask("GET", team.url(CONFIG), headers=team.bearer("read")))[2]
    assert (status, again["id"], shown["event_types"], shown["active"]) == (200, put["id"], [], True)
    record = (await gateway.records(team, WEBHOOKS.name))[-1]
    stored = decode(record.headers, record.value)
    assert isinstance(stored, WebhookConfigured)
    assert b"hush" not in record.value
    assert crypto.unseal([CIPHER_KEY.encode()], stored.secrets[0].sealed, (team.id + stored.id).encode()) == b"hush-hush"
    assert (await gateway.ask("DELETE", team.url(CONFIG), headers=team.bearer()))[2] == {"ok": True}
    assert (await gateway.ask("GET", team.url(CONFIG), headers=team.bearer("read")))[0] == 404


async def test_ten_puts_at_once_keep_one_id(gateway: Gateway) -> None:
    team = await gateway.open()
    wanted = {"url": "https://hooks.example.com/x", "secret": "hush-hush"}
    answers = await asyncio.gather(*(gateway.ask("PUT", team.url(CONFIG), headers=team.bearer(), json=wanted) for _ in range(10)))
    assert {status for status, _, _ in answers} == {200}
    assert len({body["id"] for _, _, body in answers}) == 1


async def test_without_a_projected_account_the_answer_is_503(gateway: Gateway) -> None:
    team = await gateway.open()
    redis = connect(gateway.stack.redis_url, 5.0)
    await redis.delete(f"kite:{{{team.id}}}:account")
    await redis.aclose()
    status, headers, body = await gateway.send(team)
    assert (status, body["error"], headers["Retry-After"]) == (503, "service_unavailable", str(body["retry_after_secs"]))
    assert await gateway.records(team) == []


def _replay() -> Starlette:
    """A stand-in for the replay service: says what it was asked."""

    async def echo(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 100_000

        if request.query_params.get("since") == "long":
            return StreamingResponse(pieces(), 206, {"x-replay": "yes", "connection": "x-secret", "x-secret": "1"}, "text/plain")
        headers = {name: value for name, value in request.headers.items() if name not in ("user-agent", "accept-encoding", "accept")}
        body = {"path": request.scope["raw_path"].decode(), "query": request.scope["query_string"].decode(), "headers": headers}
        return Response(orjson.dumps(body), 410, {"Cache-Control": "private, no-store"}, "application/json")

    return Starlette(routes=[Route("/api/v1/events", echo)])


async def test_replay_paths_are_passed_on_as_they_came(stack: RunningStack) -> None:
    replay = HttpServer(_replay(), host="127.0.0.1", port=0, drain_timeout_s=2)
    async with running([replay]), running_gateway(stack, replay_url=f"http://127.0.0.1:{replay.port}") as gateway:
        bearer = (await gateway.open()).bearer("read")
        headers = {"x-request-id": "mine", "Connection": "x-hop", "x-hop": "1", "TE": "trailers"} | bearer
        url = "/api/v1/events?team_id=a%3Ab&since=2026-01-01+00:00:00.000"
        status, answered, seen = await gateway.ask("GET", url, headers=headers)
        assert (status, answered["x-request-id"], answered["cache-control"]) == (410, "mine", "private, no-store")
        assert (seen["path"], seen["query"]) == ("/api/v1/events", "team_id=a%3Ab&since=2026-01-01+00:00:00.000")
        assert {name: seen["headers"].get(name) for name in ("x-request-id", "authorization", "x-hop", "te")} == {
            "x-request-id": "mine", "authorization": bearer["Authorization"], "x-hop": None, "te": None,
        }  # fmt: skip
        status, answered, body = await gateway.ask("GET", "/api/v1/events?since=long", headers=bearer, data=b"a body nobody wants")
        assert (status, answered["x-replay"], answered.get("x-secret"), len(body)) == (206, "yes", None, 300_000)
        known = f"Authorization: {bearer['Authorization']}\r\n".encode()
        unsent = await gateway.exchange(b"GET /api/v1/events HTTP/1.1\r\nHost: kite\r\n" + known + b"Content-Length: 10\r\n\r\n")
        assert unsent.startswith(b"HTTP/1.1 410 "), "a body that never comes is not waited for"
        for method in ("POST", "HEAD"):
            status, answered, _ = await gateway.ask(method, "/api/v1/events")
            assert (status, answered["allow"]) == (405, "GET")
        for unknown in ({}, {"Authorization": "Bearer k"}):
            status, _, refused = await gateway.ask("GET", url, headers=unknown)
            assert (status, refused["error"]) == (401, "unauthorized"), "who is not known does not reach replay"


async def test_eight_answers_of_a_team_and_128_of_all_are_passed_on_at_once(stack: RunningStack) -> None:
    """More than the hundred connections the client library takes by itself: slow readers would hold them all."""
    asked, all_here, go = 0, asyncio.Event(), asyncio.Event()

    async def wait_for_all(_request: Request) -> Response:
        nonlocal asked
        asked += 1
        if asked == 128:
            all_here.set()
        await go.wait()
        return Response(b"all")

    replay = HttpServer(Starlette(routes=[Route("/api/v1/events", wait_for_all)]), host="127.0.0.1", port=0, drain_timeout_s=2)
    async with running([replay]), running_gateway(stack, replay_url=f"http://127.0.0.1:{replay.port}") as gateway:
        bearers = [(await gateway.open()).bearer("read") for _ in range(16)]
        asking = [asyncio.create_task(gateway.ask("GET", "/api/v1/events", headers=bearer)) for bearer in bearers for _ in range(8)]
        await asyncio.wait_for(all_here.wait(), 30)
        another = (await gateway.open()).bearer("read")
        for one_more, expected in ((bearers[0], (429, "rate_limit_exceeded")), (another, (503, "overloaded"))):
            status, _, refused = await gateway.ask("GET", "/api/v1/events", headers=one_more)
            assert (status, refused["error"]) == expected
        go.set()
        answers = await asyncio.gather(*asking)
        assert {(status, body) for status, _, body in answers} == {(200, b"all")}


async def test_operators_see_what_the_log_and_the_tables_do(gateway: Gateway) -> None:
    team = await gateway.open()
    assert (await gateway.send(team))[0] == 202
    _, _, text = await gateway.ask("GET", "/metrics")
    found = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.decode().splitlines() if not line.startswith("#")}
    assert found['kite_publish_seconds_count{topic="kite.events"}'] >= 1
    assert found['kite_table_keys{topic="kite.credentials"}'] >= 2
    assert found["kite_gateway_admission_seconds_count"] >= 1
    assert found['kite_component_ready{component="table-kite.credentials"}'] == 1
    assert [name for name in found if name.startswith("kite_up{") and 'service="gateway"' in name]


async def test_without_replay_only_its_paths_suffer(stack: RunningStack) -> None:
    async with running_gateway(stack, replay_url="http://127.0.0.1:9") as gateway:
        team = await gateway.open()
        status, headers, body = await gateway.ask("GET", team.url("/api/v1/events"), headers=team.bearer())
        assert (status, body["error"], headers["Retry-After"]) == (503, "replay_unavailable", str(body["retry_after_secs"]))
        assert (await gateway.send(team))[0] == 202
