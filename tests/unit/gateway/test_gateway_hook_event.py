"""The stored event: attributes, names, summaries, headers and duplicate keys, row by row of wire contract 5.3, 5.5 and 9."""

from typing import Any

import orjson
import pytest

from kite_common.events.envelope import read_stored
from kite_common.testing import make
from kite_gateway.domain.hooks.content import BadContent
from kite_gateway.domain.hooks.event import HookEvent, HookRequest, read_hook

STRUCTURED = "application/cloudevents+json"
MINIMAL = {"specversion": "1.0", "id": "mine", "source": "https://a", "type": "a.b"}
TOKEN = make.HOOK_TOKEN


def _read(slug: str, body: object, head: dict[str, str] | None = None, *, verified: bool = False) -> HookEvent:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    found = read_hook(HookRequest(slug, {"content-type": "application/json"} | (head or {}), raw, verified, TOKEN))
    assert not isinstance(found, BadContent)
    return found


def _stored(slug: str, body: object, head: dict[str, str] | None = None, *, verified: bool = False) -> dict[str, Any]:
    text = _read(slug, body, head, verified=verified).to_event(make.EVENT_ID, make.NOW_MS)
    assert read_stored(text, 4711).event_id == make.EVENT_ID
    stored: dict[str, Any] = orjson.loads(text)
    return stored


def test_raw_json_gets_the_attributes_of_the_contract() -> None:
    assert _stored("billing-bot", b'{"b": 1.0, "a": 2}\n') == {
        "specversion": "1.0", "id": make.EVENT_ID, "source": "https://billing-bot", "type": "com.billing-bot.event",
        "time": "2026-04-30T10:00:00.000Z", "datacontenttype": "application/json", "data": {"b": 1.0, "a": 2}, "kiteid": make.EVENT_ID,
        "kitesource": "billing-bot", "kiteverified": False, "kiteoriginalheaders": '{"content-type":"application/json"}',
        "kitesummary": "com.billing-bot.event from billing-bot",
    }  # fmt: skip


def test_data_is_stored_as_it_was_sent() -> None:
    text = b'{"n":1.50,"big":123456789012345678901234567890,"n":2}'
    assert b'"data":' + text in _read("a", text).to_event(make.EVENT_ID, make.NOW_MS)


def test_a_structured_event_keeps_its_own_and_is_completed() -> None:
    sent = MINIMAL | {"ext": 7, "subject": "s", "data": [1], "kiteid": "x", "kitefedhop": 1, "kiteseq": 9, "specversion": "0.3"}
    stored = _stored("acme", sent, {"content-type": STRUCTURED}, verified=True)
    assert stored == MINIMAL | {
        "ext": 7, "subject": "s", "data": [1], "datacontenttype": "application/json", "time": "2026-04-30T10:00:00.000Z",
        "kiteid": make.EVENT_ID, "kitesource": "acme", "kiteverified": True, "kitesummary": "a.b from acme",
        "kiteoriginalheaders": '{"content-type":"application/cloudevents+json"}',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "content_type"),
    [
        ({"data": 1}, "application/json"), ({}, None), ({"data_base64": "MQ=="}, None),
        ({"data_base64": "eA=="}, "application/octet-stream"), ({"datacontenttype": "x/y"}, "x/y"),
        ({"data_base64": "eA==", "datacontenttype": "image/png"}, "image/png"),
    ],
)  # fmt: skip
def test_a_content_type_is_only_added_where_readers_need_it(sent: dict[str, Any], content_type: str | None) -> None:
    assert _stored("acme", MINIMAL | sent, {"content-type": STRUCTURED}).get("datacontenttype") == content_type


@pytest.mark.parametrize(
    ("own", "shown"),
    [("mine", "mine"), ("two\nlines\x00", "two lines "), ("x" * 201, "x" * 199 + "…"), ("", "a.b from acme"), (17, "a.b from acme"),
     (" ", "a.b from acme"), (None, "a.b from acme")],
)  # fmt: skip
def test_a_clients_own_summary_is_kept_on_one_line(own: object, shown: str) -> None:
    assert _stored("acme", MINIMAL | {"kitesummary": own}, {"content-type": STRUCTURED})["kitesummary"] == shown


def test_what_is_no_cloud_event_is_wrapped_and_not_refused() -> None:
    for broken in (MINIMAL | {"ext": 1.5}, {"type": "a.b"}):
        stored = _stored("acme", broken, {"content-type": STRUCTURED})
        assert (stored["type"], stored["source"], stored["id"], stored["data"]) == ("com.acme.event", "https://acme", make.EVENT_ID, broken)


