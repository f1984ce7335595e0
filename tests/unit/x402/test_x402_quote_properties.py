"""Quotes and seals: good if and only if nothing at all was changed."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common import crypto
from kite_common.errors import Malformed
from kite_common.events.payments import Purpose
from kite_common.testing import make, payments, strategies
from kite_common.testing.payments import NOW_S
from kite_common.x402.quote import Quote, make_quote, quote_hash, read_quote
from kite_common.x402.seal import Credentials, open_credentials, seal_credentials

TERMS = payments.terms()
KEYS = TERMS.quote_keys
FINGERPRINT = bytes(range(32))
QUOTE = make_quote(TERMS, "deposit", FINGERPRINT, 1_000_000, NOW_S, b"r" * 16)
KEY = payments.submitted().payment_key
CREDENTIALS = Credentials(make.API_KEY, make.HOOK_TOKEN)
purposes = st.sampled_from(("bootstrap", "deposit", "topup", "page"))


@given(purposes, st.binary(min_size=32, max_size=32), strategies.amounts, st.integers(0, 1 << 40), st.binary(min_size=16, max_size=16))
def test_a_quote_says_what_was_promised(purpose: Purpose, fingerprint: bytes, amount: int, now_s: int, drawn: bytes) -> None:
    made = make_quote(TERMS, purpose, fingerprint, amount, now_s, drawn)
    assert read_quote(KEYS, made) == Quote(purpose, fingerprint[:16].hex(), amount, now_s + 300)


@given(strategies.texts, st.integers(0, 1_000))
def test_the_quote_of_a_page_fixes_its_range(end_cursor: str, rows: int) -> None:
    made = read_quote(KEYS, make_quote(TERMS, "page", FINGERPRINT, 10, NOW_S, b"r" * 16, end_cursor=end_cursor, rows=rows))
    assert made is not None
    assert (made.end_cursor, made.rows) == (end_cursor, rows)


def test_a_quote_has_the_published_form() -> None:
    version, content, mac = QUOTE.split(".")
    assert version == "q1"
    assert json.loads(base64.urlsafe_b64decode(content + "==")) == {
        "p": "deposit", "f": FINGERPRINT[:16].hex(), "a": 1_000_000, "x": NOW_S + 300, "r": "72" * 16,
    }  # fmt: skip
    expected = hmac.digest(KEYS[0], f"q1.{content}".encode(), hashlib.sha256)[:16]
    assert base64.urlsafe_b64decode(mac + "==") == expected
    assert quote_hash(QUOTE) == hashlib.sha256(QUOTE.encode()).hexdigest()


def test_a_quote_holds_for_its_request_and_purpose_until_it_expires() -> None:
    quote = read_quote(KEYS, QUOTE)
    assert quote is not None
    assert quote.is_for("deposit", FINGERPRINT)
    assert not quote.is_for("topup", FINGERPRINT)
    assert [quote.is_expired(NOW_S + after) for after in (0, 299, 300, 301)] == [False, False, True, True]


@given(st.integers(0, 15), st.integers(1, 255))
def test_a_quote_is_for_no_other_request(at: int, flip: int) -> None:
    quote = read_quote(KEYS, QUOTE)
    other = FINGERPRINT[:at] + bytes([FINGERPRINT[at] ^ flip]) + FINGERPRINT[at + 1 :]
    assert quote is not None
    assert not quote.is_for("deposit", other)


@given(st.integers(0, len(QUOTE) - 1), st.characters())
def test_a_quote_with_any_changed_character_is_none(at: int, char: str) -> None:
    changed = QUOTE[:at] + char + QUOTE[at + 1 :]
    assert (read_quote(KEYS, changed) is None) == (changed != QUOTE)


@given(st.sampled_from("pfaxr"), strategies.json_values)
def test_a_quote_with_any_changed_promise_is_none(name: str, value: object) -> None:
    _, content, mac = QUOTE.split(".")
    promised = json.loads(base64.urlsafe_b64decode(content + "==")) | {name: value}
    forged = base64.urlsafe_b64encode(json.dumps(promised, separators=(",", ":")).encode()).rstrip(b"=").decode()
    assert (read_quote(KEYS, f"q1.{forged}.{mac}") is None) == (forged != content)


@given(st.none() | st.text(max_size=200) | st.from_regex(r"q1\.[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{22}", fullmatch=True))
def test_any_other_text_is_no_quote(text: str | None) -> None:
    assert read_quote(KEYS, text) is None


def test_a_quote_is_read_by_every_key_that_may_have_made_it() -> None:
    assert read_quote((b"n" * 32, *KEYS), QUOTE) == read_quote(KEYS, QUOTE) is not None
    assert read_quote((b"n" * 32,), QUOTE) is None
    assert read_quote((), QUOTE) is None


def test_no_two_quotes_are_equal() -> None:
    assert make_quote(TERMS, "deposit", FINGERPRINT, 1_000_000, NOW_S, b"s" * 16) != QUOTE


@given(strategies.cipher_keys, strategies.nonces, strategies.texts, strategies.texts, strategies.texts)
def test_what_is_sealed_is_opened(key: bytes, nonce: bytes, payment_key: str, api_key: str, hook_token: str) -> None:
    sealed = seal_credentials(key, payment_key, Credentials(api_key, hook_token), nonce)
    assert open_credentials([b"n" * 32, key], payment_key, sealed) == Credentials(api_key, hook_token)


SEALED = seal_credentials(b"c" * 32, KEY, CREDENTIALS, b"n" * 12)


@given(st.integers(0, len(SEALED) - 1), st.characters())
def test_a_seal_with_any_changed_character_is_refused(at: int, char: str) -> None:
    changed = SEALED[:at] + char + SEALED[at + 1 :]
    if changed == SEALED:
        return
    with pytest.raises(Malformed):
        open_credentials([b"c" * 32], KEY, changed)


@pytest.mark.parametrize("payment_key", ["", KEY[:-1], KEY + "|bootstrap|v1", KEY.upper()])
def test_a_seal_opens_for_its_own_payment_only(payment_key: str) -> None:
    with pytest.raises(Malformed):
        open_credentials([b"c" * 32], payment_key, SEALED)


def test_a_seal_opens_under_its_own_key_only() -> None:
    with pytest.raises(Malformed, match="not configured"):
        open_credentials([b"d" * 32], KEY, SEALED)


@pytest.mark.parametrize("plain", [b"", b"[]", b"null", b'{"api_key":"x"}', b'"x"'])
def test_another_sealed_text_is_no_credentials(plain: bytes) -> None:
    sealed = crypto.seal(b"c" * 32, plain, f"{KEY}|bootstrap|v1".encode(), b"n" * 12)
    with pytest.raises(Malformed, match="no credentials"):
        open_credentials([b"c" * 32], KEY, sealed)


def test_a_seal_has_the_published_form_and_shows_nothing() -> None:
    version, key_id, nonce, sealed = SEALED.split(".")
    assert (version, key_id) == ("v1", hashlib.sha256(b"c" * 32).hexdigest()[:8])
    assert base64.urlsafe_b64decode(nonce) == b"n" * 12
    assert len(base64.urlsafe_b64decode(sealed + "==")) > 16
    assert make.API_KEY not in repr(CREDENTIALS)
    assert make.HOOK_TOKEN not in repr(CREDENTIALS)
