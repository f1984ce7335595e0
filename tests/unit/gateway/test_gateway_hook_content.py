"""Bodies by their Content-Type: every row of wire contract 5.6, and what counts as a CloudEvent by 9.2."""

import json
from typing import Any

import orjson
import pytest

from kite_gateway.domain.hooks.cloud_event import CloudEvent
from kite_gateway.domain.hooks.content import BadContent, Payload, read_content

STRUCTURED = "application/cloudevents+json; charset=utf-8"
FORM = "application/x-www-form-urlencoded"
MINIMAL: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "https://a", "type": "a.b"}


def _event(**changed: Any) -> CloudEvent | None:
    """What a structured body with these members is read as; None: it is wrapped as raw JSON."""
    members = {name: value for name, value in (MINIMAL | changed).items() if value is not ...}
    body = json.dumps(members).encode()
    content = read_content(STRUCTURED, body)
    assert isinstance(content, CloudEvent) or content == Payload(orjson.loads(body), body, content_type="application/json")
    return content if isinstance(content, CloudEvent) else None


def _json(value: Any, text: bytes | None = None) -> Payload:
    return Payload(value, orjson.dumps(value) if text is None else text, content_type="application/json")


@pytest.mark.parametrize(
    ("content_type", "body", "content"),
    [
        (STRUCTURED, orjson.dumps(MINIMAL), CloudEvent("1", "https://a", "a.b")),
        ("Application/CloudEvents+JSON", orjson.dumps(MINIMAL), CloudEvent("1", "https://a", "a.b")),
        (STRUCTURED, b'{"a":1}', _json({"a": 1})),
        (STRUCTURED, b"[1]", _json([1])),
        ("application/json", b' {"a": 1.50}\n', _json({"a": 1.5}, b'{"a": 1.50}')),
        ("application/json; charset=utf-8", b"null", _json(None)),
        ("application/vnd.github+json", b'"x"', _json("x")),
        (None, b"[1, 2]", _json([1, 2], b"[1, 2]")),
        ("", b"17", _json(17)),
        (FORM, b"a=1&b=%C3%BC+x&a=2&c", _json({"a": ["1", "2"], "b": "ü x", "c": ""})),
        (FORM, b"payload=%7B%22a%22%3A%201%7D", _json({"a": 1}, b'{"a": 1}')),
        (FORM, b'payload={"a": "b c"}', _json({"a": "b c"}, b'{"a": "b c"}')),
        (FORM, b"payload=no+json", _json({"payload": "no json"})),
        (FORM, b"payload=1&other=2", _json({"payload": "1", "other": "2"})),
        (FORM, b"payload=1&payload=2", _json({"payload": ["1", "2"]})),
        (FORM, b"", _json({})),
        (FORM, b"a=%FF", Payload(data=b'"a=%FF"', content_type="text/plain")),
        (FORM, b"a=\x01", Payload(data_base64="YT0B", content_type="application/octet-stream")),
        (FORM, b"a&" * 1_000, Payload(data=orjson.dumps("a&" * 1_000), content_type="text/plain")),
        ("text/plain", "Zeile\r\n\tü 🪁".encode(), Payload(data='"Zeile\\r\\n\\tü 🪁"'.encode(), content_type="text/plain")),
        ("text/xml; charset=utf-8", b"<a/>", Payload(data=b'"<a/>"', content_type="text/plain")),
        ("nonsense", b'{"a":1}', Payload(data=b'"{\\"a\\":1}"', content_type="text/plain")),
        (None, b"no json", Payload(data=b'"no json"', content_type="text/plain")),
        (None, b"", Payload()),
        ("text/plain", b"", Payload()),
        ("text/plain", b"a\x00b", Payload(data_base64="YQBi", content_type="application/octet-stream")),
        ("text/plain", "a\x85b".encode(), Payload(data_base64="YcKFYg==", content_type="application/octet-stream")),
        ("application/pdf", b"%PDF\xff", Payload(data_base64="JVBERv8=", content_type="application/octet-stream")),
    ],
)
def test_every_kind_of_body_becomes_what_the_contract_says(content_type: str | None, body: bytes, content: object) -> None:
    assert read_content(content_type, body) == content


@pytest.mark.parametrize("content_type", [STRUCTURED, "application/json", "application/x+json"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b"\xff", b"NaN", b"1e999", b'"\\ud800"', b"{}{}", b"[" * 101 + b"]" * 101, b"1" * 400]
)
def test_declared_json_that_is_none_is_refused(content_type: str, body: bytes) -> None:
    content = read_content(content_type, body)
    assert isinstance(content, BadContent)
    assert content.code == "invalid_json"


def test_batches_are_not_taken() -> None:
    content = read_content("application/cloudevents-batch+json", b"[]")
    assert isinstance(content, BadContent)
    assert content.code == "unsupported_media_type"


