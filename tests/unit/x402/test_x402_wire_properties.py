"""Payment headers, any bytes: what is made is read back, all else raises the one named error."""

import base64
import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kite_common.errors import Malformed
from kite_common.testing import payments, strategies
from kite_common.x402.networks import checksum
from kite_common.x402.strict_json import object_of_base64
from kite_common.x402.wire import Accepted, ShownPayment, parse_payment, parse_payment_headers

addresses = st.binary(min_size=20, max_size=20).map(lambda data: "0x" + data.hex())
nonces = st.binary(min_size=32, max_size=32).map(lambda data: "0x" + data.hex())
numbers = st.integers(0, (1 << 256) - 1).map(str)
signatures = st.binary(min_size=1, max_size=200).map(lambda data: "0x" + data.hex())
authorizations = st.builds(
    payments.authorization, from_address=addresses, to_address=addresses, value=numbers, valid_after=numbers, valid_before=numbers,
    nonce=nonces,
)  # fmt: skip
accepted = st.builds(Accepted, addresses, addresses, st.integers(0, (1 << 256) - 1), st.none() | strategies.texts)
texts = st.text(max_size=30)


@st.composite
def shown_payments(draw: st.DrawFn) -> ShownPayment:
    version = draw(st.sampled_from((1, 2)))
    return ShownPayment(
        x402_version=1 if version == 1 else 2, scheme=draw(texts), network=draw(texts), authorization=draw(authorizations),
        signature=draw(signatures), accepted=draw(accepted) if version == 2 else None,
        payment_identifier=draw(st.none() | texts) if version == 2 else None,
    )  # fmt: skip


def encoded(shown: ShownPayment, casing: Any) -> str:
    """The header that says it, addresses and nonce in some casing."""
    made = shown.authorization
    payload = {
        "signature": casing(shown.signature),
        "authorization": {
            "from": casing(made.from_address), "to": casing(made.to_address), "value": made.value, "validAfter": made.valid_after,
            "validBefore": made.valid_before, "nonce": casing(made.nonce),
        },
    }  # fmt: skip
    named: dict[str, Any] = {"scheme": shown.scheme, "network": shown.network}
    content: dict[str, Any] = {"x402Version": shown.x402_version, "payload": payload}
    if shown.accepted is None:
        return payments.header_of(content | named)
    offer = shown.accepted
    named |= {"asset": casing(offer.asset), "payTo": casing(offer.pay_to), "amount": str(offer.amount)}
    named["extra"] = {} if offer.quote_id is None else {"quoteId": offer.quote_id}
    if shown.payment_identifier is not None:
        content["extensions"] = {"payment-identifier": {"info": {"id": shown.payment_identifier}}}
    return payments.header_of(content | {"accepted": named})


def upper(text: str) -> str:
    return "0x" + text[2:].upper()


@given(shown_payments(), st.sampled_from((str.lower, upper)))
def test_what_is_encoded_is_read_back_in_any_casing(shown: ShownPayment, casing: Any) -> None:
    assert parse_payment(encoded(shown, casing)) == shown


@given(st.text(max_size=400) | st.binary(max_size=400).map(lambda data: base64.b64encode(data).decode()))
def test_any_text_is_a_payment_or_raises_the_one_error(value: str) -> None:
    is_read_or_malformed(value)


@given(strategies.json_values)
def test_any_json_is_a_payment_or_raises_the_one_error(value: Any) -> None:
    is_read_or_malformed(payments.header_of(value))


@given(st.data())
def test_any_field_set_to_anything_is_a_payment_or_raises_the_one_error(data: st.DataObject) -> None:
    content = payments.shown_json(x402_version=data.draw(st.sampled_from((1, 2))), quote_id="q1.x")
    inner: Any = content
    while True:
        name = data.draw(st.sampled_from(sorted(inner)))
        if isinstance(inner[name], dict) and data.draw(st.booleans()):
            inner = inner[name]
        else:
            break
    if data.draw(st.booleans()):
        del inner[name]
    else:
        inner[name] = data.draw(strategies.json_values | st.integers())
    is_read_or_malformed(payments.header_of(content))


@given(st.data())
def test_any_changed_character_is_read_or_raises_the_one_error(data: st.DataObject) -> None:
    value = payments.header()
    at = data.draw(st.integers(0, len(value) - 1))
    is_read_or_malformed(value[:at] + data.draw(st.characters()) + value[at + 1 :])


@given(st.lists(st.tuples(st.sampled_from(("x-payment", "X-Payment", "payment-signature", "host")), st.sampled_from(("e30=", "x")))))
def test_any_headers_are_a_payment_or_raise_the_one_error(headers: list[tuple[str, str]]) -> None:
    try:
        assert parse_payment_headers(headers) is None
    except Malformed:
        assert any(name.lower() != "host" for name, _ in headers)


@given(st.dictionaries(strategies.texts, strategies.json_values, max_size=5))
def test_json_objects_in_base64_are_read_back(content: dict[str, Any]) -> None:
    assert object_of_base64(payments.header_of(content)) == json.loads(json.dumps(content))


@given(addresses)
def test_every_casing_of_an_address_is_checksummed_alike(address: str) -> None:
    assert checksum(upper(address)) == checksum(address)
    assert checksum(address).lower() == address


def is_read_or_malformed(value: str) -> None:
    with contextlib.suppress(Malformed):
        assert isinstance(parse_payment(value), ShownPayment)
