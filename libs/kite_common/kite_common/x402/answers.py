"""What a payment's outcome is to its caller: headers of a success, or the error.

402 = sign a payment, 503 = resend the same one, 409 = taken. No text of facilitator or node is in any of it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, assert_never

from kite_common.errors import CODES, ApiError
from kite_common.events.payments import CREDITED_BEFORE, PaymentOutcome
from kite_common.x402.key import payment_id
from kite_common.x402.offers import Purchase, RequestFacts, payment_error
from kite_common.x402.reasons import public_reason
from kite_common.x402.terms import PaymentTerms
from kite_common.x402.wire import NO_STORE, payment_accepted, payment_failed

RETRY_AFTER_S: Final = 2
_CREDITED: Final = "The payment is credited already: send the request without a payment."


def success_headers(outcome: PaymentOutcome) -> dict[str, str]:
    """The headers of an answer after the money has arrived: `payment-response`, its twin, and no caching."""
    paid = {} if outcome.paid is None else payment_accepted(outcome.paid)
    return {**paid, **NO_STORE}


def refusal_of(
    outcome: PaymentOutcome, request: RequestFacts, purchase: Purchase, terms: PaymentTerms | None, now_s: int, random_bytes: bytes
) -> ApiError | None:
    """The error an outcome is answered with; None for `credited` and `not_needed`, where the route goes on.

    `random_bytes`: 16, for the fresh offer of a 402.
    """
    match outcome.result:
        case "credited" | "not_needed":
            return None
        case "refused":
            return _refused(outcome, request, purchase, terms, now_s, random_bytes)
        case "conflict":
            return credited_already(outcome) if outcome.reason == CREDITED_BEFORE else _conflict(outcome)
        case "in_progress":
            return ApiError("bootstrap_in_progress", retry_after_s=RETRY_AFTER_S, headers=NO_STORE)
        case "not_taken":
            return ApiError("facilitator_unavailable", retry_after_s=RETRY_AFTER_S, headers=NO_STORE)
        case "pending":
            return _pending(outcome)
        case _:
            assert_never(outcome.result)


def credited_already(outcome: PaymentOutcome) -> ApiError:
    """The answer where the credit is old and what was done with it is not known any more."""
    extra = {"transaction": _transaction(outcome)}
    return ApiError("payment_already_used", _CREDITED, extra=extra, headers=success_headers(outcome))


def after_credit(error: ApiError, outcome: PaymentOutcome) -> ApiError:
    """An error of the route itself, after the payment was credited: it tells that the money has arrived."""
    return replace(error, headers={**error.headers, **success_headers(outcome)})


def _refused(
    outcome: PaymentOutcome, request: RequestFacts, purchase: Purchase, terms: PaymentTerms | None, now_s: int, random_bytes: bytes
) -> ApiError:
    known = CODES.get(outcome.code or "")
    if outcome.status not in (0, 402):
        # The route's own refusal of a payment that was not known.
        code, status = ("internal_error", None) if known is None else (known.code, outcome.status)
        return _with(ApiError(code, headers=NO_STORE, other_status=status), _settle_headers(outcome))
    code = known.code if known is not None and known.status == 402 else "invalid_payment"
    reason = public_reason(outcome.reason) if code == "invalid_payment" else None
    asked = payment_error(terms, request, purchase, now_s, random_bytes, code=code, reason=reason)
    return _with(asked, _settle_headers(outcome))


def _conflict(outcome: PaymentOutcome) -> ApiError:
    code = "idempotency_key_reused" if outcome.code == "idempotency_key_reused" else "payment_already_used"
    told = payment_failed(_network(outcome), code, _transaction(outcome))
    return ApiError(code, extra={"transaction": _transaction(outcome)}, headers={**told, **NO_STORE})


def _pending(outcome: PaymentOutcome) -> ApiError:
    told = payment_failed(_network(outcome), "settlement_pending", _transaction(outcome))
    extra = {"paymentId": payment_id(outcome.payment_key), "transaction": _transaction(outcome)}
    return ApiError("settlement_pending", extra=extra, retry_after_s=RETRY_AFTER_S, headers={**told, **NO_STORE})


def _settle_headers(outcome: PaymentOutcome) -> Mapping[str, str]:
    """A settle call was made: the caller is told how it ended."""
    if not outcome.after_settle:
        return {}
    return payment_failed(_network(outcome), public_reason(outcome.reason), _transaction(outcome))


def _with(error: ApiError, headers: Mapping[str, str]) -> ApiError:
    return replace(error, headers={**error.headers, **headers})


def _network(outcome: PaymentOutcome) -> str:
    return outcome.payment_key.partition("|")[0]


def _transaction(outcome: PaymentOutcome) -> str:
    if outcome.transaction is None and outcome.paid is not None:
        return outcome.paid.transaction
    return outcome.transaction or ""
