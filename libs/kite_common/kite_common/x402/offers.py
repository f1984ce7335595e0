"""A request that may be paid for, what it buys, and the 402 that asks for it. Looks nothing up: prices and targets come from the route."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote as percent_encode

from kite_common.errors import ApiError
from kite_common.events.payments import Alternative, Purpose, Target
from kite_common.x402 import key
from kite_common.x402.quote import make_quote
from kite_common.x402.reasons import public_reason
from kite_common.x402.terms import PaymentTerms
from kite_common.x402.wire import NO_STORE, PAYMENT_REQUIRED, Offer, payment_required

# What a key that is not yet known gets where the request needs no payment: the route goes on without it.
NOT_NEEDED: Final = Alternative(status=0, code="not_needed")
# Characters a URL may hold as they are; a percent sign stands for bytes the client has encoded already.
_URL_SAFE: Final = "%/?:@!$&'()*+,;=-._~"


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """A request as it was received. `raw_query` is without its `?`.

    `shown_path` is the path as it may be repeated in an offer, where `raw_path` ends in a hook token; None: the path itself.
    """

    method: str
    raw_path: bytes
    raw_query: bytes
    body: bytes = field(repr=False)
    headers: Sequence[tuple[str, str]] = field(repr=False)
    shown_path: bytes | None = None

    @property
    def fingerprint(self) -> bytes:
        """What binds a payment to this request."""
        return key.fingerprint(self.method, self.raw_path, self.raw_query, self.body)


@dataclass(frozen=True, slots=True)
class Purchase:
    """What a request buys and costs now. `if_new`: what a payment that is not yet known gets instead of being taken: the route's refusal
    (`Alternative(status=404, code="plan_not_found")`), NOT_NEEDED where the wallet can pay, None where a payment is needed."""

    purpose: Purpose
    price_atomic: int
    target: Target
    description: str
    if_new: Alternative | None = None


def topup_amount(terms: PaymentTerms, least_atomic: int) -> int:
    """What an empty wallet is asked for: the usual deposit, or what is needed at least if that is more."""
    return max(terms.topup_atomic, least_atomic)


def payment_error(
    terms: PaymentTerms | None, request: RequestFacts, purchase: Purchase, now_s: int, random_bytes: bytes,
    *, code: str = "payment_required", reason: str | None = None, extra: Mapping[str, object] | None = None,
) -> ApiError:  # fmt: skip
    """The 402 that asks for a payment, with a fresh quote in `payment-required` and a version 1 offer in the body.

    `random_bytes`: 16. `reason`: why a payment that was shown is refused. Without terms the answer is 503 `x402_unconfigured`.
    """
    if terms is None:
        return ApiError("x402_unconfigured", headers=NO_STORE)
    told = {} if reason is None else {"reason": public_reason(reason)}
    error = str(told.get("reason", code))
    header, body = payment_required(terms, _offer(terms, request, purchase, now_s, random_bytes), error)
    return ApiError(code, extra={**(extra or {}), **told, **body}, headers={PAYMENT_REQUIRED: header, **NO_STORE})


def _offer(terms: PaymentTerms, request: RequestFacts, purchase: Purchase, now_s: int, random_bytes: bytes) -> Offer:
    made = make_quote(
        terms, purchase.purpose, request.fingerprint, purchase.price_atomic, now_s, random_bytes,
        end_cursor=purchase.target.end_cursor, rows=purchase.target.rows,
    )  # fmt: skip
    return Offer(purchase.price_atomic, _resource_url(terms, request), purchase.description, made)


def _resource_url(terms: PaymentTerms, request: RequestFacts) -> str:
    """The public URL of the request; never made of the Host header, and without a hook's token."""
    path = request.raw_path if request.shown_path is None else request.shown_path
    query = b"?" + request.raw_query if request.raw_query else b""
    return terms.public_url + percent_encode(path + query, safe=_URL_SAFE)
