"""Whatever a payment header says: 400, 402, or the very payment that was signed, credited once. Never a 5xx, never a second credit."""

import asyncio
import base64
import string
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import httpx
from hypothesis import assume, given
from hypothesis import strategies as st

from kite_common.testing import payments, strategies
from kite_common.x402.quote import read_quote
from support.paid_gateway import BOOTSTRAP, DEPOSIT, INVOICES, OURS, WANTED, WRITER, PaidGateway, crediting, credits_of, offer_of

PAYMENT_KEY: Final = payments.submitted().payment_key
PATHS: Final[Mapping[str, tuple[str, object, Mapping[str, str]]]] = {
    "bootstrap": (BOOTSTRAP, WANTED, {}), "deposit": (INVOICES + OURS, DEPOSIT, WRITER),
}  # fmt: skip
AUTHORIZATION: Final = ("payload", "authorization")
# Everything in a payment that says who pays whom how much, when and with what; of the rest nothing is asked.
SIGNED: Final = [(*AUTHORIZATION, name) for name in ("from", "to", "value", "validAfter", "validBefore", "nonce")]
SAYING: Final = {
    1: [("x402Version",), ("scheme",), ("network",), ("payload",), AUTHORIZATION, ("payload", "signature"), *SIGNED],
    2: [("x402Version",), ("accepted",), *[("accepted", name) for name in ("scheme", "network", "asset", "payTo", "amount")],
        ("payload",), AUTHORIZATION, ("payload", "signature"), *SIGNED],
}  # fmt: skip

purposes = st.sampled_from(sorted(PATHS))
versions = st.sampled_from((1, 2))
characters = st.sampled_from(string.printable)


@cache
def _gateway() -> PaidGateway:
    return crediting()


def answered(purpose: str, header: str) -> httpx.Response:
    """The answer to a good request of that purpose with this payment, to a server that knows no payment yet."""
    _gateway().start_anew()
    return asyncio.run(_asked(purpose, header))


async def _asked(purpose: str, header: str) -> httpx.Response:
    path, body, own = PATHS[purpose]
    async with _gateway().client() as client:
        headers = [(name.encode(), value.encode()) for name, value in own.items()]
        return await client.post(path, json=body, headers=[*headers, (b"payment-signature", header.encode("utf-8", "surrogatepass"))])


def assert_refused(answer: httpx.Response) -> None:
    """Unreadable, or wrong with a fresh offer; nothing was credited."""
    body = answer.json()
    assert (answer.status_code, body["error"]) in ((400, "invalid_payment_header"), (402, "invalid_payment")), body
    assert credits_of(_gateway()) == {}
    assert all(made.if_new is not None and made.if_new.status == 402 for made in _gateway().submitted)
    if answer.status_code == 402:
        extra = offer_of(answer).accepts[0].extra or {}
        assert read_quote(payments.terms().quote_keys, str(extra["quoteId"])) is not None
        assert body["reason"] == offer_of(answer).error


def assert_refused_or_the_same(answer: httpx.Response) -> None:
    """As above, or what was signed was left as it was: then it is that payment, once."""
    if answer.status_code != 200:
        assert_refused(answer)
        return
    assert list(credits_of(_gateway())) == [PAYMENT_KEY]
    [made] = _gateway().submitted
    assert (made.authorization, made.if_new) == (payments.authorization(), None)


@given(purposes, versions, st.data())
def test_every_change_of_what_a_payment_says_is_400_or_402(purpose: str, version: int, data: st.DataObject) -> None:
    content = payments.shown_json(x402_version=version)
    *above, name = data.draw(st.sampled_from(SAYING[version]))
    inner = content
    for step in above:
        inner = inner[step]
    to = data.draw(_other(inner[name]))
    # Casing of hex, leading zeros, and numbers for texts say the same; the two ways to write v are one signature.
    assume(_meaning(name, to) != _meaning(name, inner[name]))
    if data.draw(st.booleans()):
        del inner[name]
    else:
        inner[name] = to
    assert_refused(answered(purpose, payments.header_of(content)))


@given(purposes, versions, st.data())
def test_a_change_of_any_field_is_refused_or_changes_nothing(purpose: str, version: int, data: st.DataObject) -> None:
    content = payments.shown_json(x402_version=version, quote_id="q1.x")
    for _ in range(data.draw(st.integers(1, 3))):
        inner: Any = content
        while True:
            name = data.draw(st.sampled_from(sorted(inner)) | strategies.texts)
            if isinstance(inner.get(name), dict) and inner[name] and data.draw(st.booleans()):
                inner = inner[name]
                continue
            inner[name] = data.draw(_other(inner.get(name)))
            break
    assert_refused_or_the_same(answered(purpose, payments.header_of(content)))


@given(purposes, versions, st.data())
def test_any_changed_characters_of_the_header_are_refused_or_change_nothing(purpose: str, version: int, data: st.DataObject) -> None:
    header = payments.header(x402_version=version)
    start = data.draw(st.integers(0, len(header)))
    end = data.draw(st.integers(start, min(len(header), start + 8)))
    # A header field cannot hold line ends, and spaces around it are no part of it (RFC 9110, section 5.5).
    put = data.draw(st.text(characters, max_size=8)).translate({ord(char): "" for char in "\r\n\x0b\x0c"})
    changed = header[:start] + put + header[end:]
    assume(changed.strip(" \t") not in (header, ""))
    assert_refused_or_the_same(answered(purpose, changed))


@given(purposes, versions, st.data())
def test_any_changed_bytes_of_the_json_are_refused_or_change_nothing(purpose: str, version: int, data: st.DataObject) -> None:
    raw = base64.b64decode(payments.header(x402_version=version))
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + data.draw(st.binary(max_size=4)) + raw[at + 1 :]
    assume(changed != raw)
    assert_refused_or_the_same(answered(purpose, base64.b64encode(changed).decode()))


@given(purposes, strategies.json_values)
def test_any_json_is_400_or_402(purpose: str, value: Any) -> None:
    assert_refused(answered(purpose, payments.header_of(value)))


@given(purposes, st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), min_size=1, max_size=300))
def test_any_text_is_400(purpose: str, header: str) -> None:
    answer = answered(purpose, header)
    assert_refused(answer)
    assert answer.status_code == 400


def _other(old: object) -> st.SearchStrategy[Any]:
    """Another value: any JSON, a huge number, or the old text with some of it changed."""
    found = strategies.json_values | st.integers(0, 1 << 270) | st.integers(0, 1 << 256).map(str)
    if not isinstance(old, str) or not old:
        return found
    places = st.integers(0, len(old) - 1)
    inserted = st.text(st.sampled_from("0123456789abcdefABCDEFxg.- "), max_size=3)
    return found | st.builds(lambda at, text: old[:at] + text + old[at + 1 :], places, inserted) | st.just(old.swapcase())


def _meaning(name: str, value: object) -> object:
    """What a field says, however it is written."""
    if name in ("value", "validAfter", "validBefore") and isinstance(value, int | str) and not isinstance(value, bool):
        return int(value) if isinstance(value, int) or value.isdecimal() else value
    if name == "amount" and isinstance(value, str):
        return int(value) if value.isdecimal() else value
    if name == "network" and value == "eip155:84532":
        return "base-sepolia"
    if name == "signature" and isinstance(value, str):
        return value.lower()[:-2] + {"00": "1b", "01": "1c"}.get(value.lower()[-2:], value.lower()[-2:])
    return value.lower() if isinstance(value, str) and name in ("asset", "payTo", "from", "to", "nonce") else value
