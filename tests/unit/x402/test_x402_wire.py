"""Payment headers as callers send them, field by field, and what is sent to callers as the SDK's own models read it."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from x402.http.utils import decode_payment_required_header, decode_payment_response_header, decode_payment_signature_header
from x402.schemas import PaymentPayload, PaymentRequired
from x402.schemas.v1 import PaymentPayloadV1, PaymentRequiredV1

from kite_common.errors import Malformed
from kite_common.testing import payments
from kite_common.x402.networks import asset_of, checksum
from kite_common.x402.wire import (
    Accepted,
    Offer,
    ShownPayment,
    parse_payment,
    parse_payment_headers,
    payment_accepted,
    payment_failed,
    payment_required,
)

Changed = Callable[[dict[str, Any]], Any]
OFFER = Offer(1_000_000, "https://kite.example/api/v1/wallet/invoices?team_id=team_1", "Kite wallet deposit", "q1.abc.def")


def changed(*path: str, to: Any, version: int = 2) -> dict[str, Any]:
    """A good payment with one field set to something else."""
    content = payments.shown_json(x402_version=version)
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = to
    return content


def without(*path: str, version: int = 2) -> dict[str, Any]:
    """A good payment that lacks one field."""
    content = changed(*path, to=None, version=version)
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return content


def parsed(content: object) -> ShownPayment:
    return parse_payment(payments.header_of(content))


def refuses(value: str) -> str:
    with pytest.raises(Malformed) as caught:
        parse_payment(value)
    return str(caught.value)


def test_version_2_is_read() -> None:
    shown = parsed(payments.shown_json(quote_id="q1.abc"))
    assert (shown.x402_version, shown.scheme, shown.network) == (2, "exact", "eip155:84532")
    assert shown.authorization == payments.authorization()
    assert shown.signature == payments.sign(payments.USDC, payments.authorization())
    assert shown.accepted == Accepted(payments.USDC.address, payments.PAY_TO, 1_000_000, "q1.abc")
    assert shown.payment_identifier is None


def test_version_1_is_read() -> None:
    shown = parsed(payments.shown_json(x402_version=1))
    assert (shown.x402_version, shown.scheme, shown.network, shown.accepted) == (1, "exact", "base-sepolia", None)
    assert shown.authorization == payments.authorization()


@pytest.mark.parametrize(("version", "model"), [(1, PaymentPayloadV1), (2, PaymentPayload)])
def test_the_sdk_reads_the_payments_of_these_tests(version: int, model: type[object]) -> None:
    assert isinstance(decode_payment_signature_header(payments.header(x402_version=version)), model)


@pytest.mark.parametrize("name", ["payment-signature", "x-payment", "x-payment-signature", "Payment-Signature", "X-PAYMENT"])
@pytest.mark.parametrize("version", [1, 2])
def test_each_header_name_means_the_same(name: str, version: int) -> None:
    shown = parse_payment_headers([("host", "x"), (name, payments.header(x402_version=version))])
    assert shown is not None
    assert shown.x402_version == version


def test_without_a_payment_header_there_is_no_payment() -> None:
    assert parse_payment_headers([("host", "x"), ("payment-required", "x"), ("x-payment-response", "x")]) is None


def test_several_names_with_one_value_are_one_payment() -> None:
    value = payments.header()
    assert parse_payment_headers([("x-payment", value), ("payment-signature", value)]) is not None


@pytest.mark.parametrize("names", [("x-payment", "payment-signature"), ("x-payment", "x-payment"), ("x-payment", "X-Payment")])
def test_several_payments_are_refused(names: tuple[str, str]) -> None:
    pairs = list(zip(names, (payments.header(), payments.header(x402_version=1)), strict=True))
    with pytest.raises(Malformed, match="several"):
        parse_payment_headers(pairs)


def test_a_repeated_name_is_refused_also_with_equal_values() -> None:
    with pytest.raises(Malformed, match="several"):
        parse_payment_headers([("x-payment", payments.header())] * 2)


def test_exactly_16_384_characters_pass_and_one_more_does_not() -> None:
    content = payments.shown_json() | {"padding": ""}
    room = 16_384 // 4 * 3 - len(json.dumps(content, separators=(",", ":")))
    value = payments.header_of(content | {"padding": "x" * room})
    assert len(value) == 16_384
    assert parse_payment(value).x402_version == 2
    assert "16,384" in refuses(value + "A")


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value[:0], lambda value: value[:41], lambda value: value[:-1], lambda value: value + "=", lambda value: value + "\n",
        lambda value: " " + value, lambda value: value[:40] + "-" + value[41:], lambda value: value[:40] + "é" + value[41:],
        lambda value: "====" + value, lambda value: value[:4] + "=" + value[5:],
        lambda value: value.replace("e", "-", 1), lambda value: value.replace("e", "_", 1),
    ],
)  # fmt: skip
def test_other_than_strict_base64_is_refused(change: Callable[[str], str]) -> None:
    refuses(change(payments.header()))


def test_base64_with_unused_bits_or_without_padding_is_refused() -> None:
    padded = payments.header_of(payments.shown_json() | {"p": "x" * next(n for n in range(3) if _is_padded("x" * n))})
    assert padded.endswith("=")
    parse_payment(padded)
    refuses(padded.rstrip("="))
    last = padded.rstrip("=")[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = alphabet[alphabet.index(last) | 1]
    refuses(padded.replace(last + "=", other + "=") if other != last else padded + "=")


def _is_padded(text: str) -> bool:
    return payments.header_of(payments.shown_json() | {"p": text}).endswith("=")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"[]", b"1", b'"x"', b"{", b"{}x", b"\xff{}", b"\xef\xbb\xbf{}", b'{"x402Version":NaN}', b'{"x402Version":Infinity}',
        b'{"a":1,"a":1}', b'{"x":{"a":1,"a":2}}', b'{"x402Version":' + b"9" * 5_000 + b"}", b"[" * 12_000, b'{"a":' * 3_000,
        b'"\\' * 6_000, b'{"a":"\x00"}',
    ],
)  # fmt: skip
def test_other_than_a_plain_json_object_is_refused(data: bytes) -> None:
    refuses(base64.b64encode(data).decode())


def test_a_key_that_stands_twice_is_refused_anywhere() -> None:
    text = json.dumps(payments.shown_json()).replace('"value":', '"value": "1", "value":')
    refuses(base64.b64encode(text.encode()).decode())


@pytest.mark.parametrize(("depth", "is_read"), [(16, True), (17, False)])
def test_nesting_is_limited(depth: int, is_read: bool) -> None:
    nested: Any = "]}"
    for _ in range(depth - 1):
        nested = [nested]
    content = payments.shown_json() | {"unknown": nested}
    if is_read:
        parsed(content)
    else:
        assert "deep" in refuses(payments.header_of(content))


def test_brackets_in_texts_are_no_nesting() -> None:
    parsed(payments.shown_json() | {"unknown": '\\"' + "[" * 100})


@pytest.mark.parametrize("version", [0, 3, -1, "2", 2.0, True, None, [2]])
def test_other_versions_are_refused(version: object) -> None:
    assert "x402Version" in refuses(payments.header_of(payments.shown_json() | {"x402Version": version}))


@pytest.mark.parametrize("path", [("accepted",), ("payload",), ("payload", "authorization")])
@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_what_must_be_an_object_is_one(path: tuple[str, ...], value: object) -> None:
    refuses(payments.header_of(changed(*path, to=value)))
    refuses(payments.header_of(without(*path)))


def test_version_1_needs_no_accepted() -> None:
    assert parsed(changed("accepted", to="x", version=1)).accepted is None


@pytest.mark.parametrize("field", ["from", "to"])
@pytest.mark.parametrize("value", ["", "0x", "0x12", "12" * 20, "0x" + "g" * 40, "0x" + "12" * 21, "0X" + "12" * 20, 5, None, ["0x"]])
def test_an_address_is_0x_and_40_hex_digits(field: str, value: object) -> None:
    refuses(payments.header_of(changed("payload", "authorization", field, to=value)))


@pytest.mark.parametrize("field", ["value", "validAfter", "validBefore"])
@pytest.mark.parametrize("value", ["", "-1", "+1", "1.0", "1e3", "0x10", " 1", "1 ", "abc", "٣", "1" * 79, str(1 << 256), "9" * 400,
                                   -1, 1.0, 1e3, 1 << 256, True, False, None, [1]])  # fmt: skip
def test_a_number_is_a_decimal_text_or_an_integer_below_2_256(field: str, value: object) -> None:
    refuses(payments.header_of(changed("payload", "authorization", field, to=value)))


@pytest.mark.parametrize(("value", "canonical"), [("0", "0"), ("007", "7"), (7, "7"), ((1 << 256) - 1, str((1 << 256) - 1)),
                                                  ("0" * 77 + "1", "1"), (str((1 << 256) - 1), str((1 << 256) - 1))])  # fmt: skip
def test_numbers_are_canonical_once_read(value: object, canonical: str) -> None:
    assert parsed(changed("payload", "authorization", "value", to=value)).authorization.value == canonical


@pytest.mark.parametrize(
    "value", ["", "0x", "0x" + "1a" * 31, "0x" + "1a" * 33, "1a" * 32, "0x" + "1g" * 32, "0x" + "1a" * 32 + "\n", 1, None]
)
def test_a_nonce_is_0x_and_64_hex_digits(value: object) -> None:
    refuses(payments.header_of(changed("payload", "authorization", "nonce", to=value)))


@pytest.mark.parametrize("value", ["", "0x", "0x1", "0x123", "1234", "0x" + "zz" * 65, "0x" + "12" * 4_097, 5, None, {}])
def test_a_signature_is_an_even_number_of_hex_digits(value: object) -> None:
    refuses(payments.header_of(changed("payload", "signature", to=value)))


@pytest.mark.parametrize("size", [1, 64, 65, 66, 4_096])
def test_signatures_of_any_length_are_read(size: int) -> None:
    assert parsed(changed("payload", "signature", to="0x" + "Ab" * size)).signature == "0x" + "ab" * size


def test_casing_is_gone_once_read() -> None:
    loud = changed("payload", "authorization", "nonce", to="0x" + "1A" * 32)
    loud["payload"]["authorization"]["from"] = "0x" + payments.address(payments.payer())[2:].upper()
    loud["accepted"]["asset"] = payments.USDC.address.upper().replace("0X", "0x")
    assert parsed(loud) == parsed(payments.shown_json())


def test_unknown_fields_are_ignored() -> None:
    extended = payments.shown_json() | {"resource": {"url": 1}, "unknown": [None]}
    extended["payload"]["permit2"] = extended["accepted"]["more"] = 1
    assert parsed(extended) == parsed(payments.shown_json())


@pytest.mark.parametrize("path", [("accepted", "scheme"), ("accepted", "network"), ("accepted", "asset"), ("accepted", "payTo")])
def test_texts_of_a_wrong_type_are_read_as_none_that_fits(path: tuple[str, str]) -> None:
    wrong: tuple[object, ...] = (1, None, {}, ["exact"])
    for value in wrong:
        assert parsed(changed(*path, to=value)) == parsed(without(*path))


@pytest.mark.parametrize("value", [1_000_000, 1e6, "-1", "x", None, "1" * 79])
def test_an_accepted_amount_that_is_no_decimal_text_is_none(value: object) -> None:
    accepted = parsed(changed("accepted", "amount", to=value)).accepted
    assert accepted is not None
    assert accepted.amount is None


@pytest.mark.parametrize("extra", [None, 5, [], {"quoteId": 5}, {}])
def test_a_quote_of_a_wrong_type_is_none(extra: object) -> None:
    accepted = parsed(changed("accepted", "extra", to=extra)).accepted
    assert accepted is not None
    assert accepted.quote_id is None


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        ({"payment-identifier": {"info": {"id": "order_0123456789"}}}, "order_0123456789"),
        ({"payment-identifier": {"info": {"id": 5}}}, ""),
        ({"payment-identifier": {"info": {"required": False}}}, None),
        ({"payment-identifier": {}}, None), ({"payment-identifier": 5}, None), ({}, None), ("x", None), (None, None),
    ],
)  # fmt: skip
def test_the_payment_identifier_is_read(extensions: object, expected: str | None) -> None:
    assert parsed(payments.shown_json() | {"extensions": extensions}).payment_identifier == expected


def test_a_payment_hides_signature_and_quote() -> None:
    shown = repr(parsed(payments.shown_json(quote_id="q1.secret")))
    assert "q1.secret" not in shown
    assert payments.sign(payments.USDC, payments.authorization())[2:] not in shown


@pytest.mark.parametrize("network", ["eip155:84532", "eip155:8453"])
def test_the_402_header_is_what_the_sdk_reads(network: str) -> None:
    asset = asset_of(network)
    header, _ = payment_required(payments.terms(asset=asset), OFFER, "payment_required")
    read = decode_payment_required_header(header)
    assert isinstance(read, PaymentRequired)
    assert json.loads(base64.b64decode(header)) == {
        "x402Version": 2, "error": "payment_required",
        "resource": {"url": OFFER.resource_url, "description": "Kite wallet deposit", "mimeType": "application/json"},
        "accepts": [{
            "scheme": "exact", "network": network, "asset": asset.checksum, "amount": "1000000", "payTo": checksum(payments.PAY_TO),
            "maxTimeoutSeconds": 300, "extra": {"name": asset.name, "version": "2", "quoteId": "q1.abc.def"},
        }],
    }  # fmt: skip


def test_the_402_body_is_a_version_1_offer() -> None:
    _, body = payment_required(payments.terms(), OFFER, "payment_required")
    read = PaymentRequiredV1.model_validate({"error": "payment_required", "message": "Payment required."} | body)
    assert read.accepts[0].get_amount() == "1000000"
    assert body == {
        "x402Version": 1,
        "accepts": [{
            "scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "1000000", "resource": OFFER.resource_url,
            "description": "Kite wallet deposit", "mimeType": "application/json", "payTo": checksum(payments.PAY_TO),
            "maxTimeoutSeconds": 300, "asset": payments.USDC.checksum, "extra": {"name": "USDC", "version": "2"},
        }],
    }  # fmt: skip


def test_the_header_carries_the_reason() -> None:
    header, _ = payment_required(payments.terms(), OFFER, "network_mismatch")
    assert json.loads(base64.b64decode(header))["error"] == "network_mismatch"


def test_a_settled_payment_is_told_under_both_names() -> None:
    headers = payment_accepted(payments.paid())
    assert set(headers) == {"payment-response", "x-payment-response"}
    assert len(set(headers.values())) == 1
    read = decode_payment_response_header(headers["payment-response"])
    assert (read.success, read.transaction, read.network) == (True, payments.TRANSACTION, "eip155:84532")
    assert (read.payer, read.amount) == (checksum(payments.address(payments.payer())), "1000000")


def test_a_failed_payment_is_told_with_its_reason() -> None:
    headers = payment_failed("eip155:84532", "settlement_pending", "")
    assert json.loads(base64.b64decode(headers["payment-response"])) == {
        "success": False, "errorReason": "settlement_pending", "transaction": "", "network": "eip155:84532",
    }  # fmt: skip
    assert not decode_payment_response_header(headers["x-payment-response"]).success
