"""What an edge refuses by itself: what never changes for a payment, and what depends on price and time."""

from typing import Any

import pytest
from eth_account import Account
from eth_keys.backends import get_default_backend_class
from hypothesis import given
from hypothesis import strategies as st

from kite_common.testing import payments
from kite_common.testing.payments import NOW_S
from kite_common.x402.networks import asset_of, checksum
from kite_common.x402.precheck import (
    canonical_signature,
    digest_of,
    domain_separator,
    passing_refusal,
    signer_of,
    unchanging_refusal,
)
from kite_common.x402.wire import ShownPayment, parse_payment

TERMS = payments.terms()
MISMATCH = "invalid_exact_evm_payload_authorization_value_mismatch"
RECIPIENT = "invalid_exact_evm_payload_recipient_mismatch"
SIGNATURE = "invalid_exact_evm_payload_signature"
BEFORE = "invalid_exact_evm_payload_authorization_valid_before"
AFTER = "invalid_exact_evm_payload_authorization_valid_after"
STRANGER = "0x" + "7e" * 20
GOOD_SIGNATURE = payments.sign(payments.USDC, payments.authorization())


def shown(**given: Any) -> ShownPayment:
    return parse_payment(payments.header(**given))


def with_fields(content: dict[str, Any], **changed: Any) -> ShownPayment:
    """A good payment with other fields beside the signature, which stays as it is."""
    content.get("accepted", content).update(changed)
    return parse_payment(payments.header_of(content))


def signed(signature: str) -> ShownPayment:
    content = payments.shown_json()
    content["payload"]["signature"] = signature
    return parse_payment(payments.header_of(content))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("network", ["eip155:84532", "eip155:8453"])
def test_a_good_payment_passes(version: int, network: str) -> None:
    terms = payments.terms(asset=asset_of(network))
    good = parse_payment(payments.header(terms, x402_version=version))
    assert unchanging_refusal(good, terms) is None
    assert passing_refusal(good, terms, 1_000_000, NOW_S) is None


@pytest.mark.parametrize("network", ["eip155:84532", "eip155:8453"])
def test_what_eth_account_signs_passes(network: str) -> None:
    terms = payments.terms(asset=asset_of(network))
    account = Account.create()
    content = payments.shown_json(terms, from_address=account.address.lower())
    content["payload"]["signature"] = "0x" + account.sign_typed_data(full_message=typed_data(terms.asset.chain_id, content)).signature.hex()
    assert unchanging_refusal(parse_payment(payments.header_of(content)), terms) is None


def typed_data(chain_id: int, content: dict[str, Any]) -> dict[str, Any]:
    """The authorization as wallets are asked to sign it, from what the offer says."""
    accepted, authorization = content["accepted"], content["payload"]["authorization"]
    transfer = [("from", "address"), ("to", "address"), ("value", "uint256"), ("validAfter", "uint256"), ("validBefore", "uint256"),
                ("nonce", "bytes32")]  # fmt: skip
    domain = [("name", "string"), ("version", "string"), ("chainId", "uint256"), ("verifyingContract", "address")]
    return {
        "primaryType": "TransferWithAuthorization",
        "types": {
            "EIP712Domain": [{"name": name, "type": kind} for name, kind in domain],
            "TransferWithAuthorization": [{"name": name, "type": kind} for name, kind in transfer],
        },
        "domain": {"name": accepted["extra"]["name"], "version": accepted["extra"]["version"], "chainId": chain_id,
                   "verifyingContract": accepted["asset"]},
        "message": authorization | {name: int(authorization[name]) for name in ("value", "validAfter", "validBefore")}
        | {"nonce": bytes.fromhex(authorization["nonce"][2:])},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("network", "separator"),
    [
        ("eip155:8453", "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f"),
        ("eip155:84532", "71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818"),
    ],
)
def test_the_domain_separator_is_what_usdc_has_on_the_chain(network: str, separator: str) -> None:
    assert domain_separator(asset_of(network)).hex() == separator


@pytest.mark.parametrize("scheme", ["", "upto", "Exact", "exact "])
@pytest.mark.parametrize("version", [1, 2])
def test_another_scheme_is_unsupported(scheme: str, version: int) -> None:
    assert unchanging_refusal(with_fields(payments.shown_json(x402_version=version), scheme=scheme), TERMS) == "unsupported_scheme"


