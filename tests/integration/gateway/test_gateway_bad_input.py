"""Hostile and broken input on every route, over a real port: the contract's error shape, never a 5xx, and nothing in the log."""

import asyncio
from io import BytesIO
from typing import Any

import orjson
import pytest

from kite_common.runtime.system import SystemClock
from kite_common.testing.eventually import eventually
from kite_common.topics import EVENTS, WEBHOOKS
from support.gateway import CONFIG, MESSAGE, SEND, Gateway, Team

WANTED = {"url": "https://hooks.example.com/kite", "secret": "hush-hush"}
BEARER_ROUTES = [("POST", SEND), ("GET", CONFIG), ("PUT", CONFIG), ("DELETE", CONFIG)]
BODY_ROUTES = [("POST", SEND, MESSAGE), ("PUT", CONFIG, WANTED)]
PUBLIC = ["/health", "/livez", "/ready", "/readyz", "/metrics", "/openapi.json", "/docs"]


async def nothing_stored(gateway: Gateway, team: Team) -> bool:
    return [await gateway.records(team, topic) for topic in (EVENTS.name, WEBHOOKS.name)] == [[], []]


def assert_problem(answer: tuple[int, Any, Any], status: int, code: str) -> None:
    """The error shape of wire contract 2.3."""
    found, headers, body = answer
    assert (found, body["error"]) == (status, code), body
    assert isinstance(body["message"], str)
    assert body["message"]
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"]
    assert headers.get("retry-after") == (str(body["retry_after_secs"]) if "retry_after_secs" in body else None)


def nested(levels: int) -> bytes:
    return b'{"x":' * levels + b"1" + b"}" * levels


BROKEN_BODIES: list[tuple[str, bytes, int, str]] = [
    ("nothing", b"", 400, "invalid_json"),
    ("a list", b"[]", 400, "invalid_json"),
    ("a string", b'"text"', 400, "invalid_json"),
    ("a form", b"from=a&to=b&url=x", 400, "invalid_json"),
    ("an XML document", b"<?xml version='1.0'?><a/>", 400, "invalid_json"),
    ("cut off", b'{"from":"a","url":"https:', 400, "invalid_json"),
    ("two objects", b"{}{}", 400, "invalid_json"),
    ("a comment", b"{/* */}", 400, "invalid_json"),
    ("deep nesting", nested(101), 400, "invalid_json"),
    ("nesting as deep as fits", nested(10_000), 400, "invalid_json"),
    ("brackets that never close", b"[" * 65_536, 400, "invalid_json"),
    ("a raw NUL", b'{"from":"\x00","url":"\x00"}', 400, "invalid_json"),
    ("NUL bytes only", b"\x00" * 100, 400, "invalid_json"),
    ("a lone high surrogate", b'{"from":"\\ud800","url":"\\ud800"}', 400, "invalid_json"),
    ("a lone low surrogate in a name", b'{"\\udfff":1}', 400, "invalid_json"),
    ("a surrogate as UTF-8", b'{"from":"\xed\xa0\x80"}', 400, "invalid_json"),
    ("an overlong encoding", b'{"from":"\xc0\xaf"}', 400, "invalid_json"),
    ("Latin-1", '{"from":"ü"}'.encode("latin-1"), 400, "invalid_json"),
    ("UTF-16", '{"from":"a"}'.encode("utf-16"), 400, "invalid_json"),
    ("UTF-32 without a mark", '{"from":"a"}'.encode("utf-32-le"), 400, "invalid_json"),
    ("a byte order mark", b"\xef\xbb\xbf{}", 400, "invalid_json"),
    ("NaN", b'{"x":NaN}', 400, "invalid_json"),
    ("Infinity", b'{"x":-Infinity}', 400, "invalid_json"),
    ("a number beyond a float", b'{"x":1e999}', 400, "invalid_json"),
    ("one byte too many", b"x" * 65_537, 413, "payload_too_large"),
    ("ten megabytes", b"x" * 10_000_000, 413, "payload_too_large"),
]


@pytest.mark.parametrize(("method", "path", "_good"), BODY_ROUTES)
async def test_a_broken_body_is_refused_on_every_route_that_takes_one(method: str, path: str, _good: Any, gateway: Gateway) -> None:
    team = await gateway.open()
    for what, body, status, code in BROKEN_BODIES:
        answer = await gateway.ask(method, team.url(path), headers=team.bearer(), data=BytesIO(body))
        assert answer[0] == status, what
        assert_problem(answer, status, code)
    for encoding in ("gzip", "br", "deflate, gzip", "identity, gzip", "nonsense"):
        answer = await gateway.ask(method, team.url(path), headers=team.bearer() | {"Content-Encoding": encoding}, data=b"\x1f\x8b\x08")
        assert_problem(answer, 415, "unsupported_media_type")
    assert await nothing_stored(gateway, team)


