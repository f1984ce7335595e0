"""What answers of a facilitator mean, when new payments are turned away, and when the same payload may be settled again."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_billing.domain.payments.answers import read_gas, read_settle, read_verify
from kite_billing.domain.payments.breaker import Breaker
from kite_billing.domain.payments.facts import Invalid, NoAnswer, Refused, SettleAnswer, Success, Unclear, Valid, VerifyAnswer
from kite_billing.domain.payments.rules import may_settle_again, next_look
from kite_common.events.payment_record import CallEnd, LastCall, PaymentRecord
from kite_common.testing import make, payments
from support.payments_world import rules

NETWORK = "eip155:84532"
HASH = "0x" + "Ab" * 32
PENDING = "settlement_pending"
FUNDS = "invalid_exact_evm_insufficient_balance"
SECRET = "node-7.internal: key=sk_live_4711"


def body(**content: Any) -> bytes:
    return orjson.dumps(content)


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (200, body(isValid=True, payer="0x1"), Valid()),
        (200, body(isValid=False, invalidReason=FUNDS), Invalid(FUNDS)),
        (200, body(isValid=False, invalidReason=SECRET), Invalid("invalid_payload")),
        (200, body(isValid=False), Invalid("invalid_payload")),
        (200, body(isValid=False, invalidReason="invalid_exact_evm_failed_to_verify_signature"), NoAnswer("not_judged")),
        (200, body(isValid=False, invalidReason="unexpected_verify_error"), NoAnswer("not_judged")),
        (200, body(isValid="yes"), NoAnswer("wrong_type")),
        (200, body(isValid=1), NoAnswer("wrong_type")),
        (200, body(), NoAnswer("wrong_type")),
        (200, body(isValid=False, invalidReason=7), NoAnswer("wrong_type")),
        (200, b"[]", NoAnswer("not_an_object")),
        (200, b"<html>" + SECRET.encode(), NoAnswer("not_json")),
        (200, b'{"isValid": tr', NoAnswer("not_json")),
        (200, body(isValid=True, padding="x" * 65_536), NoAnswer("too_large")),
        (500, body(isValid=True), NoAnswer("status_500")),
        (402, body(isValid=False, invalidReason=FUNDS), NoAnswer("status_402")),
    ],
)
def test_what_verify_says(status: int, content: bytes, expected: VerifyAnswer) -> None:
    assert read_verify(status, content) == expected


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (200, body(success=True, transaction=HASH, network=NETWORK), Success(HASH.lower())),
        (200, body(success=True, transaction=HASH, network="eip155:1"), Unclear("another_network", "answered", HASH.lower())),
        (200, body(success=True, transaction=HASH), Unclear("another_network", "answered", HASH.lower())),
        (200, body(success=True, transaction="", network=NETWORK), Unclear("no_transaction", "answered")),
        (200, body(success=True, transaction="0x12", network=NETWORK), Unclear("no_transaction", "answered")),
        (200, body(success=True, network=NETWORK), Unclear("no_transaction", "answered")),
        (200, body(success=False, errorReason=FUNDS, transaction=""), Refused(FUNDS)),
        (200, body(success=False, errorReason=FUNDS), Refused(FUNDS)),
        (200, body(success=False, errorReason="insufficient_funds", transaction=""), Refused("insufficient_funds")),
        (200, body(success=False, errorReason=FUNDS, transaction=HASH), Unclear(FUNDS, "answered", HASH.lower())),
        (200, body(success=False, errorReason=PENDING, transaction=HASH), Unclear(PENDING, "pending", HASH.lower())),
        (200, body(success=False, errorReason=SECRET, transaction=""), Unclear("invalid_payload", "answered")),
        (200, body(success=False), Unclear("invalid_payload", "answered")),
        (200, body(success="true", transaction=HASH, network=NETWORK), Unclear("wrong_type", "answered")),
        (200, body(success=True, transaction=7, network=NETWORK), Unclear("wrong_type", "answered")),
        (200, b"null", Unclear("not_an_object", "answered")),
        (200, b"", Unclear("not_json", "answered")),
        (502, body(success=True, transaction=HASH, network=NETWORK), Unclear("status_502", "answered")),
    ],
)
def test_what_settle_says(status: int, content: bytes, expected: SettleAnswer) -> None:
    assert read_settle(status, content, NETWORK) == expected


def test_a_transaction_that_failed_may_have_been_taken_by_the_node() -> None:
    answer = read_settle(200, body(success=False, errorReason="invalid_exact_evm_transaction_failed", transaction=""), NETWORK)
    assert isinstance(answer, Unclear)


@given(st.integers(100, 599), st.binary(max_size=200))
def test_any_answer_is_read_as_something_and_its_text_goes_no_further(status: int, content: bytes) -> None:
    answers = (read_verify(status, content), read_settle(status, content, NETWORK))
    assert not any(isinstance(answer, Success | Valid | Refused) for answer in answers) or status == 200
    assert SECRET not in str(answers)


def test_three_unclear_ends_in_a_row_open_the_breaker_and_one_proof_closes_it() -> None:
    breaker = Breaker()
    for key in "ab":
        breaker = breaker.unclear(key, 1)
        assert not breaker.is_open
    assert not breaker.clear("x").unclear("c", 1).is_open
    breaker = breaker.unclear("c", 7)
    assert (breaker.is_open, breaker.opened_at) == (True, 7)
    assert breaker.clear("d").is_open
    assert breaker.proven() == Breaker()


def test_while_it_is_open_one_key_at_a_time_is_tried() -> None:
    breaker = Breaker(3, 7)
    assert breaker.allows("a")
    trying = breaker.ordered("a")
    assert (trying.allows("a"), trying.allows("b")) == (True, False)
    assert trying.unclear("a", 9).allows("b")
    assert trying.dropped("a").allows("b")
    assert not trying.dropped("b").allows("b")
    assert Breaker().ordered("a") == Breaker()


def record(end: CallEnd | None, **given: Any) -> PaymentRecord:
    call = None if end is None else LastCall(began_at=make.NOW_MS, ended_at=None if end == "open" else make.NOW_MS + 1_000, end=end)
    fields: dict[str, Any] = {
        "payment_key": make.PAYMENT_KEY, "state": "unknown", "payer": "0x1", "value": "1", "authorization": payments.authorization(),
        "signature": "0x1b", "last_call": call, "attempts": 1,
    }  # fmt: skip
    return PaymentRecord(**(fields | given))


@pytest.mark.parametrize(
    ("end", "after_ms"),
    [("answered", 3_000), ("unsent", 3_000), ("pending", 61_000), ("timeout", 35_000), ("cut", 35_000), ("open", 35_000), (None, 0)],
)
def test_when_the_same_payload_may_be_settled_again(end: CallEnd | None, after_ms: int) -> None:
    assert may_settle_again(record(end), make.NOW_MS + after_ms, rules())
    assert end is None or not may_settle_again(record(end), make.NOW_MS + after_ms - 1, rules())


@pytest.mark.parametrize("given_", [{"attempts": 10}, {"signature": None}, {"authorization": None}, {"closed": "authorization_expired"}])
def test_what_is_never_settled_again(given_: dict[str, Any]) -> None:
    assert not may_settle_again(record("answered", **given_), make.NOW_MS + 10_000, rules())


def test_nothing_is_settled_so_late_that_it_may_not_end_inside_its_window() -> None:
    last = (payments.NOW_S + 300 - 36) * 1_000
    assert may_settle_again(record("answered"), last, rules())
    assert not may_settle_again(record("answered"), last + 1, rules())


def test_looks_are_frequent_at_first_and_never_end() -> None:
    times = [next_look(0, looks) for looks in range(14)]
    assert times[:11] == [500, 1_000, 1_500, 2_000, 2_500, 3_000, 5_000, 10_000, 20_000, 40_000, 60_000]
    assert [later - sooner for sooner, later in zip(times[10:], times[11:], strict=False)] == [60_000] * 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (body(gas_wei="1000000000000000"), 10**15), (body(gas_wei=7), 7), (body(gas_wei="9" * 30), 10**30 - 1),
        (body(gas_wei="\u00b2"), None), (body(gas_wei="\u0661"), None), (body(gas_wei="9" * 31), None), (body(gas_wei="9" * 5_000), None),
        (body(gas_wei=-1), None), (body(gas_wei=True), None), (body(gas_wei=1.5), None), (body(gas_wei=None), None), (body(), None),
        (b"[1]", None), (b"<html>", None), (b"", None),
    ],
)  # fmt: skip
def test_what_is_no_amount_of_gas_is_none_and_never_an_error(content: bytes, expected: int | None) -> None:
    assert read_gas(content) == expected
