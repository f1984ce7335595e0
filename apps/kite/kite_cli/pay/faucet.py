"""What a wallet has on the local chain, and more of it for nothing. On any other chain there is nothing to be had here."""

from pathlib import Path
from typing import Final

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.found import FoundStack, find_stack
from kite_cli.local.chain.known import CHAIN_ID, TOKENS
from kite_cli.local.chain.rpc import RpcFailed, local_rpc
from kite_cli.local.chain.token import balance_of, mint

MOST_USDC: Final = 100
_ATOMIC: Final = 1_000_000
_IS_LOCAL: Final = "anvil/"


def chain_url(stack: FoundStack | None) -> str | None:
    """Where the chain of a stack answers, None if it has none."""
    return None if stack is None or stack.chain is None else stack.chain.rpc_url


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


async def pour(data: Path, address: str, usdc: int) -> tuple[str, int]:
    """Mint to an address on the local chain; the transaction and the balance after it. Raises CommandFailed."""
    url = chain_url(find_stack(data))
    if url is None:
        advice = "Start one with `make run`; on a real network get test USDC from its faucet."
        raise CommandFailed(f"no local chain runs in {data}", advice, EXIT_UNAVAILABLE)
    try:
        async with local_rpc(url) as rpc:
            if not str(await rpc.call("web3_clientVersion")).startswith(_IS_LOCAL):
                raise CommandFailed("what answers there is no local chain", "The faucet works with anvil alone.")
            transaction = await mint(rpc, TOKENS[CHAIN_ID], address, usdc * _ATOMIC)
            return transaction, await balance_of(rpc, TOKENS[CHAIN_ID], address)
    except RpcFailed as error:
        raise CommandFailed(f"the local chain refuses: {error}", "See its log in `kitectl status`.", EXIT_UNAVAILABLE) from error
