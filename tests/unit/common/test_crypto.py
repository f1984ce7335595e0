"""Signatures against independent implementations, and sealing that notices every changed bit."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from hypothesis import assume, given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from kite_common import crypto
from kite_common.errors import ConfigurationError, Malformed
from kite_common.runtime.system import SystemClock
from kite_common.testing import make, strategies

secrets = strategies.webhook_secrets()
NOW_S = make.NOW_MS // 1000
ID = make.EVENT_ID


# RFC 8032, 7.1: seed and public key of TEST 1 to 3.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    ),
]


def verify_v1a(public_key: str, webhook_id: str, timestamp: str, body: bytes, signature: str) -> bool:
    """What a receiver does, with an implementation of Ed25519 that is not ours."""
    verifier = eddsa.new(eddsa.import_public_key(base64.b64decode(public_key.removeprefix("whpk_"))), "rfc8032")
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    for part in signature.split(" "):
        version, _, text = part.partition(",")
        if version == "v1a":
            try:
                verifier.verify(signed, base64.b64decode(text))
            except ValueError:
                continue
            return True
    return False


def _key_of(secret: str) -> bytes:
    return base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()


@given(st.lists(secrets, min_size=1, max_size=3), st.binary(max_size=500), st.integers(0, 1 << 33))
def test_the_standard_signature_is_hmac_sha256_of_id_time_and_body_for_each_secret(given: list[str], body: bytes, timestamp_s: int) -> None:
    signed = f"{ID}.{timestamp_s}.".encode() + body
    expected = [base64.b64encode(hmac.new(_key_of(secret), signed, hashlib.sha256).digest()).decode() for secret in given]
    assert crypto.sign_standard_webhook(given, ID, timestamp_s, body) == " ".join("v1," + one for one in expected)


@given(st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=2), strategies.json_values)
def test_receivers_verify_it_with_the_library_of_standard_webhooks(keys: list[bytes], payload: Any) -> None:
    # The library reads the clock itself, so this test lives in real time.
    now_s, body = SystemClock().unix_ms() // 1000, json.dumps(payload)
    secrets = [crypto.new_webhook_secret(key) for key in keys]
    signature = crypto.sign_standard_webhook(secrets, ID, now_s, body.encode())
    headers = {"webhook-id": str(ID), "webhook-timestamp": str(now_s), "webhook-signature": signature}
    for secret in secrets:
        assert Webhook(secret).verify(body, headers) == payload
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body + " ", headers)


@given(secrets, secrets, st.binary(max_size=100), st.integers(-crypto.TOLERANCE_S, crypto.TOLERANCE_S))
def test_a_signature_verifies_with_any_of_the_secrets_within_the_tolerance(one: str, other: str, body: bytes, skew_s: int) -> None:
    signature = crypto.sign_standard_webhook([one, other], ID, NOW_S, body)
    assert crypto.verify_standard_webhook([one], ID, str(NOW_S), body, signature, now_s=NOW_S + skew_s)
    assert crypto.verify_standard_webhook([other], ID, str(NOW_S), body, signature, now_s=NOW_S + skew_s)
    assert crypto.verify_standard_webhook([other, one], ID, str(NOW_S), body, signature, now_s=NOW_S)


@given(secrets, secrets, st.binary(max_size=100), st.binary(max_size=100))
def test_it_does_not_verify_with_another_secret_body_id_or_time(one: str, other: str, body: bytes, changed: bytes) -> None:
    assume(_key_of(one).rstrip(b"\0") != _key_of(other).rstrip(b"\0"))
    assume(body != changed)
    signature = crypto.sign_standard_webhook([one], ID, NOW_S, body)
    assert not crypto.verify_standard_webhook([other], ID, str(NOW_S), body, signature, now_s=NOW_S)
    assert not crypto.verify_standard_webhook([], ID, str(NOW_S), body, signature, now_s=NOW_S)
    assert not crypto.verify_standard_webhook([one], ID, str(NOW_S), changed, signature, now_s=NOW_S)
    assert not crypto.verify_standard_webhook([one], ID + "0", str(NOW_S), body, signature, now_s=NOW_S)
    assert not crypto.verify_standard_webhook([one], ID, str(NOW_S + 1), body, signature, now_s=NOW_S)


@pytest.mark.parametrize("off_s", [-301, 301, 100_000])
def test_it_does_not_verify_outside_the_tolerance(off_s: int) -> None:
    signature = crypto.sign_standard_webhook(["s"], ID, NOW_S, b"{}")
    assert not crypto.verify_standard_webhook(["s"], ID, str(NOW_S), b"{}", signature, now_s=NOW_S + off_s)


@given(st.text(), st.text(), st.text())
def test_any_other_headers_are_refused_without_an_error(webhook_id: str, timestamp: str, signature: str) -> None:
    assert not crypto.verify_standard_webhook(["s"], webhook_id, timestamp, b"{}", signature, now_s=NOW_S)
    assert not crypto.verify_kite(["s"], b"{}", signature)


@pytest.mark.parametrize("timestamp", ["", "-1", "1.0", "1e3", " 1777543200", "+1777543200", "٣", "9" * 400])
def test_a_timestamp_is_plain_digits(timestamp: str) -> None:
    assert not crypto.verify_standard_webhook(["s"], ID, timestamp, b"{}", "v1,x", now_s=NOW_S)


@given(secrets, st.binary(max_size=100))
def test_the_kite_signature_uses_the_text_of_the_secret_with_its_prefix(secret: str, body: bytes) -> None:
    signature = crypto.sign_kite(secret, body)
    assert signature == "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    assert crypto.verify_kite(["another", secret], body, signature)
    assert not crypto.verify_kite([secret], body + b" ", signature)


@given(secrets)
def test_secrets_of_both_forms_are_taken(secret: str) -> None:
    crypto.validate_webhook_secret(secret)


@pytest.mark.parametrize("length", [24, 64])
def test_a_standard_secret_may_have_24_to_64_bytes(length: int) -> None:
    crypto.validate_webhook_secret(crypto.new_webhook_secret(bytes(length)))


@pytest.mark.parametrize(
    "secret",
    [
        "", "x" * 257, "a\nb", "a\x00", "\x7f", "\x85", "\ud800", "whsec_", "whsec_!!!!", "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(), "whsec_" + base64.b64encode(bytes(32)).decode().rstrip("="),
        "whsec_" + base64.b64encode(bytes(24)).decode() + "é",
    ],
)  # fmt: skip
def test_other_secrets_are_refused_without_quoting_them(secret: str) -> None:
    with pytest.raises(Malformed) as caught:
        crypto.validate_webhook_secret(secret)
    assert len(secret) < 7 or secret not in str(caught.value)


@given(strategies.cipher_keys, strategies.nonces, st.binary(max_size=300), st.binary(max_size=80))
def test_unseal_gives_back_what_was_sealed(key: bytes, nonce: bytes, plaintext: bytes, belongs_to: bytes) -> None:
    sealed = crypto.seal(key, plaintext, belongs_to, nonce)
    version, named, *_ = sealed.split(".")
    assert (version, named) == ("v1", hashlib.sha256(key).hexdigest()[:8])
    assert "=" not in sealed
    assert crypto.unseal([key], sealed, belongs_to) == plaintext


@given(strategies.cipher_keys, strategies.cipher_keys, strategies.nonces, st.binary(max_size=50))
def test_an_older_key_still_unseals_after_a_rotation(old: bytes, new: bytes, nonce: bytes, plaintext: bytes) -> None:
    assume(old != new)
    sealed = crypto.seal(old, plaintext, b"", nonce)
    assert crypto.unseal([new, old], sealed, b"") == plaintext
    with pytest.raises(Malformed):
        crypto.unseal([new], sealed, b"")


@given(strategies.cipher_keys, strategies.nonces, st.binary(max_size=40), st.data())
def test_no_character_of_a_sealed_text_can_be_changed(key: bytes, nonce: bytes, plaintext: bytes, data: st.DataObject) -> None:
    sealed = crypto.seal(key, plaintext, b"team_a:1", nonce)
    at = data.draw(st.integers(0, len(sealed) - 1))
    character = data.draw(st.characters())
    assume(character != sealed[at])
    with pytest.raises(Malformed):
        crypto.unseal([key], sealed[:at] + character + sealed[at + 1 :], b"team_a:1")


@given(strategies.cipher_keys, strategies.nonces, st.binary(max_size=40), st.binary(max_size=40))
def test_a_secret_cannot_be_moved_to_another_owner(key: bytes, nonce: bytes, owner: bytes, other: bytes) -> None:
    assume(owner != other)
    with pytest.raises(Malformed):
        crypto.unseal([key], crypto.seal(key, b"secret", owner, nonce), other)


@given(st.text() | st.from_regex(r"v1\.[0-9a-f]{8}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
def test_any_other_text_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        crypto.unseal([bytes(32)], text, b"")


@pytest.mark.parametrize(("key", "nonce"), [(16, 12), (32, 11), (32, 0), (0, 12)])
def test_keys_and_nonces_of_another_size_are_a_defect(key: int, nonce: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        crypto.seal(bytes(key), b"", b"", bytes(nonce))


@given(strategies.cipher_keys)
def test_a_cipher_key_may_be_written_as_hex_or_base64(key: bytes) -> None:
    forms = [
        key.hex(),
        key.hex().upper(),
        base64.b64encode(key).decode(),
        base64.urlsafe_b64encode(key).decode().rstrip("="),
        f" {key.hex()}\n",
    ]
    assert {crypto.parse_cipher_key(form) for form in forms} == {key}


def test_a_cipher_key_may_be_32_ascii_characters() -> None:
    text = "correct horse battery staple 32!"
    assert crypto.parse_cipher_key(text) == text.encode()


@pytest.mark.parametrize("text", ["", "short", "0" * 63, "g" * 64, "ä" * 32, base64.b64encode(bytes(31)).decode(), "!" * 43, "A" * 45])
def test_any_other_cipher_key_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        crypto.parse_cipher_key(text)
    assert not text or text not in str(caught.value)


def test_several_cipher_keys_are_separated_by_commas() -> None:
    one, two = bytes(range(32)), bytes(32)
    assert crypto.parse_cipher_keys(f"{one.hex()}, {two.hex()}") == (one, two)
    assert crypto.parse_cipher_keys("sixteen chars a,sixteen chars b!") == (b"sixteen chars a,sixteen chars b!",)
    with pytest.raises(ConfigurationError):
        crypto.parse_cipher_keys(f"{one.hex()},")


@pytest.mark.parametrize(("seed", "public"), RFC_8032)
def test_the_public_key_is_that_of_rfc_8032(seed: str, public: str) -> None:
    key = crypto.SigningKey(bytes.fromhex(seed))
    assert (key.public.hex(), key.public_text) == (public, "whpk_" + base64.b64encode(bytes.fromhex(public)).decode())
    assert key.id == hashlib.sha256(bytes.fromhex(public)).hexdigest()[:8]


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3, unique=True), st.binary(max_size=300), st.binary(max_size=300))
def test_each_ed25519_key_signs_and_another_implementation_verifies(seeds: list[bytes], body: bytes, changed: bytes) -> None:
    keys = [crypto.SigningKey(seed) for seed in seeds]
    signature = crypto.sign_ed25519(keys, ID, NOW_S, body)
    assert [part.partition(",")[0] for part in signature.split(" ")] == ["v1a"] * len(keys)
    for key in keys:
        assert verify_v1a(key.public_text, ID, str(NOW_S), body, signature)
        assert not verify_v1a(key.public_text, ID, str(NOW_S + 1), body, signature)
        assert not verify_v1a(key.public_text, ID + "0", str(NOW_S), body, signature)
        assert changed == body or not verify_v1a(key.public_text, ID, str(NOW_S), changed, signature)
    pkcs8 = bytes.fromhex("302e020100300506032b657004220420") + seeds[0]  # RFC 8410, section 7
    theirs, signed = ECC.import_key(pkcs8), f"{ID}.{NOW_S}.".encode() + body
    assert signature.split(" ")[0] == "v1a," + base64.b64encode(eddsa.new(theirs, "rfc8032").sign(signed)).decode()


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), strategies.team_ids(), strategies.team_ids())
def test_every_team_has_a_key_of_its_own(root: bytes, other_root: bytes, team_id: str, other: str) -> None:
    assume(root != other_root and team_id != other)
    key = crypto.team_signing_key(root, team_id)
    assert key == crypto.team_signing_key(root, team_id)
    assert len({key.public, crypto.team_signing_key(root, other).public, crypto.team_signing_key(other_root, team_id).public}) == 3
    assert key.seed == hmac.new(root, b"kite webhook signing key of a team, v1\0" + team_id.encode(), "sha256").digest()
    signature = crypto.sign_ed25519([key], ID, NOW_S, b"{}")
    assert not verify_v1a(crypto.team_signing_key(root, other).public_text, ID, str(NOW_S), b"{}", signature)


def test_a_signing_key_hides_its_seed() -> None:
    assert repr(crypto.SigningKey(b"s" * 32)) == "SigningKey()"
