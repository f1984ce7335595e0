"""From settings to terms: off, complete, or named problems."""

import hashlib
import hmac
from typing import Any

import pytest

from kite_common.x402.terms import quote_key_of
from kite_common.x402_settings import X402Settings, payment_problems, terms_of

PAY_TO = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
CIPHER, QUOTE = b"c" * 32, b"q" * 32


def settings(**given: Any) -> X402Settings:
    fields: dict[str, Any] = {"x402_enabled": True, "x402_pay_to": PAY_TO, "x402_bootstrap_cipher_key": CIPHER.decode()}
    return X402Settings(**(fields | given))


def test_payments_are_off_by_default() -> None:
    assert terms_of(X402Settings()) is None
    assert payment_problems(X402Settings()) == ["X402_ENABLED: off"]


def test_complete_settings_make_terms() -> None:
    retired = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
    made = terms_of(settings(x402_quote_key=QUOTE.decode(), x402_pay_to_retired=(retired,), public_url="https://kite.example/"))
    assert made is not None
    assert (made.pay_to, made.retired, made.asset.name) == (PAY_TO.lower(), frozenset({retired.lower()}), "USDC")
    assert (made.quote_key, made.cipher_key, made.public_url) == (QUOTE, CIPHER, "https://kite.example")
    assert made.recipients == {PAY_TO.lower(), retired.lower()}


def test_without_a_quote_key_it_is_derived_from_the_cipher_key() -> None:
    made = terms_of(settings())
    assert made is not None
    # HKDF-SHA256 by hand (RFC 5869): extract with a salt of zeros, expand one block.
    extracted = hmac.digest(bytes(32), CIPHER, hashlib.sha256)
    assert made.quote_key == quote_key_of(CIPHER) == hmac.digest(extracted, b"kite x402 quote v1\x01", hashlib.sha256)


def test_without_a_cipher_key_nobody_can_be_bootstrapped_but_payments_are_taken() -> None:
    made = terms_of(settings(x402_bootstrap_cipher_key=None, x402_quote_key=QUOTE.decode()))
    assert made is not None
    assert made.cipher_key is None


def test_after_a_rotation_old_keys_are_still_read() -> None:
    made = terms_of(settings(x402_bootstrap_cipher_key="ab" * 32 + "," + "cd" * 32))
    assert made is not None
    assert made.cipher_keys == (b"\xab" * 32, b"\xcd" * 32)
    assert made.quote_keys == tuple(map(quote_key_of, made.cipher_keys))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"x402_pay_to": None}, "X402_PAY_TO: is required"),
        ({"x402_pay_to": PAY_TO[:-1] + "c"}, "X402_PAY_TO: the casing"),
        ({"x402_pay_to_retired": ("0x12",)}, "X402_PAY_TO_RETIRED: an address"),
        ({"x402_bootstrap_cipher_key": None}, "X402_QUOTE_KEY: is required, or X402_BOOTSTRAP_CIPHER_KEY"),
        ({"x402_network": "eip155:31337"}, "X402_ASSET: this network"),
        ({"x402_asset": "0x" + "12" * 20}, "X402_ASSET: name and version"),
    ],
)
def test_each_missing_or_wrong_setting_is_named(given: dict[str, Any], problem: str) -> None:
    found = payment_problems(settings(**given))
    assert len(found) == 1
    assert found[0].startswith(problem)
    assert terms_of(settings(**given)) is None


def test_terms_hide_their_keys() -> None:
    made = terms_of(settings(x402_quote_key=QUOTE.decode()))
    assert "qqqq" not in repr(made)
    assert "cccc" not in repr(made)
