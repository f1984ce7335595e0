"""Whether a provider has signed a request: one scheme a source slug, over the raw bytes (wire contract, 5.3). Looks no secret up.

Every signature that was sent is compared with every one that would be right, each in constant time and without a shortcut, so that
time tells nothing about which fits. Whatever stands in a header, the answer is a verdict, never an error.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, urlsplit

from kite_common.crypto import TOLERANCE_S, verify_kite, verify_standard_webhook
from kite_common.errors import Malformed
from kite_gateway.domain.hooks.form import read_fields

Verdict = Literal["none", "right", "wrong"]

_UNIX_SECONDS: Final = re.compile(r"[0-9]{1,12}")
# A provider sends one signature, or two while a secret is rotated.
_MAX_GIVEN: Final = 16
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a provider has signed. Header names are lower case, values text of their bytes (Latin-1).

    `url` is the address the provider called, by the server's public origin: path and query as they came. It may hold a hook token.
    """

    head: Mapping[str, str]
    body: bytes
    url: str = field(repr=False)


_Fits = Callable[[SignedRequest, str, Sequence[str], int], bool]


@dataclass(frozen=True, slots=True)
class _Scheme:
    """`header` holds the signature: without it a request is not signed."""

    header: str
    fits: _Fits


def is_signed(source: str, head: Mapping[str, str]) -> bool:
    """Whether a request to the endpoint `source` shows a signature, good or not."""
    return _signature(_SCHEMES.get(source, _ANY_OTHER), head) != ""


def check_signature(source: str, request: SignedRequest, secrets: Sequence[str], now_s: int) -> Verdict:
    """The verdict on a request to the endpoint `source`, by any of its secrets. A signed time may be 5 minutes from now, either way."""
    scheme = _SCHEMES.get(source, _ANY_OTHER)
    signature = _signature(scheme, request.head)
    if not signature:
        return "none"
    return "right" if scheme.fits(request, signature, secrets, now_s) else "wrong"


def _github(request: SignedRequest, signature: str, secrets: Sequence[str], now_s: int) -> bool:  # noqa: ARG001 - no signed time
    return _any_equal(("sha256=" + _sha256(secret, request.body).hex() for secret in secrets), (signature,))


def _stripe(request: SignedRequest, signature: str, secrets: Sequence[str], now_s: int) -> bool:
    parts = [part.strip().partition("=") for part in signature.split(",")]
    time = next((value for name, _, value in parts if name == "t"), "")
    given = [value for name, _, value in parts if name == "v1"]
    signed = b"%b.%b" % (_bytes(time), request.body)
    return _is_recent(time, now_s) and _any_equal((_sha256(secret, signed).hex() for secret in secrets), given)


def _slack(request: SignedRequest, signature: str, secrets: Sequence[str], now_s: int) -> bool:
    time = request.head.get("x-slack-request-timestamp", "").strip()
    signed = b"v0:%b:%b" % (_bytes(time), request.body)
    return _is_recent(time, now_s) and _any_equal(("v0=" + _sha256(secret, signed).hex() for secret in secrets), (signature,))


def _linear(request: SignedRequest, signature: str, secrets: Sequence[str], now_s: int) -> bool:  # noqa: ARG001 - no signed time
    return _any_equal((_sha256(secret, request.body).hex() for secret in secrets), (signature,))


def _shopify(request: SignedRequest, signature: str, secrets: Sequence[str], now_s: int) -> bool:  # noqa: ARG001 - no signed time
    return _any_equal((_base64(_sha256(secret, request.body)) for secret in secrets), (signature,))


def _twilio(request: SignedRequest, signature: str, secrets: Sequence[str], now_s: int) -> bool:  # noqa: ARG001 - no signed time
    """The URL and, of a form, its fields; of any other body the URL alone, which then names the body's digest."""
    digest = dict(parse_qsl(urlsplit(request.url).query)).get("bodySHA256")
    if digest is not None:
        if not _any_equal((hashlib.sha256(request.body).hexdigest(),), (digest.lower(),)):
            return False
        signed = ""
    else:
        fields = read_fields(request.body)
        if fields is None:
            return False
        signed = "".join(name + value for name in sorted(fields) for value in sorted(set(fields[name])))
    texts = [url + signed for url in _with_and_without_port(request.url)]
    return _any_equal((_base64(_hmac(secret, _bytes(text), "sha1")) for secret in secrets for text in texts), (signature,))


def _pagerduty(request: SignedRequest, signature: str, secrets: Sequence[str], now_s: int) -> bool:  # noqa: ARG001 - no signed time
    given = [part.strip() for part in signature.split(",")]
    return _any_equal(("v1=" + _sha256(secret, request.body).hex() for secret in secrets), given)


def _clerk(request: SignedRequest, signature: str, secrets: Sequence[str], now_s: int) -> bool:
    """Svix, of which Standard Webhooks is the public form with other header names."""
    webhook_id, time = request.head.get("svix-id", ""), request.head.get("svix-timestamp", "").strip()
    return sum(_fits_standard(secret, webhook_id, time, request.body, signature, now_s) for secret in secrets) > 0


def _fits_standard(secret: str, webhook_id: str, time: str, body: bytes, signature: str, now_s: int) -> bool:
    try:
        return verify_standard_webhook((secret,), webhook_id, time, body, signature, now_s=now_s)
    except Malformed:
        # A secret that is not base64 behind its prefix can have signed nothing.
        return False


def _kite(request: SignedRequest, signature: str, secrets: Sequence[str], now_s: int) -> bool:  # noqa: ARG001 - no signed time
    return verify_kite(secrets, request.body, signature)


_ANY_OTHER: Final = _Scheme("x-kite-signature", _kite)
_SCHEMES: Final[Mapping[str, _Scheme]] = {
    "github": _Scheme("x-hub-signature-256", _github),
    "stripe": _Scheme("stripe-signature", _stripe),
    "slack": _Scheme("x-slack-signature", _slack),
    "linear": _Scheme("linear-signature", _linear),
    "shopify": _Scheme("x-shopify-hmac-sha256", _shopify),
    "twilio": _Scheme("x-twilio-signature", _twilio),
    "pagerduty": _Scheme("x-pagerduty-signature", _pagerduty),
    "clerk": _Scheme("svix-signature", _clerk),
}


def _signature(scheme: _Scheme, head: Mapping[str, str]) -> str:
    return head.get(scheme.header, "").strip()


def _is_recent(time: str, now_s: int) -> bool:
    return _UNIX_SECONDS.fullmatch(time) is not None and abs(now_s - int(time)) <= TOLERANCE_S


def _any_equal(expected: Iterable[str], given: Sequence[str]) -> bool:
    texts = [_bytes(text) for text in given[:_MAX_GIVEN]]
    return sum(hmac.compare_digest(_bytes(one), other) for one in expected for other in texts) > 0


def _with_and_without_port(url: str) -> tuple[str, ...]:
    """The URL without a port, and with its own or its scheme's: which of them Twilio signs depends on its product."""
    parts = urlsplit(url)
    host = parts.netloc if parts.port is None else parts.netloc.removesuffix(f":{parts.port}")
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 80)
    head = f"{parts.scheme}://"
    rest = url.removeprefix(head + parts.netloc)
    return f"{head}{host}{rest}", f"{head}{host}:{port}{rest}"


def _sha256(secret: str, signed: bytes) -> bytes:
    return _hmac(secret, signed, "sha256")


def _hmac(secret: str, signed: bytes, digest: str) -> bytes:
    return hmac.digest(secret.encode(), signed, digest)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