PUSH = {
    "ref": "refs/heads/feature/x", "repository": {"full_name": "octo/repo"}, "sender": {"login": "alice"}, "commits": [{}, {}, {}],
}  # fmt: skip
NAMES: list[tuple[str, object, dict[str, str], str, str]] = [
    ("github", PUSH, {"x-github-event": "pull_request"}, "com.github.pull_request", "https://github.com/octo/repo"),
    ("github", {}, {"x-github-event": "ping"}, "com.github.ping", "https://github.com"),
    ("github", {"repository": {"full_name": "a/b?c=d"}}, {}, "com.github.event", "https://github.com"),
    ("github", b"payload=%7B%22repository%22%3A%7B%22full_name%22%3A%22a%2Fb%22%7D%7D",
     {"x-github-event": "push", "content-type": "application/x-www-form-urlencoded"}, "com.github.push", "https://github.com/a/b"),
    ("stripe", {"type": "charge.refunded"}, {}, "com.stripe.charge.refunded", "https://api.stripe.com"),
    ("stripe", {"type": 1}, {}, "com.stripe.event", "https://api.stripe.com"),
    ("slack", {"type": "event_callback", "event": {"type": "app_mention"}}, {}, "com.slack.app_mention", "https://slack.com"),
    ("slack", {"type": "block_actions"}, {}, "com.slack.block_actions", "https://slack.com"),
    ("linear", {"type": "Issue"}, {}, "com.linear.issue", "https://linear.app"),
    ("linear", {"type": "Issue"}, {"linear-event": "Comment"}, "com.linear.comment", "https://linear.app"),
    ("shopify", {}, {"x-shopify-topic": "orders/create", "x-shopify-shop-domain": "a.myshopify.com"},
     "com.shopify.orders.create", "https://a.myshopify.com"),
    ("shopify", {}, {"x-shopify-shop-domain": "a/b@c"}, "com.shopify.event", "https://shopify.com"),
    ("twilio", b"MessageSid=SM1&CallSid=CA1", {"content-type": "application/x-www-form-urlencoded"}, "com.twilio.message", "https://api.twilio.com"),
    ("twilio", {"CallSid": "CA1"}, {}, "com.twilio.call", "https://api.twilio.com"),
    ("twilio", [1], {}, "com.twilio.event", "https://api.twilio.com"),
    ("pagerduty", {"event": {"event_type": "incident.triggered"}}, {}, "com.pagerduty.incident.triggered", "https://api.pagerduty.com"),
    ("clerk", {"type": "user.created"}, {}, "com.clerk.user.created", "https://clerk.com"),
    ("a-b9", {"type": "x"}, {"x-github-event": "push"}, "com.a-b9.event", "https://a-b9"),
    ("stripe", {"type": "a b/ü\n" + "x" * 200}, {}, ("com.stripe.a_b___" + "x" * 200)[:128], "https://api.stripe.com"),
    ("github", b"text", {"x-github-event": "push", "content-type": "text/plain"}, "com.github.push", "https://github.com"),
]  # fmt: skip


@pytest.mark.parametrize(("slug", "body", "head", "type_", "source"), NAMES)
def test_every_provider_names_its_events(slug: str, body: object, head: dict[str, str], type_: str, source: str) -> None:
    stored = _stored(slug, body, head)
    assert (stored["type"], stored["source"], stored["kitesource"]) == (type_, source, slug)


@pytest.mark.parametrize(
    ("body", "event", "line"),
    [
        (PUSH, "push", "alice pushed 3 commits to feature/x in octo/repo"),
        (PUSH | {"sender": None, "pusher": {"name": "bob"}}, "push", "bob pushed 3 commits to feature/x in octo/repo"),
        (PUSH | {"action": "opened"}, "pull_request", "alice opened pull_request in octo/repo"),
        (PUSH, "fork", "alice fork in octo/repo"),
        (PUSH | {"commits": None}, "push", "alice push in octo/repo"),
        (PUSH | {"sender": {"login": "a\nb\x00"}}, "fork", "a b  fork in octo/repo"),
        (PUSH | {"sender": {"login": "x" * 300}}, "fork", "x" * 199 + "…"),
        ({}, "ping", "com.github.ping from github"),
        ([PUSH], "push", "com.github.push from github"),
    ],
)
def test_github_events_are_told_in_a_line(body: object, event: str, line: str) -> None:
    assert _stored("github", body, {"x-github-event": event})["kitesummary"] == line


