"""Networks, tokens and the casing of addresses."""

import pytest

from kite_common.errors import Malformed
from kite_common.x402.networks import Asset, asset_of, checksum, parse_address

SEPOLIA = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
BASE = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"


def test_a_known_network_has_its_usdc() -> None:
    assert asset_of("eip155:84532") == Asset("eip155:84532", "base-sepolia", 84_532, SEPOLIA.lower(), "USDC", "2")
    assert asset_of("eip155:8453") == Asset("eip155:8453", "base", 8_453, BASE.lower(), "USD Coin", "2")
    assert (asset_of("eip155:84532").checksum, asset_of("eip155:8453").checksum) == (SEPOLIA, BASE)


@pytest.mark.parametrize("address", [SEPOLIA, SEPOLIA.lower(), "0x" + SEPOLIA[2:].upper()])
def test_usdc_named_in_any_casing_is_usdc(address: str) -> None:
    assert asset_of("eip155:84532", address) == asset_of("eip155:84532")


def test_another_token_needs_name_and_version() -> None:
    other = asset_of("eip155:84532", BASE, "Other", "1")
    assert (other.name, other.version, other.v1_network) == ("Other", "1", "base-sepolia")
    for name, version in ((None, None), ("Other", None), (None, "1"), ("", "1")):
        with pytest.raises(Malformed, match="name and version"):
            asset_of("eip155:84532", BASE, name, version)


def test_a_network_without_usdc_needs_an_address_and_goes_by_its_id() -> None:
    with pytest.raises(Malformed, match="address is needed"):
        asset_of("eip155:31337")
    assert asset_of("eip155:31337", BASE, "Other", "1").v1_network == "eip155:31337"


@pytest.mark.parametrize("network", ["", "base", "eip155:", "eip155:0", "eip155:084532", "eip155:8453 ", "solana:1", "eip155:٣"])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(Malformed, match="network"):
        asset_of(network)


@pytest.mark.parametrize("text", ["", "0x", "0x12", SEPOLIA[2:], SEPOLIA + "0", "0X" + SEPOLIA[2:], SEPOLIA + "\n", SEPOLIA[:-1] + "g"])
def test_what_is_no_address_is_refused(text: str) -> None:
    for parse in (parse_address, checksum):
        with pytest.raises(Malformed, match="40 hex"):
            parse(text)


def test_mixed_casing_with_a_typing_error_is_refused() -> None:
    wrong = SEPOLIA[:-1] + "F"
    with pytest.raises(Malformed, match="checksum"):
        parse_address(wrong)
    assert parse_address(SEPOLIA) == parse_address(SEPOLIA.lower()) == SEPOLIA.lower()
