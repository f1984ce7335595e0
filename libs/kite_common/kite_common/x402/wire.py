"""Payment headers in and out: what callers show, what they are asked for, what they are told (x402 versions 1 and 2, scheme exact).

Parsing is ours and strict; what is sent is encoded by the SDK's models, so that its clients read it. Judges no payment.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from x402.http.utils import encode_payment_required_header, encode_payment_response_header
from x402.schemas import PaymentRequired, PaymentRequirements, ResourceInfo, SettleResponse
from x402.schemas.v1 import PaymentRequiredV1, PaymentRequirementsV1

from kite_common.errors import Malformed
from kite_common.events.payments import Authorization, PaymentPayer
from kite_common.x402.networks import checksum
from kite_common.x402.strict_json import object_of_base64
from kite_common.x402.terms import PaymentTerms

SCHEME: Final = "exact"
REQUEST_HEADERS: Final = ("payment-signature", "x-payment", "x-payment-signature")
PAYMENT_REQUIRED: Final = "payment-required"
PAYMENT_RESPONSE: Final = "payment-response"
X_PAYMENT_RESPONSE: Final = "x-payment-response"
PAYMENT_IDENTIFIER: Final = "payment-identifier"
NO_STORE: Final[Mapping[str, str]] = {"cache-control": "private, no-store"}

_MAX_HEADER_CHARS: Final = 16_384
_UINT256_END: Final = 1 << 256
_MIME_TYPE: Final = "application/json"
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_NONCE: Final = re.compile(r"0x[0-9a-fA-F]{64}")
_SIGNATURE: Final = re.compile(r"0x(?:[0-9a-fA-F]{2}){1,4096}")
_DECIMAL: Final = re.compile(r"[0-9]{1,78}")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The offer a version 2 payer says it accepts. Addresses lower case; "" or None for what is missing or of a wrong type."""

    asset: str
    pay_to: str
    amount: int | None
    quote_id: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ShownPayment:
    """A payment header that can be read. `network` as the payer names it; authorization and signature are canonical (lower case).

    `payment_identifier` is the extension's id, "" if it is no text; nobody has checked its form yet.
    """

    x402_version: Literal[1, 2]
    scheme: str
    network: str
    authorization: Authorization
    signature: str = field(repr=False)
    accepted: Accepted | None = None
    payment_identifier: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a caller is asked to pay. `resource_url` is the public URL of the request, without the token of a hook."""

    amount_atomic: int
    resource_url: str
    description: str
    quote_id: str = field(repr=False)


def parse_payment_headers(headers: Iterable[tuple[str, str]]) -> ShownPayment | None:
    """The payment among a request's headers, None if no header of the three names is there.

    Raises Malformed if it cannot be read, if one name stands there twice, or several names with values that differ.
    """
    shown = [(name.lower(), value) for name, value in headers if name.lower() in REQUEST_HEADERS]
    if not shown:
        return None
    if len({name for name, _ in shown}) != len(shown) or len({value for _, value in shown}) != 1:
        raise Malformed("several payment headers")
    return parse_payment(shown[0][1])


def parse_payment(value: str) -> ShownPayment:
    """One payment header's value. Raises Malformed for any text that is none, and no other error."""
    if len(value) > _MAX_HEADER_CHARS:
        raise Malformed("longer than 16,384 characters")
    content = object_of_base64(value)
    version = content.get("x402Version")
    if type(version) is not int or version not in (1, 2):
        raise Malformed("x402Version is neither 1 nor 2")
    named = _object(content, "accepted") if version == 2 else content
    authorization, signature = parse_signed(_object(content, "payload"))
    return ShownPayment(
        x402_version=1 if version == 1 else 2,
        scheme=_text(named.get("scheme")),
        network=_text(named.get("network")),
        authorization=authorization,
        signature=signature,
        accepted=_accepted(named) if version == 2 else None,
        payment_identifier=_identifier(content.get("extensions")) if version == 2 else None,
    )


def parse_signed(payload: Mapping[str, Any]) -> tuple[Authorization, str]:
    """The scheme's part of a payment: the authorization and its signature, canonical. Raises Malformed."""
    return _authorization(_object(payload, "authorization")), _hex(payload, "signature", _SIGNATURE)