@pytest.mark.parametrize(
    "type_", ["com.kite.agent.message", "kite.subscription.quota_exhausted", "kite.subscription.", "kite.webhook.test", "kite.webhook.\nx"]
)
def test_a_hook_does_not_speak_for_an_agent_or_for_kite(type_: str) -> None:
    content = read_content(STRUCTURED, orjson.dumps(MINIMAL | {"type": type_}))
    assert isinstance(content, BadContent)
    assert content.code == "reserved_type"


@pytest.mark.parametrize("type_", ["com.kite.agent.messages", "kite.subscription", "KITE.webhook.test", "kite.webhooks.x"])
def test_types_that_only_look_like_it_are_taken(type_: str) -> None:
    found = _event(type=type_)
    assert found is not None
    assert found.type == type_


def _each(name: str, *values: Any) -> list[dict[str, Any]]:
    return [{name: value} for value in values]


NO_EVENTS: list[dict[str, Any]] = [
    *(change for name in ("id", "source", "type") for change in _each(name, ..., None, "", 1, {}, ["a"])),
    *_each("specversion", ..., None, "", "1", "2.0", 1.0),
    *_each(
        "time", "", "now", 1, "2026-04-30", "2026-04-30 10:00:00Z", "2026-04-30T10:00:00", "2026-02-30T10:00:00Z", "2026-04-30T24:00:00Z",
        "2026-04-30T10:00:60Z", "2026-04-30T10:00:00+24:00", "2026-04-30T10:00:00+10:60", "0000-01-01T00:00:00Z", "2026-04-30T10:00:00.Z",
    ),
    *_each("dataschema", "a/b", "/a", "https:", "https://", "http://[", "https://a b", "https://ü/", "https://a:99999/", 1),
    *_each("ext", 1.5, 1.0, {}, [], {"a": 1}, 1 << 63, -(1 << 63) - 1),
    *_each("data_base64", "!", "eA", 1, "ü"),
    *({name: "x"} for name in ("Ext", "my_ext", "my-ext", "", "ü", "a b")),
    {"subject": 1}, {"datacontenttype": {}}, {"data": {}, "datacontenttype": "text/plain"}, {"data": 1, "datacontenttype": "image/png"},
    {"data": "x", "data_base64": "eA=="}, {"data_base64": "eA==", "datacontenttype": "application/json"},
]  # fmt: skip


@pytest.mark.parametrize("changed", NO_EVENTS, ids=str)
def test_what_some_client_could_not_parse_is_no_cloud_event(changed: dict[str, Any]) -> None:
    assert _event(**changed) is None


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"specversion": "0.3"}, {}),
        ({"time": "2026-04-30T10:00:00.123456789+02:00"}, {"time": "2026-04-30T10:00:00.123456789+02:00"}),
        ({"time": "2024-02-29t23:59:59z"}, {"time": "2024-02-29t23:59:59z"}),
        ({"time": None, "subject": None, "ext": None, "data": None}, {}),
        ({"subject": "", "datacontenttype": "", "dataschema": ""}, {}),
        ({"subject": "s", "dataschema": "https://a.example:8443/x?y#z"}, {"subject": "s", "dataschema": "https://a.example:8443/x?y#z"}),
        ({"dataschema": "urn:x:y"}, {"dataschema": "urn:x:y"}),
        ({"a": "x", "b1": True, "c": -(1 << 63), "d": ""}, {"extensions": {"a": "x", "b1": True, "c": -(1 << 63), "d": ""}}),
        ({"data": [1]}, {"data": "[1]"}),
        ({"data": False, "datacontenttype": "text/json"}, {"data": "false", "datacontenttype": "text/json"}),
        ({"data": "x", "datacontenttype": "text/plain"}, {"data": '"x"', "datacontenttype": "text/plain"}),
        ({"data_base64": "eA=="}, {"data_base64": "eA=="}),
        ({"data_base64": "MQ==", "datacontenttype": "application/json"}, {"data_base64": "MQ==", "datacontenttype": "application/json"}),
        ({"kiteseq": 1.5, "kiteid": {}, "kitesource": [], "kiteverified": True, "kiteoriginalheaders": 1, "kitefedorigin": []}, {}),
        ({"kitesummary": "mine"}, {"extensions": {"kitesummary": "mine"}}),
    ],
    ids=str,
)
def test_what_every_client_can_parse_is_one(changed: dict[str, Any], found: dict[str, Any]) -> None:
    assert _event(**changed) == CloudEvent(**{"id": "1", "source": "https://a", "type": "a.b"} | found)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1.0, "n": 123456789012345678901234567890, "e": 1E2, "a":2}', b'"\\u00e9 \\/ }],{\\""', b"-0", b"[ ]", b"{\n}", b"1e-400",
        b'{"data":{"data":[{"data":"}"}]}}', "\"🪁ü\"".encode(),
    ],
)  # fmt: skip
def test_data_keeps_its_exact_text(data: bytes) -> None:
    body = b' { "data" : 1 , "data" : ' + data + b' ,"specversion":"1.0","id":"\\u0031","source":"a","type":"t","x":"data\\":"} '
    content = read_content(STRUCTURED, body)
    assert isinstance(content, CloudEvent)
    assert content.data == data.decode()
    assert content.id == "1"
