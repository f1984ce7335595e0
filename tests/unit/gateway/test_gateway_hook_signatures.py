"""Provider signatures against the providers' own libraries and published examples: right, wrong, missing, old, rotated."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from slack_sdk.signature import Clock, SignatureVerifier
from svix.webhooks import Webhook
from twilio.request_validator import RequestValidator

from kite_gateway.domain.hooks.signatures import SignedRequest, check_signature
from support.providers import PROVIDERS

NOW_S = 1_777_543_200
URL = "https://kite.example/hooks/team_a/twilio/khk_0a1b2c3d_00112233445566778899aabbccddeeff"
SOURCES = sorted(PROVIDERS)
SIGNED_TIMES = [source for source in SOURCES if PROVIDERS[source].has_time]


def _signed(source: str, at_s: int = NOW_S, url: str = URL) -> SignedRequest:
    provider = PROVIDERS[source]
    return SignedRequest(provider.sign(provider.secret, provider.body, url, at_s), provider.body, url)


@pytest.mark.parametrize("source", SOURCES)
def test_what_the_provider_signed_is_right(source: str) -> None:
    assert check_signature(source, _signed(source), (PROVIDERS[source].secret,), NOW_S) == "right"


@pytest.mark.parametrize("source", SOURCES)
def test_another_body_or_another_secret_is_wrong(source: str) -> None:
    request = _signed(source)
    changed = SignedRequest(request.head, request.body + b"&Added=1", request.url)
    assert check_signature(source, changed, (PROVIDERS[source].secret,), NOW_S) == "wrong"
    for other in ((PROVIDERS[source].secret + "x",), (), ("whsec_!!!",)):
        assert check_signature(source, request, other, NOW_S) == "wrong"


@pytest.mark.parametrize("source", SOURCES)
def test_a_request_without_the_providers_header_is_not_signed(source: str) -> None:
    request, others = _signed(source), {name: text for other in SOURCES if other != source for name, text in _signed(other).head.items()}
    for head in ({}, others, dict.fromkeys(request.head, " ")):
        assert check_signature(source, SignedRequest(head, request.body, URL), (PROVIDERS[source].secret,), NOW_S) == "none"


@pytest.mark.parametrize("source", SOURCES)
def test_a_rotated_out_secret_counts_as_long_as_it_is_given(source: str) -> None:
    assert check_signature(source, _signed(source), ("whsec_bmV3ZXN0IG9mIGFsbCBzZWNyZXRz", PROVIDERS[source].secret), NOW_S) == "right"


@pytest.mark.parametrize("source", SIGNED_TIMES)
@pytest.mark.parametrize(("off_s", "verdict"), [(-360, "wrong"), (-301, "wrong"), (-300, "right"), (300, "right"), (301, "wrong")])
def test_a_signed_time_may_be_five_minutes_off(source: str, off_s: int, verdict: str) -> None:
    assert check_signature(source, _signed(source, NOW_S + off_s), (PROVIDERS[source].secret,), NOW_S) == verdict


@pytest.mark.parametrize("source", [source for source in SOURCES if source not in SIGNED_TIMES])
def test_where_no_time_is_signed_age_says_nothing(source: str) -> None:
    assert check_signature(source, _signed(source), (PROVIDERS[source].secret,), NOW_S + 1_000_000) == "right"


PUBLISHED: list[tuple[str, str, str, bytes, Mapping[str, str], int]] = [
    (  # docs.github.com, "Validating webhook deliveries", "Testing the webhook payload validation"
        "github", "It's a Secret to Everybody", URL, b"Hello, World!",
        {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}, 0,
    ),
    (  # docs.slack.dev, "Verifying requests from Slack"
        "slack", "8f742231b10e8888abcd99yyyzzz85a5", URL,
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
        b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
        b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121"
        b".803a0bc887a14d10d2c447fce8b6703c",
        {
            "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            "x-slack-request-timestamp": "1531420618",
        },
        1_531_420_618,
    ),
    (  # www.twilio.com/docs/usage/security, "Validating Signatures from Twilio"
        "twilio", "12345", "https://mycompany.com/myapp.php?foo=1&bar=2",
        b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212",
        {"x-twilio-signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8="}, 0,
    ),
    (  # docs.svix.com, "Verifying webhooks manually"
        "clerk", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", URL, b'{"test": 2432232314}',
        {
            "svix-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "svix-timestamp": "1614265330",
            "svix-signature": "v2,x v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        1_614_265_330,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("source", "secret", "url", "body", "head", "at_s"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_the_published_example_is_right(source: str, secret: str, url: str, body: bytes, head: Mapping[str, str], at_s: int) -> None:
    assert check_signature(source, SignedRequest(head, body, url), (secret,), at_s) == "right"
    assert check_signature(source, SignedRequest(head, body + b" ", url), (secret,), at_s) == "wrong"


@given(st.binary(max_size=200), st.sampled_from(["stripe", "slack", "clerk"]), st.integers(0, 3))
def test_the_providers_library_agrees_on_every_signature(body: bytes, source: str, broken: int) -> None:
    text = body.decode("latin-1").encode()
    provider = PROVIDERS[source]
    head = dict(provider.sign(provider.secret, text, URL, NOW_S))
    name = next(name for name in head if name.endswith("signature"))
    head[name] = (head[name], head[name][:-1], head[name].upper(), head[name].replace("1", "2"))[broken]
    ours = check_signature(source, SignedRequest(head, text, URL), (provider.secret,), NOW_S) == "right"
    assert ours == _THEIRS[source](provider.secret, text, head)


def _by_stripe(secret: str, body: bytes, head: Mapping[str, str]) -> bool:
    try:
        return bool(stripe.WebhookSignature.verify_header(body.decode(), head["stripe-signature"], secret, tolerance=None))
    except stripe.SignatureVerificationError:
        return False


class _AtNow(Clock):
    def now(self) -> float:
        return float(NOW_S)


def _by_slack(secret: str, body: bytes, head: Mapping[str, str]) -> bool:
    verifier = SignatureVerifier(secret, _AtNow())
    return verifier.is_valid(body, head["x-slack-request-timestamp"], head["x-slack-signature"])


def _by_svix(secret: str, body: bytes, head: Mapping[str, str]) -> bool:
    # Svix asks the machine's clock: so the signature alone is compared, with what it signs.
    return Webhook(secret).sign(head["svix-id"], datetime.fromtimestamp(NOW_S, UTC), body.decode()) in head["svix-signature"].split(" ")


_THEIRS = {"stripe": _by_stripe, "slack": _by_slack, "clerk": _by_svix}


def test_twilio_signs_a_json_body_by_its_digest_in_the_url() -> None:
    body = b'{"MessageSid":"SM1"}'
    url = f"{URL}?a=b&bodySHA256={hashlib.sha256(body).hexdigest()}"
    head = {"x-twilio-signature": RequestValidator("12345").compute_signature(url, {})}
    assert RequestValidator("12345").validate(url, body.decode(), head["x-twilio-signature"])
    assert check_signature("twilio", SignedRequest(head, body, url), ("12345",), NOW_S) == "right"
    assert check_signature("twilio", SignedRequest(head, body + b" ", url), ("12345",), NOW_S) == "wrong"
    assert check_signature("twilio", SignedRequest(head, body, URL), ("12345",), NOW_S) == "wrong"


@pytest.mark.parametrize("signed", ["https://kite.example:443/hooks/t/twilio", "https://kite.example/hooks/t/twilio"])
@pytest.mark.parametrize("called", ["https://kite.example:443/hooks/t/twilio", "https://kite.example/hooks/t/twilio"])
def test_twilio_may_sign_the_url_with_or_without_its_port(signed: str, called: str) -> None:
    head = {"x-twilio-signature": RequestValidator("12345").compute_signature(signed, MultiDict([("B", "2"), ("A", "1"), ("B", "1")]))}
    assert check_signature("twilio", SignedRequest(head, b"B=2&A=1&B=1&B=2", called), ("12345",), NOW_S) == "right"


@pytest.mark.parametrize(
    "header", ["", "t=", "t=x,v1=", ",,,", "v1=abc", f"t={NOW_S}", f"t={NOW_S},v1", "t=-1,v1=a", f"t={'9' * 5_000},v1=a", "=" * 9_000]
)
def test_a_header_nobody_would_write_is_wrong_or_missing_and_no_error(header: str) -> None:
    for source in SOURCES:
        names = [*_signed(source).head]
        verdict = check_signature(source, SignedRequest(dict.fromkeys(names, header), b"{}", URL), (PROVIDERS[source].secret,), NOW_S)
        assert verdict == ("wrong" if header else "none")


HEADERS = sorted({name for source in SOURCES for name in _signed(source).head})


@given(
    st.sampled_from(SOURCES), st.dictionaries(st.sampled_from(HEADERS), st.text(st.characters(max_codepoint=255), max_size=60)),
    st.binary(max_size=100), st.text(max_size=30),
)  # fmt: skip
def test_whatever_is_sent_without_the_secret_is_never_right(source: str, head: dict[str, str], body: bytes, query: str) -> None:
    request = SignedRequest(head, body, f"{URL}?{query}")
    assert check_signature(source, request, (PROVIDERS[source].secret,), NOW_S) in ("none", "wrong")
