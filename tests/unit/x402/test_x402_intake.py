"""From a request with a payment header to a submission, or to the error it is answered with before anything is published."""

import base64
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from x402.http.utils import decode_payment_required_header
from x402.schemas.v1 import PaymentRequiredV1

from kite_common.errors import ApiError
from kite_common.events.codec import decode_as, encode
from kite_common.events.payments import Alternative, PaymentSubmitted, Target
from kite_common.testing import make, payments, strategies
from kite_common.testing.payments import NOW_S
from kite_common.x402.intake import shown_payment, standing_quote, take_in
from kite_common.x402.key import idempotency_hash
from kite_common.x402.offers import NOT_NEEDED, Purchase, RequestFacts, payment_error, topup_amount
from kite_common.x402.quote import Quote, quote_hash, read_quote

TERMS = payments.terms()
DRAWN = bytes(range(32))
DEPOSIT = Purchase("deposit", 1_000_000, Target(team_id=make.TEAM), "Kite wallet deposit")
PAGE = Purchase("page", 500, Target(team_id=make.TEAM, end_cursor="2026-04-30 10:00:00.000:e1", rows=50), "Kite replay")
VALUE_MISMATCH = "invalid_exact_evm_payload_authorization_value_mismatch"


def with_payment(*more: tuple[str, str], quote_id: str | None = None, name: str = "payment-signature", **given: Any) -> RequestFacts:
    return payments.request((name, payments.header(quote_id=quote_id, **given)), *more)


def taken(request: RequestFacts, purchase: Purchase = DEPOSIT, now_ms: int = make.NOW_MS) -> PaymentSubmitted:
    submitted = take_in(request, purchase, TERMS, now_ms, DRAWN)
    assert submitted is not None
    return submitted