def payment_required(terms: PaymentTerms, offer: Offer, error: str) -> tuple[str, dict[str, object]]:
    """How a payment is asked for: the value of `payment-required` (version 2), and the fields of the body beside its error (version 1)."""
    header = PaymentRequired(
        error=error,
        resource=ResourceInfo(url=offer.resource_url, description=offer.description, mime_type=_MIME_TYPE),
        accepts=[requirement(terms, offer)],
    )
    body = PaymentRequiredV1(accepts=[_requirement_v1(terms, offer)])
    return encode_payment_required_header(header), body.model_dump(by_alias=True, exclude_none=True)


def requirement(terms: PaymentTerms, offer: Offer) -> PaymentRequirements:
    """The entry of `accepts` in version 2; clients echo it word for word."""
    return PaymentRequirements(
        scheme=SCHEME, network=terms.asset.network, asset=terms.asset.checksum, amount=str(offer.amount_atomic),
        pay_to=checksum(terms.pay_to), max_timeout_seconds=terms.max_timeout_s,
        extra={"name": terms.asset.name, "version": terms.asset.version, "quoteId": offer.quote_id},
    )  # fmt: skip


def payment_accepted(paid: PaymentPayer) -> dict[str, str]:
    """The headers that tell of money that has arrived."""
    return _response_headers(
        SettleResponse(
            success=True, transaction=paid.transaction, network=paid.network, payer=checksum(paid.payer), amount=str(paid.amount_atomic)
        )
    )


def payment_failed(network: str, reason: str, transaction: str) -> dict[str, str]:
    """The headers that tell why a payment is not, or not yet, taken; `transaction` is "" if none is known."""
    return _response_headers(SettleResponse(success=False, error_reason=reason, transaction=transaction, network=network))


def _response_headers(told: SettleResponse) -> dict[str, str]:
    value = encode_payment_response_header(told)
    return {PAYMENT_RESPONSE: value, X_PAYMENT_RESPONSE: value}


def _requirement_v1(terms: PaymentTerms, offer: Offer) -> PaymentRequirementsV1:
    # Version 1 clients refuse null and echo nothing: neither outputSchema nor a quote.
    return PaymentRequirementsV1(
        scheme=SCHEME, network=terms.asset.v1_network, max_amount_required=str(offer.amount_atomic), resource=offer.resource_url,
        description=offer.description, mime_type=_MIME_TYPE, pay_to=checksum(terms.pay_to), max_timeout_seconds=terms.max_timeout_s,
        asset=terms.asset.checksum, extra={"name": terms.asset.name, "version": terms.asset.version},
    )  # fmt: skip


def _authorization(given: Mapping[str, Any]) -> Authorization:
    return Authorization(
        from_address=_hex(given, "from", _ADDRESS),
        to_address=_hex(given, "to", _ADDRESS),
        value=_uint256(given, "value"),
        valid_after=_uint256(given, "validAfter"),
        valid_before=_uint256(given, "validBefore"),
        nonce=_hex(given, "nonce", _NONCE),
    )


def _accepted(given: Mapping[str, Any]) -> Accepted:
    amount, extra = given.get("amount"), given.get("extra")
    quote_id = extra.get("quoteId") if isinstance(extra, dict) else None
    return Accepted(
        asset=_text(given.get("asset")).lower(),
        pay_to=_text(given.get("payTo")).lower(),
        amount=int(amount) if isinstance(amount, str) and _DECIMAL.fullmatch(amount) else None,
        quote_id=quote_id if isinstance(quote_id, str) else None,
    )


def _identifier(extensions: object) -> str | None:
    """`extensions["payment-identifier"].info.id`, None if nobody gave one."""
    extension = extensions.get(PAYMENT_IDENTIFIER) if isinstance(extensions, dict) else None
    info = extension.get("info") if isinstance(extension, dict) else None
    return _text(info["id"]) if isinstance(info, dict) and "id" in info else None


def _object(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = given.get(name)
    if not isinstance(value, dict):
        raise Malformed(f"{name} is not an object")
    return value


def _hex(given: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise Malformed(f"{name} is not hex of the right length")
    return value.lower()


def _uint256(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = int(value)
    if type(value) is not int or not 0 <= value < _UINT256_END:
        raise Malformed(f"{name} is not an integer below 2^256")
    return str(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
