"""From a request to a payment that may be published: everything an edge checks before, in a fixed order (never a look-up, never a wait).

A request that is bad itself has been refused by its route before: it must never cost money.
"""

import re
import uuid
from collections.abc import Sequence
from typing import Final

from kite_common.errors import ApiError, Malformed
from kite_common.events.payments import Alternative, PaymentSubmitted, Purpose, Target
from kite_common.x402 import key
from kite_common.x402.offers import Purchase, RequestFacts, payment_error
from kite_common.x402.precheck import canonical_signature, passing_refusal, unchanging_refusal
from kite_common.x402.quote import Quote, quote_hash, read_quote
from kite_common.x402.terms import PaymentTerms
from kite_common.x402.wire import NO_STORE, ShownPayment, parse_payment_headers

# 16 of them become the submission's id, 16 the fresh quote of a refusal.
RANDOM_BYTES: Final = 32
# From this length on an idempotency id cannot be guessed, so it proves who is asking.
LONG_ID_CHARS: Final = 16
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_PAYMENT_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")


def shown_payment(request: RequestFacts) -> ShownPayment | None:
    """The payment a request shows, None if it shows none. Raises ApiError 400 `invalid_payment_header` if it cannot be read."""
    try:
        return parse_payment_headers(request.headers)
    except Malformed as error:
        raise ApiError("invalid_payment_header", f"The payment header cannot be read: {error}.", headers=NO_STORE) from None


def standing_quote(
    request: RequestFacts, shown: ShownPayment | None, terms: PaymentTerms | None, purpose: Purpose, now_s: int
) -> Quote | None:
    """The quote that fixes amount (and page) of this request: valid, not expired, made for it. A page's edge asks before it reads rows."""
    quote = _quote(shown, terms)
    return quote if quote is not None and quote.is_for(purpose, request.fingerprint) and not quote.is_expired(now_s) else None


def take_in(
    request: RequestFacts, purchase: Purchase, terms: PaymentTerms | None, now_ms: int, random_bytes: bytes
) -> PaymentSubmitted | None:
    """The submission of the payment a request shows, ready to be published; None if it shows none.

    `random_bytes`: 32. Raises ApiError: 400 for what cannot be read, 402 with a fresh offer for what is wrong whatever the time,
    503 `x402_unconfigured` without terms.
    """
    shown = shown_payment(request)
    if shown is None:
        return None
    if terms is None:
        raise ApiError("x402_unconfigured", headers=NO_STORE)
    identifier = _idempotency_id(request.headers, shown)
    reason = unchanging_refusal(shown, terms)
    if reason is not None:
        raise payment_error(terms, request, purchase, now_ms // 1000, random_bytes[16:], code="invalid_payment", reason=reason)
    return _submission(request, purchase, terms, shown, identifier, now_ms, random_bytes[:16])


def _submission(
    request: RequestFacts, purchase: Purchase, terms: PaymentTerms, shown: ShownPayment, identifier: str | None, now_ms: int,
    random_bytes: bytes,
) -> PaymentSubmitted:  # fmt: skip
    quote = standing_quote(request, shown, terms, purchase.purpose, now_ms // 1000)
    amount = purchase.price_atomic if quote is None else quote.amount_atomic
    return PaymentSubmitted(
        payment_key=key.payment_key(terms.asset, shown.authorization),
        submission_id=str(uuid.UUID(bytes=random_bytes, version=4)),
        sent_at=now_ms,
        deadline=now_ms + int(terms.wait_s * 1000),
        purpose=purchase.purpose,
        fingerprint=request.fingerprint.hex(),
        target=_target(purchase.target, quote),
        authorization=shown.authorization,
        signature=canonical_signature(shown.signature),
        x402_version=shown.x402_version,
        pay_to=shown.authorization.to_address,
        amount_atomic=amount,
        if_new=_if_new(purchase, passing_refusal(shown, terms, amount, now_ms // 1000)),
        quote_hash=_quote_hash(shown, terms),
        idempotency_hash=None if identifier is None else key.idempotency_hash(identifier),
        idempotency_long=identifier is not None and len(identifier) >= LONG_ID_CHARS,
    )


def _if_new(purchase: Purchase, reason: str | None) -> Alternative | None:
    """The route's own word comes first: a 402 would make the payer sign for a request that fails, or that needs no payment."""
    if purchase.if_new is not None or reason is None:
        return purchase.if_new
    return Alternative(status=402, code="invalid_payment", reason=reason)


def _target(target: Target, quote: Quote | None) -> Target:
    """The page that was quoted, where one was."""
    if quote is None or quote.end_cursor is None:
        return target
    return target.model_copy(update={"end_cursor": quote.end_cursor, "rows": quote.rows})


def _quote(shown: ShownPayment | None, terms: PaymentTerms | None) -> Quote | None:
    if shown is None or shown.accepted is None or terms is None:
        return None
    return read_quote(terms.quote_keys, shown.accepted.quote_id)


def _quote_hash(shown: ShownPayment, terms: PaymentTerms) -> str | None:
    """Of a quote with a valid MAC, expired or not: its holder is who asked for it."""
    quote_id = None if shown.accepted is None else shown.accepted.quote_id
    return None if quote_id is None or _quote(shown, terms) is None else quote_hash(quote_id)


def _idempotency_id(headers: Sequence[tuple[str, str]], shown: ShownPayment) -> str | None:
    """The id a caller gave this purchase, by header or extension. Raises ApiError 400 if it is malformed, or there are two that differ."""
    given = [(value, _IDEMPOTENCY_KEY) for name, value in headers if name.lower() == "idempotency-key"]
    if shown.payment_identifier is not None:
        given.append((shown.payment_identifier, _PAYMENT_IDENTIFIER))
    if any(not form.fullmatch(value) for value, form in given) or len({value for value, _ in given}) > 1:
        raise ApiError("invalid_idempotency_key", headers=NO_STORE)
    return given[0][0] if given else None
