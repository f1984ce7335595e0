"""API keys, hook tokens, permissions."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common import auth
from kite_common.auth import Needed
from kite_common.errors import Malformed
from kite_common.events.credentials import CredentialIssued
from kite_common.testing import make

NOW = make.NOW_MS
key_bytes = st.binary(min_size=20, max_size=20)


@given(key_bytes)
def test_new_texts_have_the_form_of_the_wire_contract_and_parse(random: bytes) -> None:
    key, token = auth.new_api_key(random), auth.new_hook_token(random)
    assert key == f"kite_{random.hex()[:8]}_{random.hex()[8:]}"
    assert auth.parse_api_key(key).prefix == auth.parse_hook_token(token).prefix == random.hex()[:8]


@pytest.mark.parametrize("length", [0, 19, 21, 32])
def test_a_key_of_too_few_or_too_many_random_bytes_is_not_made(length: int) -> None:
    with pytest.raises(ValueError, match="20 random bytes"):
        auth.new_api_key(bytes(length))


@pytest.mark.parametrize(
    "text",
    [
        "", "kite_", make.HOOK_TOKEN, make.API_KEY.upper(), make.API_KEY + "0", make.API_KEY[:-1], make.API_KEY + "\n", " " + make.API_KEY,
        "kite_0001020g_" + "0" * 32, make.API_KEY.replace("_", "-"), "kite_٠٠٠٠٠٠٠٠_" + "0" * 32,
    ],
)  # fmt: skip
def test_other_texts_are_no_api_keys_and_are_not_quoted(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        auth.parse_api_key(text)
    assert str(caught.value) == "not an API key"


def test_an_api_key_is_no_hook_token() -> None:
    with pytest.raises(Malformed):
        auth.parse_hook_token(make.API_KEY)


def test_a_parsed_key_does_not_show_its_text() -> None:
    assert make.API_KEY not in repr(auth.parse_api_key(make.API_KEY))


def test_the_hash_is_hex_hmac_sha256_under_the_pepper() -> None:
    assert auth.hash_secret(make.PEPPER, make.API_KEY) == hmac.new(make.PEPPER, make.API_KEY.encode(), hashlib.sha256).hexdigest()


@given(st.text(), st.binary(max_size=40), st.binary(max_size=40))
def test_texts_hash_alike_only_under_the_same_pepper(text: str, one: bytes, other: bytes) -> None:
    same = auth.hash_secret(one, text) == auth.hash_secret(other, text)
    # HMAC fills short keys with zero bytes, so these are one key.
    assert same == (one.rstrip(b"\0") == other.rstrip(b"\0"))


def test_the_right_text_of_a_live_credential_is_verified() -> None:
    assert auth.verify(make.credential(), make.API_KEY, make.PEPPER, NOW)


@given(st.text())
def test_any_other_text_is_not(text: str) -> None:
    assert auth.verify(make.credential(), text, make.PEPPER, NOW) == (text == make.API_KEY)


def test_another_pepper_an_unknown_prefix_or_a_broken_hash_does_not_verify() -> None:
    assert not auth.verify(make.credential(), make.API_KEY, b"another pepper", NOW)
    assert not auth.verify(None, make.API_KEY, make.PEPPER, NOW)
    assert not auth.verify(make.credential(secret_hash=""), make.API_KEY, make.PEPPER, NOW)


@pytest.mark.parametrize(("expires_at", "good"), [(None, True), (NOW + 1, True), (NOW, False), (NOW - 1, False)])
def test_a_credential_ends_with_its_expiry(expires_at: int | None, good: bool) -> None:
    assert auth.verify(make.credential(expires_at=expires_at), make.API_KEY, make.PEPPER, NOW) is good


@pytest.mark.parametrize("revoked_at", [0, NOW - 1, NOW, NOW + 3_600_000])
def test_a_revoked_credential_is_dead_whatever_the_clock_of_the_reader_says(revoked_at: int) -> None:
    assert not auth.verify(make.credential(revoked_at=revoked_at), make.API_KEY, make.PEPPER, NOW)


@pytest.mark.parametrize(
    ("permissions", "allowed"),
    [
        ((), ()), (("read",), ("read",)), (("write",), ("read", "write")), (("admin",), ("read", "write", "admin")),
        (("*",), ("read", "write", "admin")), (("read", "write"), ("read", "write")), (("root", "Admin", ""), ()),
    ],
)  # fmt: skip
def test_a_higher_permission_passes_a_lower_check(permissions: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    needed: tuple[Needed, ...] = ("read", "write", "admin")
    assert tuple(one for one in needed if auth.allows(permissions, one)) == allowed


class TestPeppers:
    """What was issued under the pepper before stays good until that one is taken away."""

    OLD = b"the pepper before, 32 bytes long"

    def find(self, issued: CredentialIssued, peppers: auth.Peppers) -> bool:
        parsed, held = auth.parse_api_key(make.API_KEY), {issued.key: issued}
        found, pepper = peppers.find(parsed, held.get)
        return auth.verify(found, make.API_KEY, pepper, NOW)

    def old(self) -> CredentialIssued:
        return make.credential(secret_hash=auth.hash_secret(self.OLD, make.API_KEY))

    def test_both_are_good_while_there_are_two(self) -> None:
        peppers = auth.Peppers(make.PEPPER, self.OLD)
        assert self.find(make.credential(), peppers)
        assert self.find(self.old(), peppers)

    def test_without_the_retired_one_what_it_made_opens_nothing(self) -> None:
        assert not self.find(self.old(), auth.Peppers(make.PEPPER))
        assert not self.find(make.credential(), auth.Peppers(self.OLD))

    def test_what_was_never_issued_is_found_under_none(self) -> None:
        parsed, held = auth.parse_api_key(make.API_KEY), dict[str, CredentialIssued]()
        assert auth.Peppers(make.PEPPER, self.OLD).find(parsed, held.get) == (None, make.PEPPER)

    def test_neither_is_shown(self) -> None:
        assert "pepper" not in repr(auth.Peppers(make.PEPPER, self.OLD)).lower().replace("peppers", "")
