"""The request of one attempt, verified by packages that are not ours (wire contract, 10.1)."""

import base64
import hashlib
import hmac
from dataclasses import replace
from urllib.parse import unquote_to_bytes

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from Crypto.Signature import eddsa
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from kite_common import VERSION
from kite_common.crypto import SigningKey
from kite_common.errors import Malformed
from kite_common.events.agent_message import AgentMessage
from kite_common.events.envelope import with_kiteseq
from kite_common.runtime.system import SystemClock
from kite_common.testing import make, strategies
from kite_delivery.domain.delivery import Delivery
from kite_delivery.domain.request import OutboundRequest, build, header_text
from kite_delivery.testing import SECRET, a_delivery, an_endpoint

NOW_MS = make.NOW_MS
ROTATED = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="


def test_the_headers_are_those_of_the_contract_and_no_others() -> None:
    headers = _headers(build(_event(), an_endpoint(), [SECRET], NOW_MS))
    assert headers.pop("webhook-signature").startswith("v1,")
    assert headers.pop("X-Kite-Signature").startswith("sha256=")
    assert headers == {
        "Content-Type": "application/cloudevents+json; charset=utf-8",
        "webhook-id": make.EVENT_ID,
        "webhook-timestamp": str(NOW_MS // 1000),
        "X-Kite-Event-Id": make.EVENT_ID,
        "X-Kite-Event-Type": "com.kite.agent.message",
        "X-Kite-Team-Id": make.TEAM,
        "X-Kite-Delivery-Attempt": "1",
        "User-Agent": f"Kite-Webhooks/{VERSION}",
    }


def test_a_trace_goes_on_at_the_receiver() -> None:
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert _headers(build(_event(), an_endpoint(), [SECRET], NOW_MS, traceparent))["traceparent"] == traceparent


def test_attempts_differ_in_number_time_and_signature_only() -> None:
    first = build(_event(), an_endpoint(), [SECRET], NOW_MS)
    third = build(replace(_event(), attempts=2), an_endpoint(), [SECRET], NOW_MS + 7_000)
    assert first.body == third.body
    changed = {name for name, value in _headers(first).items() if _headers(third)[name] != value}
    assert changed == {"webhook-timestamp", "webhook-signature", "X-Kite-Delivery-Attempt"}
    assert _headers(third)["X-Kite-Delivery-Attempt"] == "3"


def test_the_body_parses_as_a_cloudevent() -> None:
    request = build(_event(), an_endpoint(), [SECRET], NOW_MS)
    event = from_http_event(HTTPMessage(headers={"content-type": _headers(request)["Content-Type"]}, body=request.body))
    assert event.get_id() == make.EVENT_ID
    assert event.get_extension("kiteseq") == 8195


@given(strategies.webhook_secrets(), strategies.agent_messages())
def test_both_signatures_verify_independently_for_every_kind_of_secret(secret: str, message: AgentMessage) -> None:
    request = build(_event(message), an_endpoint(), [secret], _real_now_ms())
    headers = _headers(request)
    assert _independent(secret).verify(request.body, headers)
    expected = hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    assert headers["X-Kite-Signature"] == f"sha256={expected}"


def test_during_a_rotation_either_secret_verifies_and_the_short_signature_is_the_newest_ones() -> None:
    request = build(_event(), an_endpoint(), [ROTATED, SECRET], _real_now_ms())
    headers = _headers(request)
    assert _independent(ROTATED).verify(request.body, headers)
    assert _independent(SECRET).verify(request.body, headers)
    assert headers["X-Kite-Signature"] == "sha256=" + hmac.new(ROTATED.encode(), request.body, hashlib.sha256).hexdigest()


def test_with_v1a_the_keys_sign_first_and_receivers_that_know_only_v1_go_on() -> None:
    keys = [SigningKey(bytes(32)), SigningKey(b"k" * 32)]
    headers = _headers(request := build(_event(), an_endpoint(), [SECRET], _real_now_ms(), keys=keys))
    assert [part.partition(",")[0] for part in headers["webhook-signature"].split(" ")] == ["v1a", "v1a", "v1"]
    assert _independent(SECRET).verify(request.body, headers)
    for key, part in zip(keys, headers["webhook-signature"].split(" "), strict=False):
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
        verifier = eddsa.new(eddsa.import_public_key(base64.b64decode(key.public_text.removeprefix("whpk_"))), "rfc8032")
        verifier.verify(signed, base64.b64decode(part.partition(",")[2]))


def test_a_changed_byte_verifies_nowhere() -> None:
    request = build(_event(), an_endpoint(), [SECRET], _real_now_ms())
    with pytest.raises(WebhookVerificationError):
        _independent(SECRET).verify(request.body.replace(b"build", b"built"), _headers(request))


def test_without_a_readable_secret_nothing_is_built() -> None:
    with pytest.raises(ValueError, match="at least one secret"):
        build(_event(), an_endpoint(), [], NOW_MS)
    with pytest.raises(Malformed):
        build(_event(), an_endpoint(), ["whsec_not base64"], NOW_MS)


@given(st.text(max_size=400))
def test_any_text_becomes_a_legal_header_of_bounded_size_that_can_be_read_back(text: str) -> None:
    encodable = text.encode("utf-8", "replace").decode()
    value = header_text(encodable)
    assert len(value) <= 256
    assert all("!" <= character <= "~" for character in value)
    assert encodable.encode().startswith(_bytes_of(value))


def test_a_cut_never_leaves_half_an_encoded_byte() -> None:
    for head in range(4):
        assert "%" not in header_text("a" * (252 + head) + "éé")[-2:]


@pytest.mark.parametrize(
    ("text", "value"),
    [("com.github.push", "com.github.push"), ("a b", "a%20b"), ("100%", "100%25"), ("x\r\ny: z", "x%0D%0Ay:%20z")],
)
def test_only_what_must_be_is_percent_encoded(text: str, value: str) -> None:
    assert header_text(text) == value


def _event(message: AgentMessage | None = None) -> Delivery:
    body = with_kiteseq(make.event(message), 8195)
    return a_delivery(team=make.TEAM, event_id=make.EVENT_ID, body=body)


def _headers(request: OutboundRequest) -> dict[str, str]:
    return dict(request.headers)


def _independent(secret: str) -> Webhook:
    return Webhook(secret) if secret.startswith("whsec_") else Webhook(secret.encode())


def _real_now_ms() -> int:
    """The package that verifies reads the clock itself."""
    return SystemClock().unix_ms()


def _bytes_of(value: str) -> bytes:
    return unquote_to_bytes(value)