@pytest.mark.parametrize("network", ["", "eip155:8453", "base", "base-sepolia", "EIP155:84532"])
def test_another_network_is_a_mismatch_and_version_2_knows_only_caip_2(network: str) -> None:
    assert unchanging_refusal(with_fields(payments.shown_json(), network=network), TERMS) == "network_mismatch"


@pytest.mark.parametrize(("network", "reason"), [("base-sepolia", None), ("eip155:84532", None), ("base", "network_mismatch")])
def test_version_1_names_the_network_either_way(network: str, reason: str | None) -> None:
    assert unchanging_refusal(with_fields(payments.shown_json(x402_version=1), network=network), TERMS) == reason


@pytest.mark.parametrize("changed", [{"asset": STRANGER}, {"payTo": STRANGER}, {"asset": ""}, {"payTo": None}])
def test_an_offer_that_was_never_made_is_no_match(changed: dict[str, Any]) -> None:
    assert unchanging_refusal(with_fields(payments.shown_json(), **changed), TERMS) == "no_matching_payment_requirements"


def test_addresses_in_any_casing_match() -> None:
    loud = {"asset": "0x" + payments.USDC.address[2:].upper(), "payTo": "0x" + payments.PAY_TO[2:].upper()}
    assert unchanging_refusal(with_fields(payments.shown_json(), **loud), TERMS) is None


def test_a_transfer_to_a_stranger_is_a_mismatch() -> None:
    content = payments.shown_json(to_address=STRANGER)
    content["accepted"]["payTo"] = payments.PAY_TO
    assert unchanging_refusal(parse_payment(payments.header_of(content)), TERMS) == RECIPIENT


def test_a_retired_recipient_passes_once_known_and_never_for_a_new_payment() -> None:
    old = shown(to_address=payments.RETIRED)
    assert unchanging_refusal(old, TERMS) is None
    assert passing_refusal(old, TERMS, 1_000_000, NOW_S) == RECIPIENT


def test_a_transfer_that_brings_nothing_is_invalid() -> None:
    assert unchanging_refusal(shown(value="0"), TERMS) == "invalid_payload"
    own = payments.payer(9)
    for recipients in ({"pay_to": payments.address(own)}, {"retired": frozenset({payments.address(own)})}):
        itself = parse_payment(payments.header(of=own, to_address=payments.address(own)))
        assert unchanging_refusal(itself, payments.terms(**recipients)) == "invalid_payload"


@pytest.mark.parametrize("size", [1, 64, 66, 97, 4_096])
def test_a_contracts_signature_is_refused(size: int) -> None:
    assert unchanging_refusal(signed("0x" + "1b" * size), TERMS) == SIGNATURE


@pytest.mark.parametrize("v", [*range(2, 27), *range(29, 256, 31)])
def test_another_v_is_refused(v: int) -> None:
    assert unchanging_refusal(signed(GOOD_SIGNATURE[:-2] + f"{v:02x}"), TERMS) == SIGNATURE


def test_v_may_be_0_or_1_and_is_27_or_28_for_the_token() -> None:
    v = int(GOOD_SIGNATURE[-2:], 16)
    short = GOOD_SIGNATURE[:-2] + f"{v - 27:02x}"
    assert unchanging_refusal(signed(short), TERMS) is None
    assert canonical_signature(short) == canonical_signature(GOOD_SIGNATURE) == GOOD_SIGNATURE
    assert canonical_signature("0x12") == "0x12"


def test_the_other_v_is_another_signer() -> None:
    other = GOOD_SIGNATURE[:-2] + f"{27 + 28 - int(GOOD_SIGNATURE[-2:], 16):02x}"
    assert unchanging_refusal(signed(other), TERMS) == SIGNATURE


def test_a_high_s_is_refused_although_it_recovers_the_same_key() -> None:
    assert unchanging_refusal(signed(payments.high_s(GOOD_SIGNATURE)), TERMS) == SIGNATURE


@pytest.mark.parametrize("digits", ["00" * 64, "ff" * 32 + "11" * 32, "00" * 32 + "11" * 32, "11" * 32 + "00" * 32])
def test_numbers_that_are_no_signature_are_refused(digits: str) -> None:
    assert unchanging_refusal(signed("0x" + digits + "1b"), TERMS) == SIGNATURE


def test_a_signature_of_another_is_refused() -> None:
    content = payments.shown_json()
    content["payload"]["signature"] = payments.sign(payments.USDC, payments.authorization(), payments.payer(2))
    assert unchanging_refusal(parse_payment(payments.header_of(content)), TERMS) == SIGNATURE


