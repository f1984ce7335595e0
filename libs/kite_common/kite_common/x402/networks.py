"""Networks and tokens a Kite can be paid in, and the casing of addresses. Knows no node and no price.

Inside Kite addresses are lower case, so that equal ones are equal texts; towards others they are written in EIP-55 casing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from eth_utils.address import to_checksum_address

from kite_common.errors import Malformed

_NETWORK: Final = re.compile(r"eip155:([1-9][0-9]{0,17})")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")


@dataclass(frozen=True, slots=True)
class Asset:
    """A token on a network: `network` in CAIP-2, `v1_network` as protocol version 1 calls it, `address` lower case, `name` and `version` of
    its EIP-712 domain (a wrong one shows only as a bad signature)."""

    network: str
    v1_network: str
    chain_id: int
    address: str
    name: str
    version: str

    @property
    def checksum(self) -> str:
        """The address in EIP-55 casing."""
        return checksum(self.address)


# USDC of the networks that protocol version 1 has a name for. The names of the domains differ; a wrong one would refuse every payer.
_KNOWN: Final[Mapping[str, Asset]] = {
    asset.network: asset
    for asset in (
        Asset("eip155:84532", "base-sepolia", 84_532, "0x036cbd53842c5426634e7929541ec2318f3dcf7e", "USDC", "2"),
        Asset("eip155:8453", "base", 8_453, "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", "USD Coin", "2"),
    )
}


def asset_of(network: str, address: str | None = None, name: str | None = None, version: str | None = None) -> Asset:
    """The token at `address` of a network, or the network's USDC; name and version are needed for every other token.

    A network without a version 1 name goes by its CAIP-2 id there too. Raises Malformed if it is unknown what the token is.
    """
    found = _NETWORK.fullmatch(network)
    if found is None:
        raise Malformed("a network is eip155: and the number of the chain")
    known = _KNOWN.get(network)
    wanted = parse_address(address) if address is not None else None if known is None else known.address
    if wanted is None:
        raise Malformed("this network has no token of its own here: its address is needed")
    if known is not None and wanted == known.address:
        name, version = name or known.name, version or known.version
    if not name or not version:
        raise Malformed("name and version of the token's EIP-712 domain are needed")
    return Asset(network, known.v1_network if known else network, int(found[1]), wanted, name, version)


def parse_address(text: str) -> str:
    """An address in lower case. Raises Malformed for another form, and for mixed casing other than EIP-55's: a typing error."""
    if not _ADDRESS.fullmatch(text):
        raise Malformed("an address is 0x and 40 hex digits")
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and text != checksum(text):
        raise Malformed("the casing of the address is not its EIP-55 checksum: a digit is wrong")
    return text.lower()


@lru_cache(maxsize=4_096)
def checksum(address: str) -> str:
    """An address of any casing in that of EIP-55. Raises Malformed for anything else."""
    if not _ADDRESS.fullmatch(address):
        raise Malformed("an address is 0x and 40 hex digits")
    return str(to_checksum_address(address))
