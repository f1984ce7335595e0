"""Whatever is sent to a hook: a named error or an event that every client can read, never anything else."""

import json
import re
from typing import Any

import orjson
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from hypothesis import given
from hypothesis import strategies as st

from kite_common.events.envelope import CONTENT_TYPE, read_stored
from kite_common.testing import make
from kite_gateway.domain.hooks.content import BadContent, read_content
from kite_gateway.domain.hooks.event import HookRequest, read_hook
from kite_gateway.domain.hooks.providers import Delivery, delivery_id
from kite_gateway.domain.hooks.stored_headers import MAX_BYTES, MAX_VALUE_CHARS

SLUGS = ["github", "stripe", "slack", "linear", "shopify", "twilio", "pagerduty", "clerk", "acme", "0", "x" * 64]
TYPES = [
    "application/cloudevents+json", "application/json", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream",
    "application/vnd.api+json; charset=utf-8", "application/cloudevents-batch+json", "multipart/form-data; boundary=x",
]  # fmt: skip
NAMES = [
    "x-github-event", "x-github-delivery", "linear-event", "x-shopify-topic", "x-shopify-shop-domain", "svix-id", "content-length",
    "cookie", "x-payment", "authorization", "x-any", "proxy-x", "forwarded",
]  # fmt: skip
HEADER = re.compile(r"[\t -~]*")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
# Members as providers and clients write them, right and wrong ones side by side.
known = st.fixed_dictionaries({}, optional={
    "specversion": st.sampled_from(["1.0", "0.3", "2.0"]), "id": texts, "type": texts, "source": texts,
    "time": st.sampled_from(["2026-04-30T10:00:00Z", "2026-04-30T10:00:00.5+02:00", "soon", 7]),
    "datacontenttype": st.sampled_from(["application/json", "text/plain", "image/png", "", 1]),
    "dataschema": st.sampled_from(["https://a.example/s", "urn:a:b", "no url", 1]), "subject": texts,
    "data": json_values, "data_base64": st.sampled_from(["eA==", "MQ==", "!", 1]), "ext": json_values, "kiteid": json_values,
    "kiteseq": json_values, "kitesummary": json_values, "kitefedx": json_values, "event": json_values, "repository": json_values,
    "commits": json_values, "ref": texts, "sender": json_values, "challenge": json_values, "action": json_values,
})  # fmt: skip
cloud_events = known.map(lambda members: {"specversion": "1.0", "id": "1", "type": "a.b", "source": "s"} | members)
bodies = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    known.map(lambda value: json.dumps(value).encode()),
    cloud_events.map(lambda value: json.dumps(value).encode()),
    st.lists(st.tuples(texts, texts), max_size=4).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode()),
)
latin = st.text(st.characters(max_codepoint=255), max_size=40)
heads = st.dictionaries(st.sampled_from(NAMES), latin, max_size=6)
content_types = st.none() | st.sampled_from(TYPES) | latin


def _request(slug: str, body: bytes, head: dict[str, str], content_type: str | None, verified: bool) -> HookRequest:
    declared = {} if content_type is None else {"content-type": content_type}
    return HookRequest(slug, head | declared, body, verified, make.HOOK_TOKEN)


@given(st.sampled_from(SLUGS), bodies, heads, content_types, st.booleans())
def test_any_request_is_an_event_for_every_reader_or_a_named_error(
    slug: str, body: bytes, head: dict[str, str], content_type: str | None, verified: bool
) -> None:
    found = read_hook(_request(slug, body, head, content_type, verified))
    if isinstance(found, BadContent):
        assert found.code in ("invalid_json", "unsupported_media_type", "reserved_type")
        return
    text = found.to_event(make.EVENT_ID, make.NOW_MS)
    stored = read_stored(text, 4711)
    assert stored.event_id == make.EVENT_ID
    parsed = from_http_event(HTTPMessage(headers={"content-type": CONTENT_TYPE}, body=stored.body))
    assert (parsed.get_extension("kiteseq"), parsed.get_extension("kitesource"), parsed.get_type()) == (4711, slug, stored.type)
    _assert_every_client_reads(orjson.loads(stored.body))


def _assert_every_client_reads(event: dict[str, Any]) -> None:
    """Wire contract 9.2, and what 9.1 says of Kite's own attributes."""
    assert event["specversion"] == "1.0"
    assert all(isinstance(event[name], str) and event[name] for name in ("id", "type", "source", "time", "kitesource", "kitesummary"))
    for name in event.keys() - {"data"}:
        assert isinstance(event[name], str | bool) or (isinstance(event[name], int) and -(1 << 63) <= event[name] < 1 << 63)
        assert not name.startswith("kitefed")
    assert not ({"data", "data_base64"} <= event.keys())
    if "data" in event and "json" not in event["datacontenttype"]:
        assert isinstance(event["data"], str)
    assert isinstance(event["kiteverified"], bool)
    summary = event["kitesummary"]
    assert len(summary) <= 200
    assert len(summary.splitlines()) <= 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", summary)
    assert len(event["kiteoriginalheaders"]) <= MAX_BYTES
    for name, value in orjson.loads(event["kiteoriginalheaders"]).items():
        assert HEADER.fullmatch(value)
        assert name not in ("content-length", "cookie", "x-payment", "authorization", "proxy-x", "forwarded")


@given(st.dictionaries(latin.map(str.lower), st.text(max_size=30) | st.integers(0, 9_000).map(lambda size: "x" * size), max_size=12))
def test_stored_headers_are_always_legal_and_never_too_many(head: dict[str, str]) -> None:
    found = read_hook(HookRequest("acme", {name: value for name, value in head.items() if name != "content-type"}, b"", False))
    assert not isinstance(found, BadContent)
    kept: dict[str, str] = orjson.loads(found.kite["kiteoriginalheaders"])
    assert len(orjson.dumps(kept)) <= MAX_BYTES
    for name, value in kept.items():
        assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name)
        assert HEADER.fullmatch(value)
        assert len(value) <= MAX_VALUE_CHARS
        assert value == head[name].strip(" \t")


@given(json_values, st.sampled_from(["", " ", "\n", "\t \r"]))
def test_json_comes_out_as_it_went_in(value: Any, space: str) -> None:
    text = json.dumps(value, ensure_ascii=False)
    body = (space + text + space).encode()
    content = read_content("application/json", body)
    if isinstance(content, BadContent):
        assert content.code == "invalid_json"
        return
    found = read_hook(HookRequest("acme", {"content-type": "application/json"}, body, False))
    assert not isinstance(found, BadContent)
    assert b'"data":' + text.encode() + b"," in found.to_event(make.EVENT_ID, make.NOW_MS)


@given(cloud_events, st.sampled_from([", ", ",", " ,\n"]))
def test_the_data_of_a_structured_event_comes_out_as_it_went_in(members: dict[str, Any], comma: str) -> None:
    body = json.dumps(members, separators=(comma, ": ")).encode()
    found = read_hook(HookRequest("acme", {"content-type": "application/cloudevents+json"}, body, False))
    if isinstance(found, BadContent) or "source" not in found.attributes or found.attributes["source"] != members["source"]:
        return
    if members.get("data") is not None:
        assert found.data == json.dumps(members["data"], separators=(comma, ": ")).encode()


@given(st.sampled_from(SLUGS), heads, json_values, st.booleans())
def test_a_delivery_id_is_a_text_or_nothing(slug: str, head: dict[str, str], body: Any, verified: bool) -> None:
    found = delivery_id(Delivery(slug, head, body), verified=verified)
    assert found is None or str(found) == found != ""