# slug, header of the id, body with the id
IDS: list[tuple[str, dict[str, str], object, bool]] = [
    ("github", {"x-github-delivery": "1"}, {}, False),
    ("linear", {"linear-delivery": "1"}, {}, False),
    ("shopify", {"x-shopify-webhook-id": "1"}, {}, False),
    ("twilio", {"i-twilio-idempotency-token": "1"}, {}, False),
    ("clerk", {"svix-id": "1"}, {}, False),
    ("stripe", {}, {"id": "evt_1"}, True),
    ("slack", {}, {"event_id": "Ev1"}, True),
    ("pagerduty", {}, {"event": {"id": "01"}}, True),
]


@pytest.mark.parametrize(("slug", "head", "body", "needs_signature"), IDS, ids=[row[0] for row in IDS])
def test_a_delivery_is_named_by_its_provider(slug: str, head: dict[str, str], body: object, needs_signature: bool) -> None:
    unverified, verified = _read(slug, body, head).duplicate_key, _read(slug, body, head, verified=True).duplicate_key
    assert verified is not None
    assert unverified == (None if needs_signature else verified)
    assert _read(slug, body, head, verified=True).duplicate_key == verified
    assert _read("other", body, head, verified=True).duplicate_key is None
    assert _read(slug, {}, {}, verified=True).duplicate_key is None


def test_structured_events_are_named_by_source_and_id_within_their_endpoint() -> None:
    def key(slug: str = "acme", head: dict[str, str] | None = None, **changed: str) -> str | None:
        return _read(slug, MINIMAL | changed, {"content-type": STRUCTURED} | (head or {})).duplicate_key

    keys = [
        key(), key("other"), key(id="2"), key(source="https://b"), key(source='https://a","mine', id=""), key("github"),
        key("github", {"x-github-delivery": "mine"}),
    ]  # fmt: skip
    assert key() == keys[0] is not None
    assert key(data="other", type="other") == keys[0]
    assert len({*keys} - {None}) == 6


def test_equal_raw_bodies_have_no_name() -> None:
    assert _read("acme", {"id": "1"}, verified=True).duplicate_key is None


def test_slacks_question_is_answered_and_nobody_elses() -> None:
    question = {"type": "url_verification", "challenge": "abc", "token": "x"}
    assert _read("slack", question).challenge == "abc"
    assert _read("acme", question).challenge is None
    assert _read("slack", question | {"challenge": 1}).challenge is None
    assert _read("slack", question | {"type": "event_callback"}).challenge is None


def _headers(head: dict[str, str]) -> dict[str, str]:
    kept: dict[str, str] = orjson.loads(_read("acme", b"{}", {"content-type": "text/plain"} | head).kite["kiteoriginalheaders"])
    return kept


def test_headers_of_one_connection_secrets_and_payments_are_not_stored() -> None:
    gone = [
        "host", "content-length", "connection", "transfer-encoding", "te", "trailer", "upgrade", "expect", "accept-encoding",
        "content-encoding", "keep-alive", "proxy-authorization", "proxy-x", "forwarded", "x-forwarded-for", "x-forwarded-proto",
        "x-real-ip", "via", "authorization", "cookie", "payment-signature", "x-payment", "x-payment-signature",
    ]  # fmt: skip
    assert _headers(dict.fromkeys(gone, "x") | {"x-kept": "y", "user-agent": "z"}) == {"x-kept": "y", "user-agent": "z"}


@pytest.mark.parametrize(
    "value",
    [
        "a\x00b", "a\nb", "a\rb", "\x7f", "ü", "x" * 8_193, TOKEN, f"https://k/hooks/t/s/{TOKEN}?x", make.API_KEY, TOKEN.upper(),
        TOKEN.replace("_", "%5F"), f"/hooks/t/s/%{ord(TOKEN[0]):x}{TOKEN[1:]}",
    ],
)  # fmt: skip
def test_values_that_are_illegal_too_long_or_secret_are_left_out(value: str) -> None:
    assert _headers({"x-a": value, "x-b": "b"}) == {"x-b": "b"}


def test_legal_values_are_kept_as_they_came() -> None:
    kept = {"x-hub-signature-256": "sha256=ab", "x-tab": "a\tb", "x-long": "x" * 8_192, "x-empty": "", "x-quote": '"\\"'}
    assert _headers(kept) == kept
    assert _headers({"content-type": "application/x+json; a=b"}) == {"content-type": "application/x+json; a=b"}
    assert _headers({"content-type": "multipart/form-data"}) == {}


def test_above_sixteen_kilobytes_headers_are_left_out_one_by_one() -> None:
    kept = _headers({"x-a": "a" * 8_000, "x-b": "b" * 8_000, "x-c": "c" * 1_000, "x-d": "d"})
    assert list(kept) == ["x-a", "x-b", "x-d"]
    assert len(orjson.dumps(kept)) <= 16 * 1024
