"""Throwaway wallets of the local chain: keys in the data folder that only their owner may read. Never for anything real.

A signature made here is valid on the real network of the same chain id: such a key must never hold real money.
"""

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.found import find_stack
from kite_cli.local.chain.known import TOKENS, Token
from kite_cli.local.chain.rpc import Rpc, RpcFailed, local_rpc
from kite_cli.local.chain.token import balance_of, mint
from kite_cli.local.environment import ChainAddress
from kite_cli.private_file import read_private, write_private
from kite_cli.target import nothing_found

DEMO: Final = "demo"
_NAME: Final = re.compile("[a-z0-9][a-z0-9-]{0,31}")
_USDC: Final = 1_000_000
# What a wallet that ran low is filled up to: the most the faucet gives at once.
MOST_AT_ONCE: Final = 100 * _USDC
_LOW: Final = 10 * _USDC


@dataclass(frozen=True, slots=True)
class Wallet:
    """An account by its EIP-55 address; the key is 0x and 64 hex digits."""

    name: str
    address: str
    private_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LocalChain:
    """A chain that is surely a local one, and its token. Amounts are atomic. Raises RpcFailed."""

    rpc: Rpc
    chain_id: int

    @property
    def token(self) -> Token:
        """Its USDC."""
        return TOKENS[self.chain_id]

    async def balance(self, holder: str) -> int:
        """What an address has."""
        return await balance_of(self.rpc, self.token, holder)

    async def give(self, to: str, amount: int) -> str:
        """Mint to an address; the transaction's hash."""
        return await mint(self.rpc, self.token, to, amount)


def wallet_path(data: Path, name: str) -> Path:
    """Where a wallet is kept. Raises CommandFailed for a name that is none."""
    if not _NAME.fullmatch(name):
        raise CommandFailed(f"{name[:40]!r} is no name of a wallet", "A name is 1 to 32 of a-z, 0-9 and hyphen.")
    return data / "wallets" / f"{name}.json"


def read_wallet(data: Path, name: str = DEMO) -> Wallet:
    """A wallet of the data folder. Raises CommandFailed if there is none."""
    kept = read_private(wallet_path(data, name)) or {}
    address, key = kept.get("address"), kept.get("private_key")
    if not isinstance(address, str) or not isinstance(key, str):
        advice = "`kitectl up` makes the one called demo." if name == DEMO else f"Make it with `kitectl wallet new {name}`."
        raise CommandFailed(f"there is no wallet {name} in {data}", advice)
    return Wallet(name, address, key)


def new_wallet(data: Path, name: str) -> Wallet:
    """Draw a key and keep it, for its owner only. Raises CommandFailed if there is a wallet of that name: a key is never replaced."""
    from eth_keys.constants import SECPK1_N
    from eth_keys.datatypes import PrivateKey

    path = wallet_path(data, name)
    if path.exists():
        raise CommandFailed(f"there is a wallet {name} already", "Choose another name; keys are never replaced.")
    key = PrivateKey((1 + secrets.randbelow(SECPK1_N - 1)).to_bytes(32, "big"))
    wallet = Wallet(name, key.public_key.to_checksum_address(), key.to_hex())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, {"address": wallet.address, "private_key": wallet.private_key})
    return wallet


async def demo_wallet(data: Path, chain: LocalChain) -> Wallet:
    """The wallet called demo, made if there is none, filled up if it runs low. Raises CommandFailed."""
    wallet = read_wallet(data) if wallet_path(data, DEMO).exists() else new_wallet(data, DEMO)
    balance = await chain.balance(wallet.address)
    if balance < _LOW:
        await chain.give(wallet.address, MOST_AT_ONCE - balance)
    return wallet


@asynccontextmanager
async def chain_of_stack(data: Path) -> AsyncIterator[LocalChain]:
    """The chain of the stack that runs in a data folder. Raises CommandFailed if there is none."""
    stack = find_stack(data)
    if stack is None:
        raise nothing_found(data, "nothing: wallets are for the local chain")
    if stack.chain is None:
        raise CommandFailed("the local stack has no chain", "Start it without --no-chain.", EXIT_UNAVAILABLE)
    async with local_chain(stack.chain) as chain:
        yield chain


@asynccontextmanager
async def local_chain(address: ChainAddress) -> AsyncIterator[LocalChain]:
    """A chain by its address; whatever is not anvil is refused. Raises CommandFailed, also for what fails inside."""
    try:
        async with local_rpc(address.rpc_url) as rpc:
            if not str(await rpc.call("web3_clientVersion")).startswith("anvil/"):
                raise CommandFailed("this is not a local chain", "Test money is made on the chain of `kitectl up` only.")
            yield LocalChain(rpc, address.chain_id)
    except RpcFailed as error:
        advice = "See `kitectl status`, and the log of chain."
        raise CommandFailed(f"the local chain does not do it: {error}", advice, EXIT_UNAVAILABLE) from error


def parse_usdc(text: str) -> int:
    """An amount of USDC as people write it, in atomic units. Raises CommandFailed unless it is above 0 and at most 100."""
    try:
        atomic = Decimal(text) * _USDC
        if atomic == atomic.to_integral_value() and 0 < atomic <= MOST_AT_ONCE:
            return int(atomic)
    except (InvalidOperation, OverflowError):
        pass
    raise CommandFailed(f"{text[:40]!r} is not an amount to give", "Up to 100 USDC, with at most six digits after the point.")
