"""What the OpenAPI document says of headers, and of answers that ask for a payment. Knows no route."""

from collections.abc import Mapping
from typing import Any, Final

_STRING: Final[Mapping[str, Any]] = {"type": "string"}
_WHOLE: Final[Mapping[str, Any]] = {"type": "integer", "minimum": 0}


def _header(description: str, schema: Mapping[str, Any] = _STRING) -> dict[str, Any]:
    return {"description": description, "schema": dict(schema)}


# By the names they have in `#/components/headers`.
HEADERS: Final[Mapping[str, Any]] = {
    "X-Request-Id": _header("The caller's own, if it is one of 1 to 128 of A-Z a-z 0-9 . _ -, else a fresh UUID; it is in our logs."),
    "RateLimit-Limit": _header("Requests a minute.", _WHOLE),
    "RateLimit-Remaining": _header("Requests left in the bucket.", _WHOLE),
    "RateLimit-Reset": _header("Seconds until the bucket is full again.", _WHOLE),
    "Retry-After": _header("Seconds after which to repeat the same request.", {"type": "integer", "minimum": 1}),
    "payment-required": _header("What to pay: base64 of the JSON of an x402 version 2 offer; its `accepts` entry is to be echoed."),
    "payment-response": _header("What became of the payment: base64 of JSON with success, transaction, network, payer, amount, reason."),
    "x-payment-response": _header("The same as payment-response, for version 1 payers."),
}
_PAID: Final = ("payment-response", "x-payment-response")
PAYMENT_REQUIRED: Final = "PaymentRequired"
PAYMENT_REQUIRED_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "An error that asks for a payment, with an x402 version 1 offer; version 2 stands in the header payment-required.",
    "required": ["error", "message"],
    "properties": {
        "error": dict(_STRING),
        "message": dict(_STRING),
        "reason": {"type": "string", "description": "Of invalid_payment: why the payment was refused, one of x402's reasons."},
        "required_atomic": {**_WHOLE, "description": "Of insufficient_funds: what the event costs."},
        "available_atomic": {**_WHOLE, "description": "Of insufficient_funds: what the wallet has free."},
        "debt_atomic": {**_WHOLE, "description": "Of insufficient_funds, if there is any: what a payment is taken for first."},
        "rows": {**_WHOLE, "description": "Of a page: how many rows it has."},
        "amount_atomic": {**_WHOLE, "description": "Of a page: what it costs."},
        "x402Version": {"type": "integer", "const": 1},
        "accepts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["scheme", "network", "maxAmountRequired", "resource", "payTo", "maxTimeoutSeconds", "asset", "extra"],
                "properties": {
                    "scheme": {"type": "string", "const": "exact"},
                    "network": dict(_STRING),
                    "maxAmountRequired": {"type": "string", "pattern": "^[0-9]+$"},
                    "resource": {"type": "string", "format": "uri"},
                    "description": dict(_STRING),
                    "mimeType": dict(_STRING),
                    "payTo": dict(_STRING),
                    "maxTimeoutSeconds": dict(_WHOLE),
                    "asset": dict(_STRING),
                    "extra": {"type": "object", "properties": {"name": dict(_STRING), "version": dict(_STRING)}},
                },
            },
        },
    },
}  # fmt: skip


def headers_of(status: int, *, is_limited: bool, takes_payment: bool) -> dict[str, Any]:
    """The headers of an answer, as references."""
    names = ["X-Request-Id"]
    if is_limited:
        names += ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]
    if status in (429, 503):
        names.append("Retry-After")
    if takes_payment and status == 402:
        names.append("payment-required")
    if takes_payment and (status < 300 or status in (402, 409, 503)):
        names += _PAID
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