WRONG_VALUES: list[Any] = [None, 1, 1.5, True, [], ["a"], {}, {"a": 1}, ""]
WRONG_URLS = [
    "//x.example", "x.example", "javascript:alert(1)", "file:///etc/passwd", "http://", "http://[", "https://u:p@x.example/",
    "https://x.example/#a", "https://x.example/" + "a" * 2_048, "https://x.example:99999/", "https://x .example/", "https://x.example\x00/",
    "https://x.example\r\nHost: y/", "http://127.0.0.1/", "http://[::1]/", "http://0x7f000001/", "http://localhost/",
    "http://169.254.169.254/",
]  # fmt: skip
WRONG_SECRETS = ["s" * 257, "a\x00b", "a\nb", "whsec_", "whsec_!!!", "whsec_c2hvcnQ="]
WRONG_EVENT_TYPES: list[Any] = [
    "com.kite.*", 1, {}, True, [1], [None], [""], ["*"], ["a*"], ["a.*.b"], ["a" * 129], ["a"] * 101, [["a"]],
]  # fmt: skip


async def test_every_wrong_value_of_a_message_names_its_field(gateway: Gateway) -> None:
    team = await gateway.open()
    may_be: list[tuple[str, list[Any]]] = [("from", []), ("to", []), ("body", [""]), ("thread_id", [None, ""]), ("reply_to_id", [None, ""])]
    for field, allowed in may_be:
        for value in (one for one in WRONG_VALUES if one not in allowed):
            answer = await gateway.ask("POST", team.url(SEND), headers=team.bearer(), json=MESSAGE | {field: value})
            assert_problem(answer, 400, "invalid_message")
            assert answer[2]["field"] == field
    assert await nothing_stored(gateway, team)


async def test_every_wrong_value_of_a_config_has_its_code(gateway: Gateway) -> None:
    team = await gateway.open()
    wrong: list[tuple[dict[str, Any], str]] = [
        *(({"url": value}, "invalid_url") for value in [*WRONG_VALUES, *WRONG_URLS]),
        *(({"secret": value}, "invalid_secret") for value in [*WRONG_VALUES, *WRONG_SECRETS]),
        *(({"event_types": value}, "invalid_event_types") for value in WRONG_EVENT_TYPES),
    ]
    for change, code in wrong:
        answer = await gateway.ask("PUT", team.url(CONFIG), headers=team.bearer(), json=WANTED | change)
        assert answer[0] == 400, change
        assert_problem(answer, 400, code)
    assert await nothing_stored(gateway, team)


@pytest.mark.parametrize(("method", "path", "good"), BODY_ROUTES)
async def test_of_a_name_given_twice_the_last_counts(method: str, path: str, good: dict[str, Any], gateway: Gateway) -> None:
    team = await gateway.open()
    name = next(iter(good))
    once = orjson.dumps(good)
    bad_last, bad_first = once[:-1] + b',"' + name.encode() + b'":1}', b'{"' + name.encode() + b'":1,' + once[1:]
    assert (await gateway.ask(method, team.url(path), headers=team.bearer(), data=bad_last))[0] == 400
    assert await nothing_stored(gateway, team)
    assert (await gateway.ask(method, team.url(path), headers=team.bearer(), data=bad_first))[0] in (200, 202)


@pytest.mark.parametrize(("method", "path"), BEARER_ROUTES)
async def test_who_has_no_right_is_refused_on_every_route(method: str, path: str, gateway: Gateway) -> None:
    team, other = await gateway.open(), await gateway.open()
    good = team.keys["write"]
    bad = ["", "Bearer", "Bearer ", "Basic dTpw", good, f"Bearer {good}x", f"Bearer {good[:-1]}", f"Bearer {good.upper()}",
           f"Bearer {good[:13]}_{'0' * 32}", "Bearer khk_" + good[5:], f"Bearer {good} {good}", "Bearer " + "a" * 8_000]  # fmt: skip
    for value in [None, *bad]:
        headers = {} if value is None else {"Authorization": value}
        answer = await gateway.ask(method, team.url(path), headers=headers, json=MESSAGE | WANTED)
        assert_problem(answer, 401, "unauthorized")
        assert answer[1]["www-authenticate"] == "Bearer"
        assert good not in str(answer)
    for query, status, code in (
        ("", 400, "missing_team_id"), ("?team_id", 400, "missing_team_id"), ("?team_id=", 400, "missing_team_id"),
        (f"?team_id={other.id}", 403, "forbidden"), ("?team_id=team_nobody", 403, "forbidden"),
        (f"?team_id={team.id}%00", 403, "forbidden"),
        (f"?team_id={team.id.upper()}", 403, "forbidden"), ("?team_id=%ff%fe", 403, "forbidden"),
        ("?team_id=../../x", 403, "forbidden"),
        (f"?team_id={other.id}&team_id={team.id}", 403, "forbidden"), ("?" + "a&" * 5_000, 400, "missing_team_id"),
    ):  # fmt: skip
        answer = await gateway.ask(method, path + query, headers=team.bearer(), json=MESSAGE | WANTED)
        assert_problem(answer, status, code)
    if method != "GET":
        answer = await gateway.ask(method, team.url(path), headers=team.bearer("read"), json=MESSAGE | WANTED)
        assert_problem(answer, 403, "insufficient_permissions")
    assert await nothing_stored(gateway, team)
    assert await nothing_stored(gateway, other)


