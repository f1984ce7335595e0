"""What a wallet has on the local chain, and more of it for nothing. On any other chain there is nothing to be had here."""

from pathlib import Path
from typing import Final

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.found import FoundStack, find_stack
from kite_cli.local.chain.known import CHAIN_ID, TOKENS
from kite_cli.local.chain.rpc import RpcFailed, local_rpc
from kite_cli.local.chain.token import balance_of, is_anvil, mint
from kite_common.errors import Malformed
from kite_common.x402.networks import checksum, parse_address

MOST_USDC: Final = 100
_ATOMIC: Final = 1_000_000


def chain_url(stack: FoundStack | None) -> str | None:
    """Where the chain of a stack answers, None if it has none."""
    return None if stack is None or stack.chain is None else stack.chain.rpc_url


def parse_recipient(text: str) -> str:
    """An address in EIP-55 casing. Raises CommandFailed for anything else, also for a wrong digit where the casing tells."""
    try:
        return checksum(parse_address(text))
    except Malformed as error:
        raise CommandFailed(f"{text[:60]!r} cannot be used: {error}", "Give 0x and 40 hex digits, as wallets show them.") from None


async def local_balance(data: Path, address: str) -> int | None:
    """What an address has on the local chain, in atomic units; None where there is no such chain."""
    url = chain_url(find_stack(data))
    if url is None:
        return None
    try:
        async with local_rpc(url) as rpc:
            return await balance_of(rpc, TOKENS[CHAIN_ID], address)
    except RpcFailed:
        return None


async def pour(data: Path, address: str, usdc: int, rpc_url: str | None = None) -> tuple[str, int]:
    """Mint to an address on the local chain of the data folder, or on the one at `rpc_url`, which must be anvil all the same.

    The transaction and the balance after it. Raises CommandFailed.
    """
    url = rpc_url or chain_url(find_stack(data))
    if url is None:
        advice = "Start one with `make run`; on a real network get test USDC from its faucet."
        raise CommandFailed(f"no local chain runs in {data}", advice, EXIT_UNAVAILABLE)
    try:
        async with local_rpc(url) as rpc:
            if not await is_anvil(rpc):
                raise CommandFailed("what answers there is no local chain", "The faucet works with anvil alone.")
            transaction = await mint(rpc, TOKENS[CHAIN_ID], address, usdc * _ATOMIC)
            return transaction, await balance_of(rpc, TOKENS[CHAIN_ID], address)
    except RpcFailed as error:
        raise CommandFailed(f"the local chain refuses: {error}", "See its log.", EXIT_UNAVAILABLE) from error