def refused(request: RequestFacts, purchase: Purchase = DEPOSIT, **given: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        take_in(request, purchase, given.get("terms", TERMS), make.NOW_MS, DRAWN)
    return caught.value


def asked(request: RequestFacts, purchase: Purchase = DEPOSIT, now_s: int = NOW_S, **given: Any) -> ApiError:
    return payment_error(TERMS, request, purchase, now_s, b"r" * 16, **given)


def quoted(error: ApiError) -> str:
    """The quote an official client echoes."""
    offer = json.loads(base64.b64decode(error.headers["payment-required"]))
    return str(offer["accepts"][0]["extra"]["quoteId"])


def test_a_request_without_payment_hands_nothing_in() -> None:
    assert take_in(payments.request(("host", "x")), DEPOSIT, TERMS, make.NOW_MS, DRAWN) is None
    assert take_in(payments.request(), DEPOSIT, None, make.NOW_MS, DRAWN) is None


def test_a_good_payment_becomes_a_submission() -> None:
    request = with_payment()
    assert taken(request) == payments.submitted(
        submission_id=str(uuid.UUID(bytes=DRAWN[:16], version=4)), fingerprint=request.fingerprint.hex(), deadline=make.NOW_MS + 20_000
    )
    assert uuid.UUID(taken(request).submission_id).version == 4


@pytest.mark.parametrize("name", ["payment-signature", "x-payment", "X-Payment-Signature"])
@pytest.mark.parametrize("version", [1, 2])
def test_every_header_and_version_is_the_same_submission(name: str, version: int) -> None:
    made = taken(with_payment(name=name, x402_version=version))
    assert made.model_copy(update={"x402_version": 2}) == taken(with_payment())
    assert made.x402_version == version


def test_a_header_that_cannot_be_read_is_400() -> None:
    error = refused(payments.request(("x-payment", "e30=")))
    assert (error.status, error.code) == (400, "invalid_payment_header")
    assert error.headers["cache-control"] == "private, no-store"
    with pytest.raises(ApiError):
        shown_payment(payments.request(("x-payment", "e30=")))


def test_without_terms_a_shown_payment_is_503() -> None:
    error = refused(with_payment(), terms=None)
    assert (error.status, error.code) == (503, "x402_unconfigured")


def test_what_is_wrong_for_ever_is_402_with_a_fresh_offer() -> None:
    content = payments.shown_json()
    content["accepted"]["network"] = "eip155:1"
    request = payments.request(("x-payment", payments.header_of(content)))
    error = refused(request)
    assert (error.status, error.code, error.extra["reason"]) == (402, "invalid_payment", "network_mismatch")
    assert json.loads(base64.b64decode(error.headers["payment-required"]))["error"] == "network_mismatch"
    assert read_quote(TERMS.quote_keys, quoted(error)) == Quote("deposit", request.fingerprint[:16].hex(), 1_000_000, NOW_S + 300)
    assert error.headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize(
    ("given", "now_s", "reason"),
    [
        ({"value": "999999"}, NOW_S, VALUE_MISMATCH),
        ({"to_address": payments.RETIRED}, NOW_S, "invalid_exact_evm_payload_recipient_mismatch"),
        ({"valid_after": str(NOW_S + 1)}, NOW_S, "invalid_exact_evm_payload_authorization_valid_after"),
        ({}, NOW_S + 300, "invalid_exact_evm_payload_authorization_valid_before"),
        ({"valid_before": str(NOW_S + 4_000)}, NOW_S, "authorization_window_too_long"),
    ],
)
def test_what_is_wrong_now_travels_as_the_answer_to_a_new_key(given: dict[str, Any], now_s: int, reason: str) -> None:
    made = taken(with_payment(**given), now_ms=now_s * 1000)
    assert made.if_new == Alternative(status=402, code="invalid_payment", reason=reason)
    assert made.amount_atomic == 1_000_000


@pytest.mark.parametrize("if_new", [NOT_NEEDED, Alternative(status=404, code="plan_not_found")])
@pytest.mark.parametrize("value", ["1000000", "5"])
def test_the_routes_own_answer_comes_before_that_of_the_payment(if_new: Alternative, value: str) -> None:
    assert taken(with_payment(value=value), replace(DEPOSIT, if_new=if_new)).if_new == if_new


def test_a_quote_fixes_the_amount_although_the_price_has_moved() -> None:
    quote_id = quoted(asked(payments.request()))
    made = taken(with_payment(quote_id=quote_id), replace(DEPOSIT, price_atomic=2_000_000))
    assert (made.amount_atomic, made.if_new, made.quote_hash) == (1_000_000, None, quote_hash(quote_id))


@pytest.mark.parametrize(
    ("quote_id", "is_ours"),
    [
        (quoted(asked(payments.request(), now_s=NOW_S - 300)), True),
        (quoted(asked(payments.request(body=b"other"))), True),
        (quoted(asked(payments.request(), replace(DEPOSIT, purpose="topup"))), True),
        (quoted(asked(payments.request()))[:-1] + "?", False),
        ("q1.x", False), (None, False),
    ],
    ids=["expired", "of another request", "of another purpose", "changed", "no quote", "none"],
)  # fmt: skip
def test_any_other_quote_fixes_nothing_but_is_its_callers_secret(quote_id: str | None, is_ours: bool) -> None:
    made = taken(with_payment(quote_id=quote_id), replace(DEPOSIT, price_atomic=2_000_000))
    assert (made.amount_atomic, made.if_new) == (2_000_000, Alternative(status=402, code="invalid_payment", reason=VALUE_MISMATCH))
    assert made.quote_hash == (quote_hash(quote_id) if quote_id and is_ours else None)


def test_a_page_is_the_one_that_was_quoted() -> None:
    quote_id = quoted(asked(payments.request(), PAGE))
    request = with_payment(quote_id=quote_id, value="500")
    quote = standing_quote(request, shown_payment(request), TERMS, "page", NOW_S)
    assert quote is not None
    assert (quote.amount_atomic, quote.end_cursor, quote.rows) == (500, PAGE.target.end_cursor, 50)
    now = replace(PAGE, price_atomic=700, target=Target(team_id=make.TEAM, since="a", end_cursor="later", rows=70))
    made = taken(request, now)
    assert (made.amount_atomic, made.target) == (500, Target(team_id=make.TEAM, since="a", end_cursor=PAGE.target.end_cursor, rows=50))


@pytest.mark.parametrize("after_s", [300, 10_000])
def test_no_quote_stands_once_it_has_expired(after_s: int) -> None:
    request = with_payment(quote_id=quoted(asked(payments.request())))
    assert standing_quote(request, shown_payment(request), TERMS, "deposit", NOW_S) is not None
    assert standing_quote(request, shown_payment(request), TERMS, "deposit", NOW_S + after_s) is None
    assert standing_quote(request, None, TERMS, "deposit", NOW_S) is None
    assert standing_quote(request, shown_payment(request), None, "deposit", NOW_S) is None


def identified(identifier: object) -> str:
    extensions = {"payment-identifier": {"info": {"id": identifier}}}
    return payments.header_of(payments.shown_json() | {"extensions": extensions})


@pytest.mark.parametrize(("identifier", "is_long"), [("!", False), ("x" * 15, False), ("x" * 16, True), ("~" * 255, True)])
def test_an_idempotency_key_is_kept_as_a_hash(identifier: str, is_long: bool) -> None:
    made = taken(with_payment(("Idempotency-Key", identifier)))
    assert (made.idempotency_hash, made.idempotency_long) == (idempotency_hash(identifier), is_long)


@pytest.mark.parametrize("identifier", ["x" * 16, "order_0123-456789", "A" * 128])
def test_a_payment_identifier_means_the_same(identifier: str) -> None:
    by_extension = taken(payments.request(("x-payment", identified(identifier))))
    by_both = taken(payments.request(("x-payment", identified(identifier)), ("idempotency-key", identifier)))
    assert by_extension == by_both == taken(with_payment(("idempotency-key", identifier)))
    assert by_extension.idempotency_long


@pytest.mark.parametrize(
    "headers",
    [
        [("idempotency-key", "")], [("idempotency-key", "a b")], [("idempotency-key", "x" * 256)], [("idempotency-key", "é")],
        [("idempotency-key", "one"), ("Idempotency-Key", "two")],
    ],
)  # fmt: skip
def test_a_bad_idempotency_key_is_400(headers: list[tuple[str, str]]) -> None:
    assert refused(with_payment(*headers)).code == "invalid_idempotency_key"


@pytest.mark.parametrize("identifier", ["", "x" * 15, "x" * 129, "order 0123456789", 5, None, "order.0123456789"])
def test_a_bad_payment_identifier_is_400(identifier: object) -> None:
    assert refused(payments.request(("x-payment", identified(identifier)))).code == "invalid_idempotency_key"


def test_two_ids_that_differ_are_400() -> None:
    request = payments.request(("x-payment", identified("x" * 16)), ("idempotency-key", "y" * 16))
    assert (refused(request).status, refused(request).code) == (400, "invalid_idempotency_key")


def test_without_an_id_there_is_no_hash() -> None:
    assert (taken(with_payment()).idempotency_hash, taken(with_payment()).idempotency_long) == (None, False)


def test_v_goes_on_as_the_token_wants_it() -> None:
    content = payments.shown_json()
    signature = content["payload"]["signature"]
    content["payload"]["signature"] = signature[:-2] + f"{int(signature[-2:], 16) - 27:02x}"
    assert taken(payments.request(("x-payment", payments.header_of(content)))).signature == signature


def test_an_unpaid_request_is_asked_for_a_payment() -> None:
    error = asked(payments.request())
    assert (error.status, error.code) == (402, "payment_required")
    assert PaymentRequiredV1.model_validate(error.body()).error == "payment_required"
    assert list(error.body()) == ["error", "message", "x402Version", "accepts"]
    read = decode_payment_required_header(error.headers["payment-required"])
    assert read.error == "payment_required"


def test_an_empty_wallet_is_told_what_is_missing() -> None:
    error = asked(payments.request(), code="insufficient_funds", extra={"required_atomic": 100, "available_atomic": 7})
    assert error.body() | {"message": "", "accepts": []} == {
        "error": "insufficient_funds", "message": "", "required_atomic": 100, "available_atomic": 7, "x402Version": 1, "accepts": [],
    }  # fmt: skip
    assert json.loads(base64.b64decode(error.headers["payment-required"]))["error"] == "insufficient_funds"


def test_without_terms_nothing_is_asked_for() -> None:
    assert payment_error(None, payments.request(), DEPOSIT, NOW_S, b"r" * 16).code == "x402_unconfigured"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, f"https://kite.example/api/v1/wallet/invoices?team_id={make.TEAM}"),
        ({"raw_query": b""}, "https://kite.example/api/v1/wallet/invoices"),
        ({"raw_path": b"/hooks/team_1/github/khk_secret", "shown_path": b"/hooks/team_1/github", "raw_query": b""},
         "https://kite.example/hooks/team_1/github"),
        ({"raw_path": b"/hooks/clerk-user:a/%2Fx\xff", "raw_query": b"a=b&c=\xe9 \"<"},
         "https://kite.example/hooks/clerk-user:a/%2Fx%FF?a=b&c=%E9%20%22%3C"),
    ],
)  # fmt: skip
def test_an_offer_names_the_public_url_without_a_token(given: dict[str, Any], url: str) -> None:
    error = asked(payments.request(("host", "evil.example"), **given))
    offer = json.loads(base64.b64decode(error.headers["payment-required"]))
    assert offer["resource"]["url"] == error.extra["accepts"][0]["resource"] == url  # type: ignore[index]