@pytest.mark.parametrize(
    "changed",
    [{"value": "1000001"}, {"validAfter": "1"}, {"validBefore": str(NOW_S + 301)}, {"nonce": "0x" + "1b" * 32}, {"to": payments.RETIRED},
     {"from": STRANGER}],
)  # fmt: skip
def test_a_signature_covers_every_field(changed: dict[str, str]) -> None:
    content = payments.shown_json()
    content["payload"]["authorization"] |= changed
    assert unchanging_refusal(parse_payment(payments.header_of(content)), TERMS) == SIGNATURE


def test_a_signature_for_another_chain_is_refused() -> None:
    content = payments.shown_json()
    content["payload"]["signature"] = payments.sign(asset_of("eip155:8453"), payments.authorization())
    assert unchanging_refusal(parse_payment(payments.header_of(content)), TERMS) == SIGNATURE


@pytest.mark.parametrize(
    ("given", "amount", "now_s", "reason"),
    [
        ({}, 1_000_001, NOW_S, MISMATCH),
        ({"value": "999999"}, 1_000_000, NOW_S, MISMATCH),
        ({"valid_after": str(NOW_S)}, 1_000_000, NOW_S, None),
        ({"valid_after": str(NOW_S + 1)}, 1_000_000, NOW_S, AFTER),
        ({"valid_before": str(NOW_S + 36)}, 1_000_000, NOW_S, None),
        ({"valid_before": str(NOW_S + 35)}, 1_000_000, NOW_S, BEFORE),
        ({"valid_before": str(NOW_S + 3)}, 1_000_000, NOW_S, BEFORE),
        ({"valid_before": "0"}, 1_000_000, NOW_S, BEFORE),
        ({"valid_before": str(NOW_S + 3_660)}, 1_000_000, NOW_S, None),
        ({"valid_before": str(NOW_S + 3_661)}, 1_000_000, NOW_S, "authorization_window_too_long"),
        ({"valid_before": str(NOW_S + 315_360_000)}, 1_000_000, NOW_S, "authorization_window_too_long"),
        ({"valid_before": str((1 << 256) - 1)}, 1_000_000, NOW_S, "authorization_window_too_long"),
        ({}, 1_000_000, NOW_S + 265, BEFORE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", [1, 2])
def test_price_and_window_hold_now(given: dict[str, Any], amount: int, now_s: int, reason: str | None, version: int) -> None:
    payment = shown(x402_version=version, **given)
    assert unchanging_refusal(payment, TERMS) is None
    assert passing_refusal(payment, TERMS, amount, now_s) == reason


def test_the_accepted_amount_must_be_the_price_too() -> None:
    for amount in ("999999", "x", 1_000_000, None):
        assert passing_refusal(with_fields(payments.shown_json(), amount=amount), TERMS, 1_000_000, NOW_S) == MISMATCH


def test_a_longer_settle_timeout_needs_a_longer_window() -> None:
    payment = shown(valid_before=str(NOW_S + 66))
    assert passing_refusal(payment, payments.terms(settle_timeout_s=60.0), 1_000_000, NOW_S) is None
    assert passing_refusal(payment, payments.terms(settle_timeout_s=60.5), 1_000_000, NOW_S) == BEFORE


@given(st.binary(min_size=65, max_size=65))
def test_any_65_bytes_have_a_signer_or_none(data: bytes) -> None:
    found = signer_of(payments.USDC, payments.authorization(), "0x" + data.hex())
    assert found is None or (found.startswith("0x") and found == found.lower() and len(found) == 42)


@given(st.integers(1, 1 << 200), st.integers(0, (1 << 256) - 1), st.binary(min_size=32, max_size=32))
def test_every_payer_signs_for_itself(secret: int, value: int, nonce: bytes) -> None:
    key = payments.payer(secret)
    made = payments.authorization(key, value=str(value), nonce="0x" + nonce.hex())
    assert signer_of(payments.USDC, made, payments.sign(payments.USDC, made, key)) == payments.address(key)
    assert checksum(payments.address(key)) == key.public_key.to_checksum_address()
    assert len(digest_of(payments.USDC, made)) == 32


def test_keys_are_recovered_by_the_fast_library() -> None:
    assert get_default_backend_class() == "eth_keys.backends.CoinCurveECCBackend"