@pytest.mark.parametrize("change", ["expires_at", "revoked_at"])
async def test_a_key_that_has_ended_opens_no_route(change: str, gateway: Gateway) -> None:
    team = await gateway.open()
    ended_at = SystemClock().unix_ms() - 1
    await gateway.issue(team.issued["write"].model_copy(update={change: ended_at}))

    async def is_refused() -> bool:
        return (await gateway.ask("GET", team.url(CONFIG), headers=team.bearer()))[0] == 401

    await eventually(is_refused, within_s=5, what="the change has arrived")
    for method, path in BEARER_ROUTES:
        answer = await gateway.ask(method, team.url(path), headers=team.bearer(), json=MESSAGE | WANTED)
        assert_problem(answer, 401, "unauthorized")
    assert await nothing_stored(gateway, team)


async def test_a_wrong_method_or_path_says_so_and_stores_nothing(gateway: Gateway) -> None:
    team = await gateway.open()
    allowed = {SEND: {"POST"}, CONFIG: {"GET", "PUT", "DELETE"}} | {path: {"GET", "HEAD"} for path in PUBLIC}
    for path, methods in allowed.items():
        for method in {"GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} - methods:
            answer = await gateway.ask(method, team.url(path), headers=team.bearer(), json=MESSAGE)
            assert_problem(answer, 405, "method_not_allowed")
            assert set(answer[1]["allow"].split(", ")) == methods
    for path in ("/", "/api", "/api/v1", SEND + "/", SEND.upper(), "/api/v1/../v1/agents/messages", "//", "/%00",
                 "/%ff%fe", "/api/v1/skills", "/api/federation", "/hooks/a/kite", "/ws", "/docs/", "/.env", "/" + "a" * 8_000):  # fmt: skip
        assert_problem(await gateway.ask("POST", team.url(path), headers=team.bearer(), json=MESSAGE), 404, "not_found")
    assert await nothing_stored(gateway, team)


@pytest.mark.parametrize("key", ["", "a b", "a\tb", "ü", "a" * 256, "a, b"])
async def test_a_key_that_is_no_visible_ascii_stores_nothing(key: str, gateway: Gateway) -> None:
    team = await gateway.open()
    head = f"POST {team.url(SEND)} HTTP/1.1\r\nHost: k\r\nAuthorization: {team.bearer()['Authorization']}\r\nIdempotency-Key: {key}\r\n"
    body = orjson.dumps(MESSAGE)
    answer = await gateway.exchange(head.encode("latin-1") + b"Content-Length: %d\r\n\r\n" % len(body), body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert await nothing_stored(gateway, team)


BROKEN_HEADS: list[tuple[str, bytes]] = [
    ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    ("a NUL in a header", b"GET /health HTTP/1.1\r\nHost: k\r\nX-A: a\x00b\r\n\r\n"),
    ("a line break in a header name", b"GET /health HTTP/1.1\r\nHost: k\r\nX A: b\r\n\r\n"),
    ("two lengths", b"POST " + SEND.encode() + b" HTTP/1.1\r\nHost: k\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    (
        "length and chunks",
        b"POST " + SEND.encode() + b" HTTP/1.1\r\nHost: k\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a negative length", b"POST " + SEND.encode() + b" HTTP/1.1\r\nHost: k\r\nContent-Length: -1\r\n\r\n"),
    ("an endless length", b"POST " + SEND.encode() + b" HTTP/1.1\r\nHost: k\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n"),
    ("a head too long", b"GET /health HTTP/1.1\r\nHost: k\r\nX-A: " + b"a" * 40_000 + b"\r\n\r\n"),
    ("too many headers", b"GET /health HTTP/1.1\r\nHost: k\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n"),
]


@pytest.mark.parametrize(("what", "head"), BROKEN_HEADS, ids=[what for what, _ in BROKEN_HEADS])
async def test_what_is_no_request_is_refused_before_any_route(what: str, head: bytes, gateway: Gateway) -> None:
    answer = await gateway.exchange(head)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 ", b"HTTP/1.1 431 ")), answer
    assert b"application/json" in answer


async def test_a_hundred_clients_that_never_send_their_body_do_not_stop_others(gateway: Gateway) -> None:
    team = await gateway.open()
    key = team.bearer()["Authorization"]
    head = f"POST {team.url(SEND)} HTTP/1.1\r\nHost: k\r\nAuthorization: {key}\r\nContent-Length: 10\r\n\r\n".encode()
    opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(100)))
    for _, writer in opened:
        writer.write(head)
    assert (await gateway.send(team))[0] == 202
    for _, writer in opened:
        writer.close()

    async def are_gone() -> bool:
        text = (await gateway.ask("GET", "/metrics"))[2].decode()
        return "\nkite_gateway_in_flight 0.0\n" in text

    await eventually(are_gone, within_s=10, what="those who hung up hold no place")
    assert len(await gateway.records(team)) == 2
