"""What is known of the local chain before it runs: anvil's accounts by what Kite uses them for, and the token of each chain id.

Anvil derives the accounts from a public mnemonic, everybody knows their keys: never send them anything real.
"""

from dataclasses import dataclass
from typing import Final

CHAIN_ID: Final = 84532

# Sets the token up and mints; anvil signs for it, so its key is needed nowhere.
SETUP: Final = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
# Pays the gas of settlements.
FACILITATOR: Final = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
FACILITATOR_KEY: Final = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
# Is paid.
PAY_TO: Final = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"


@dataclass(frozen=True, slots=True)
class Token:
    """Where a chain has its USDC, and the EIP-712 domain name and version signatures are made for."""

    address: str
    name: str
    version: str


TOKENS: Final = {
    84532: Token("0x036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC", "2"),
    8453: Token("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "USD Coin", "2"),
}
