"""What each outcome of a payment is answered with."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from x402.http.utils import decode_payment_required_header, decode_payment_response_header
from x402.mechanisms.evm import constants
from x402.schemas.v1 import PaymentRequiredV1

from kite_common.errors import CODES, ApiError
from kite_common.events.payments import PaymentOutcome, Target
from kite_common.testing import make, payments, strategies
from kite_common.testing.payments import NOW_S, TRANSACTION
from kite_common.x402.answers import after_credit, credited_already, refusal_of, success_headers
from kite_common.x402.key import payment_id
from kite_common.x402.offers import Purchase
from kite_common.x402.quote import read_quote
from kite_common.x402.reasons import KNOWN, public_reason

TERMS = payments.terms()
DEPOSIT = Purchase("deposit", 1_000_000, Target(team_id=make.TEAM), "Kite wallet deposit")


def answer(outcome: PaymentOutcome) -> ApiError | None:
    return refusal_of(outcome, payments.request(), DEPOSIT, TERMS, NOW_S, b"r" * 16)


def refusal(**given: Any) -> ApiError:
    error = answer(payments.outcome(**given))
    assert error is not None
    return error


def told(error: ApiError) -> dict[str, Any]:
    """What `payment-response` says; both names carry the same."""
    assert error.headers["payment-response"] == error.headers["x-payment-response"]
    decode_payment_response_header(error.headers["payment-response"])
    said: dict[str, Any] = json.loads(base64.b64decode(error.headers["payment-response"]))
    return said


@pytest.mark.parametrize("result", ["credited", "not_needed"])
def test_the_route_goes_on(result: str) -> None:
    assert answer(payments.outcome(result=result)) is None


def test_a_success_carries_the_settlement_and_is_not_cached() -> None:
    headers = success_headers(payments.outcome())
    assert headers["cache-control"] == "private, no-store"
    assert headers["payment-response"] == headers["x-payment-response"]
    assert decode_payment_response_header(headers["payment-response"]).transaction == TRANSACTION
    assert set(success_headers(payments.outcome(result="not_needed"))) == {"cache-control"}


def test_refused_is_402_with_the_reason_and_a_fresh_offer() -> None:
    error = refusal(result="refused", status=402, code="invalid_payment", reason="invalid_exact_evm_insufficient_balance")
    assert (error.status, error.code) == (402, "invalid_payment")
    assert error.extra["reason"] == "invalid_exact_evm_insufficient_balance"
    assert PaymentRequiredV1.model_validate(error.body()).error == "invalid_payment"
    read = decode_payment_required_header(error.headers["payment-required"])
    assert read.error == "invalid_exact_evm_insufficient_balance"
    quote = json.loads(base64.b64decode(error.headers["payment-required"]))["accepts"][0]["extra"]["quoteId"]
    assert read_quote(TERMS.quote_keys, quote) is not None
    assert "payment-response" not in error.headers


def test_refused_after_a_settle_call_tells_how_that_ended() -> None:
    error = refusal(
        result="refused", status=402, code="invalid_payment", reason="invalid_exact_evm_insufficient_balance", after_settle=True
    )
    assert told(error) == {
        "success": False, "errorReason": "invalid_exact_evm_insufficient_balance", "transaction": "", "network": "eip155:84532",
    }  # fmt: skip
    assert "payment-required" in error.headers


@pytest.mark.parametrize("reason", ["authorization_expired", "authorization_canceled", "authorization_used_elsewhere", "payment_reversed"])
def test_a_dead_payment_is_402(reason: str) -> None:
    assert refusal(result="refused", status=402, code="invalid_payment", reason=reason).extra["reason"] == reason


def test_refused_with_the_routes_own_code_is_that_code() -> None:
    error = refusal(result="refused", status=404, code="plan_not_found")
    assert (error.status, error.code, dict(error.headers)) == (404, "plan_not_found", {"cache-control": "private, no-store"})


@pytest.mark.parametrize(("status", "code", "answered"), [(402, "insufficient_funds", (402, "insufficient_funds")),
                                                          (402, "nonsense", (402, "invalid_payment")), (0, None, (402, "invalid_payment")),
                                                          (404, "nonsense", (500, "internal_error")),
                                                          (403, "no_active_subscription", (403, "no_active_subscription")),
                                                          (404, "no_active_subscription", (404, "no_active_subscription"))])  # fmt: skip
def test_refused_with_any_code_has_an_answer(status: int, code: str | None, answered: tuple[int, str]) -> None:
    error = refusal(result="refused", status=status, code=code)
    assert (error.status, error.code) == answered


@pytest.mark.parametrize("code", ["payment_already_used", "idempotency_key_reused"])
@pytest.mark.parametrize(("transaction", "said"), [(TRANSACTION, TRANSACTION), (None, "")])
def test_a_conflict_is_409_with_the_transaction(code: str, transaction: str | None, said: str) -> None:
    error = refusal(result="conflict", code=code, transaction=transaction)
    assert (error.status, error.code, error.extra) == (409, code, {"transaction": said})
    assert told(error) == {"success": False, "errorReason": code, "transaction": said, "network": "eip155:84532"}
    assert error.retry_after_s is None


def test_a_conflict_without_a_code_is_a_payment_that_is_taken() -> None:
    assert refusal(result="conflict", paid=payments.paid()).extra == {"transaction": TRANSACTION}
    assert refusal(result="conflict").code == "payment_already_used"


@pytest.mark.parametrize(
    ("result", "status", "code"),
    [("in_progress", 409, "bootstrap_in_progress"), ("not_taken", 503, "facilitator_unavailable"), ("pending", 503, "settlement_pending")],
)
def test_what_may_be_resent_says_when(result: str, status: int, code: str) -> None:
    error = refusal(result=result)
    assert (error.status, error.code, error.retry_after_s) == (status, code, 2)
    assert error.body()["retry_after_secs"] == 2
    assert error.headers["cache-control"] == "private, no-store"
    assert "payment-required" not in error.headers


@pytest.mark.parametrize(("transaction", "said"), [(TRANSACTION, TRANSACTION), (None, "")])
def test_pending_names_payment_and_transaction(transaction: str | None, said: str) -> None:
    error = refusal(result="pending", transaction=transaction)
    assert error.extra == {"paymentId": payment_id(payments.outcome().payment_key), "transaction": said}
    assert told(error)["errorReason"] == "settlement_pending"
    assert told(error)["transaction"] == said


def test_a_payment_not_taken_has_no_settlement_to_tell_of() -> None:
    assert "payment-response" not in refusal(result="not_taken").headers


@pytest.mark.parametrize(
    "reason", ["execution reverted: FiatTokenV2: x", "", None, "invalid_permit2_signature", "http://10.0.0.7:8080 refused"]
)
def test_reasons_that_nobody_knows_do_not_reach_a_caller(reason: str | None) -> None:
    error = refusal(result="refused", status=402, code="invalid_payment", reason=reason, after_settle=True)
    assert error.extra["reason"] == "invalid_payload"
    assert told(error)["errorReason"] == "invalid_payload"
    if reason:
        assert reason not in str(error.body()) + base64.b64decode(error.headers["payment-required"]).decode()


def test_every_reason_of_the_sdk_for_these_payments_is_known() -> None:
    found = {getattr(constants, name) for name in dir(constants) if name.startswith("ERR_")}
    others = ("permit2", "upto", "erc20_approval")
    assert {reason for reason in found if not any(other in reason for other in others)} <= KNOWN
    assert all(public_reason(reason) == reason for reason in KNOWN)


def test_an_old_credit_is_to_be_used_without_the_payment() -> None:
    error = credited_already(payments.outcome())
    assert (error.status, error.code, error.extra) == (409, "payment_already_used", {"transaction": TRANSACTION})
    assert "without a payment" in str(error.body()["message"])
    assert told(error)["success"] is True


def test_an_error_of_the_route_after_the_credit_tells_of_the_money() -> None:
    own = ApiError("quota_exceeded", extra={"scope": "day"}, retry_after_s=7, headers={"x-own": "1"})
    error = after_credit(own, payments.outcome())
    assert (error.status, error.extra, error.retry_after_s, error.headers["x-own"]) == (429, {"scope": "day"}, 7, "1")
    assert told(error)["success"] is True


@given(strategies.facts(PaymentOutcome))
def test_any_outcome_has_an_answer_of_the_list(outcome: PaymentOutcome) -> None:
    error = answer(outcome)
    if error is None:
        assert outcome.result in ("credited", "not_needed")
    else:
        assert error.code in CODES
        assert error.headers["cache-control"] == "private, no-store"
