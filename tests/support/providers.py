"""Requests as providers sign them, by their own libraries where they have one, else by what they publish. No code of ours is used."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import stripe
from slack_sdk.signature import SignatureVerifier
from svix.webhooks import Webhook
from twilio.request_validator import RequestValidator

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


@dataclass(frozen=True)
class Provider:
    """`sign(secret, body, url, unix_s)` gives the headers; `has_time`: what is signed holds the time."""

    secret: str
    body: bytes
    content_type: str
    sign: Callable[[str, bytes, str, int], Mapping[str, str]]
    has_time: bool = False


def _github(secret: str, body: bytes, url: str, unix_s: int) -> Mapping[str, str]:
    # docs.github.com, "Validating webhook deliveries"
    return {"x-hub-signature-256": "sha256=" + _sha256(secret, body).hex()}


def _stripe(secret: str, body: bytes, url: str, unix_s: int) -> Mapping[str, str]:
    signature = stripe.WebhookSignature._compute_signature(f"{unix_s}.{body.decode()}", secret)
    return {"stripe-signature": f"t={unix_s},v1={signature},v0=0000"}


def _slack(secret: str, body: bytes, url: str, unix_s: int) -> Mapping[str, str]:
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(unix_s), body=body)
    return {"x-slack-signature": str(signature), "x-slack-request-timestamp": str(unix_s)}


def _linear(secret: str, body: bytes, url: str, unix_s: int) -> Mapping[str, str]:
    # linear.app/developers/webhooks, "Securing webhooks"
    return {"linear-signature": _sha256(secret, body).hex()}


def _shopify(secret: str, body: bytes, url: str, unix_s: int) -> Mapping[str, str]:
    # shopify.dev, "Deliver webhooks through HTTPS", step "Verify the webhook"
    return {"x-shopify-hmac-sha256": base64.b64encode(_sha256(secret, body)).decode()}


def _twilio(secret: str, body: bytes, url: str, unix_s: int) -> Mapping[str, str]:
    params = dict(pair.split("=") for pair in body.decode().split("&")) if body[:1] != b"{" else {}
    return {"x-twilio-signature": RequestValidator(secret).compute_signature(url, params)}


def _pagerduty(secret: str, body: bytes, url: str, unix_s: int) -> Mapping[str, str]:
    # developer.pagerduty.com, "Verifying Signatures": while a secret is replaced there are two
    return {"x-pagerduty-signature": f"v1={'0' * 64}, v1={_sha256(secret, body).hex()}"}


def _clerk(secret: str, body: bytes, url: str, unix_s: int) -> Mapping[str, str]:
    signature = Webhook(secret).sign("msg_1", datetime.fromtimestamp(unix_s, UTC), body.decode())
    return {"svix-id": "msg_1", "svix-timestamp": str(unix_s), "svix-signature": signature}


def _kite(secret: str, body: bytes, url: str, unix_s: int) -> Mapping[str, str]:
    return {"x-kite-signature": "sha256=" + _sha256(secret, body).hex()}


def _sha256(secret: str, body: bytes) -> bytes:
    return hmac.new(secret.encode(), body, hashlib.sha256).digest()


PROVIDERS: Mapping[str, Provider] = {
    "github": Provider("It's a Secret to Everybody", b'{"zen":"Keep it logically awesome."}', JSON, _github),
    "stripe": Provider("whsec_test_secret_of_stripe", b'{"id":"evt_1","type":"charge.refunded"}', JSON, _stripe, has_time=True),
    "slack": Provider("8f742231b10e8888abcd99yyyzzz85a5", b'{"type":"event_callback","event_id":"Ev1"}', JSON, _slack, has_time=True),
    "linear": Provider("lin_wh_AbCdEf", b'{"type":"Issue","action":"create"}', JSON, _linear),
    "shopify": Provider("shpss_0123456789", b'{"id":820982911946154508}', JSON, _shopify),
    "twilio": Provider("12345", b"MessageSid=SM1&Body=hello&From=whatsapp", FORM, _twilio),
    "pagerduty": Provider("pd-secret", b'{"event":{"id":"01","event_type":"incident.triggered"}}', JSON, _pagerduty),
    "clerk": Provider("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"type":"user.created"}', JSON, _clerk, has_time=True),
    "billing-bot": Provider("any text, also ü", b"plain text", "text/plain", _kite),
}