def test_a_top_up_is_the_usual_one_or_the_price() -> None:
    assert [topup_amount(TERMS, price) for price in (1, 1_000_000, 1_000_001)] == [1_000_000, 1_000_000, 1_000_001]


@given(st.data())
def test_any_mutation_of_a_payment_is_a_submission_400_or_402(data: st.DataObject) -> None:
    content = payments.shown_json(x402_version=data.draw(st.sampled_from((1, 2))), quote_id=quoted(asked(payments.request())))
    for _ in range(data.draw(st.integers(1, 3))):
        _mutate(content, data.draw)
    header = payments.header_of(content)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(header) - 1))
        header = header[:at] + data.draw(st.characters()) + header[at + 1 :]
    found = _submission_or_status(payments.request(("payment-signature", header)))
    if isinstance(found, int):
        assert found in (400, 402)
    else:
        # What passes is the very same authorization: nothing that is signed can be changed.
        assert found.authorization == payments.authorization()
        assert decode_as(PaymentSubmitted, encode(found).value) == found


def _submission_or_status(request: RequestFacts) -> PaymentSubmitted | int:
    try:
        return taken(request)
    except ApiError as error:
        return error.status


def _mutate(content: dict[str, Any], draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    inner = content
    while True:
        name = draw(st.sampled_from(sorted(inner)))
        if isinstance(inner[name], dict) and inner[name] and draw(st.booleans()):
            inner = inner[name]
            continue
        old = inner[name]
        inner[name] = draw(strategies.json_values | st.integers() | _mutated_text(old))
        return


def _mutated_text(old: object) -> st.SearchStrategy[Any]:
    if not isinstance(old, str) or not old:
        return st.just(old)
    places = st.integers(0, len(old) - 1)
    return st.builds(lambda at, char: old[:at] + char + old[at + 1 :], places, st.sampled_from("0123456789abcdefABCDEFxg.- "))
