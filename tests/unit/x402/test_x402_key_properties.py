"""Keys, fingerprints and everything derived from a key."""

import base64
import hashlib
import re
import uuid
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from kite_common.ids import is_uuid
from kite_common.log_position import partition_of
from kite_common.testing import make, payments
from kite_common.x402 import key
from kite_common.x402.networks import asset_of
from kite_common.x402.wire import parse_payment

KEY = f"eip155:84532|{payments.USDC.address}|{payments.address(payments.payer())}|0x{'1a' * 32}"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "payments.kite")
hexes = st.binary(min_size=20, max_size=20).map(bytes.hex)
nonces = st.binary(min_size=32, max_size=32).map(bytes.hex)
parts = st.tuples(st.sampled_from(("GET", "POST")), st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=40))


def test_a_key_names_network_asset_payer_and_nonce() -> None:
    assert key.payment_key(payments.USDC, payments.authorization()) == KEY
    assert key.payment_key(asset_of("eip155:8453"), payments.authorization()).startswith(
        "eip155:8453|0x833589fcd6edb6e08f4c7c32d4f71b54bda02913|"
    )
    assert key.transfer_key(payments.USDC, "0xAB", "0xCD", 3) == f"eip155:84532|{payments.USDC.address}|0xab|log:0xcd:3"


@given(hexes, nonces, st.data())
def test_casing_changes_nothing(payer: str, nonce: str, data: st.DataObject) -> None:
    def any_case(text: str) -> str:
        return "0x" + "".join(data.draw(st.sampled_from((char, char.upper()))) for char in text)

    content = payments.shown_json()
    content["payload"]["authorization"] |= {"from": any_case(payer), "nonce": any_case(nonce)}
    shown = parse_payment(payments.header_of(content))
    made = key.payment_key(payments.USDC, shown.authorization)
    assert made == f"eip155:84532|{payments.USDC.address}|0x{payer}|0x{nonce}"


def test_signature_value_and_window_are_not_in_the_key() -> None:
    other = payments.authorization(value="5", valid_after="1", valid_before="2", to_address=payments.RETIRED)
    assert key.payment_key(payments.USDC, other) == KEY


@given(nonces, nonces, st.integers(1, 1_024))
def test_one_payer_has_one_partition(one: str, other: str, partitions: int) -> None:
    keys = [key.payment_key(payments.USDC, payments.authorization(nonce="0x" + nonce)) for nonce in (one, other)]
    found = {key.payment_partition(made, partitions) for made in keys}
    assert found == {partition_of(KEY.rpartition("|")[0].encode(), partitions)}


@given(hexes, nonces)
def test_a_payment_id_is_short_and_the_keys_own(payer: str, nonce: str) -> None:
    made = key.payment_id(f"eip155:84532|{payments.USDC.address}|0x{payer}|0x{nonce}")
    assert re.fullmatch(r"pay_[a-z2-7]{26}", made)
    assert (made == key.payment_id(KEY)) == (payer in KEY and nonce in KEY)


def test_ids_are_derived_as_published() -> None:
    digest = hashlib.sha256(KEY.encode()).digest()
    assert key.payment_id(KEY) == "pay_" + base64.b32encode(digest).decode().lower()[:26]
    team = base64.b32encode(hashlib.sha256(b"kite:team:" + KEY.encode()).digest()[:16]).decode().rstrip("=").lower()
    assert key.team_of(KEY) == "team_" + team
    assert len(team) == 26
    assert key.subscription_of(KEY) == str(uuid.uuid5(NAMESPACE, "subscription:" + KEY))
    assert key.endpoint_of(KEY) == str(uuid.uuid5(NAMESPACE, "endpoint:" + KEY))
    assert key.api_credential_of(KEY) == str(uuid.uuid5(NAMESPACE, "credential:api:" + KEY))
    assert key.hook_credential_of(KEY) == str(uuid.uuid5(NAMESPACE, "credential:hook:" + KEY))
    assert key.ledger_entry_of(KEY, 2) == str(uuid.uuid5(NAMESPACE, KEY + "#2"))
    assert key.command_id(KEY, 2) == KEY + "#2"
    assert key.idempotency_hash("order-1") == hashlib.sha256(b"order-1").hexdigest()


@given(st.integers(0, (1 << 48) - 1))
def test_the_event_of_a_top_up_is_a_uuid_7_of_the_credit(credited_at_ms: int) -> None:
    made = uuid.UUID(key.event_of(KEY, credited_at_ms))
    assert is_uuid(str(made))
    assert (made.version, made.int >> 80) == (7, credited_at_ms)
    assert made != uuid.UUID(key.event_of(KEY + "0", credited_at_ms))


def test_a_fingerprint_is_the_hash_of_lengths_and_parts() -> None:
    expected = hashlib.sha256()
    for part in (b"POST", b"/a", b"", b"{}"):
        expected.update(len(part).to_bytes(8, "big"))
        expected.update(part)
    assert key.fingerprint("post", b"/a", b"", b"{}") == expected.digest()


@given(parts, parts)
@example(("GET", b"/a", b"b", b""), ("GET", b"/ab", b"", b""))
@example(("GET", b"/a", b"", b"b"), ("GET", b"/a", b"b", b""))
@example(("GET", b"", b"", b"\x00"), ("GET", b"", b"\x00", b""))
def test_requests_share_a_fingerprint_only_if_they_are_equal(one: Any, other: Any) -> None:
    assert (key.fingerprint(*one) == key.fingerprint(*other)) == (one == other)


@given(st.binary(min_size=1, max_size=60), st.data())
def test_any_differing_byte_differs(data: bytes, draw: st.DataObject) -> None:
    at, flip = draw.draw(st.integers(0, len(data) - 1)), draw.draw(st.integers(1, 255))
    changed = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
    for place in range(3):
        one, other = ([b"/p", b"q", b"body"] for _ in range(2))
        one[place], other[place] = data, changed
        assert key.fingerprint("POST", *one) != key.fingerprint("POST", *other)


def test_the_method_counts_in_any_casing() -> None:
    assert key.fingerprint("post", b"", b"", b"") == key.fingerprint("POST", b"", b"", b"") != key.fingerprint("PUT", b"", b"", b"")


def test_headers_are_not_in_a_fingerprint() -> None:
    assert payments.request().fingerprint == payments.request(("x-payment", "x")).fingerprint
    assert make.TEAM.encode() in payments.request().raw_query
