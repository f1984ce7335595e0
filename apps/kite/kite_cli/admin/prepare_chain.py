"""Makes an anvil that somebody else has started a chain for payments: our token at USDC's address. Starts no node."""

import asyncio
from dataclasses import dataclass
from typing import Final

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.local.chain.known import TOKENS, Token
from kite_cli.local.chain.rpc import Rpc, RpcFailed, RpcRefused, local_rpc
from kite_cli.local.chain.token import is_anvil, is_set_up, set_up
from kite_cli.local.readiness import until

_LOOK_EVERY_S: Final = 0.2
# Setting up is two calls and a block; longer than this is a chain that does not mine.
_SET_UP_WITHIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class PreparedChain:
    """A chain with its token; `is_new` if that was put there just now."""

    chain_id: int
    token: str
    is_new: bool


async def prepare_chain(url: str, within_s: float) -> PreparedChain:
    """Wait up to `within_s` seconds until the node answers, then put the token there, unless it is. Repeating it changes nothing.

    Raises CommandFailed if none answers, if it is no anvil, if no token is known for its chain id, or if it refuses.
    """
    try:
        async with local_rpc(url) as rpc:
            await _answering(rpc, within_s)
            if not await is_anvil(rpc):
                raise CommandFailed("what answers there is no local chain", "Name an anvil: only there this is done.")
            chain_id = await rpc.number("eth_chainId")
            token = _token_of(chain_id)
            is_new = not await is_set_up(rpc, token)
            async with asyncio.timeout(_SET_UP_WITHIN_S):
                await set_up(rpc, token)
            return PreparedChain(chain_id, token.address, is_new)
    except (RpcFailed, TimeoutError) as error:
        raise CommandFailed(f"the chain does not do it: {error}", "See its log, then repeat the command.", EXIT_UNAVAILABLE) from error


async def _answering(rpc: Rpc, within_s: float) -> None:
    async def answers() -> bool:
        try:
            await rpc.call("web3_clientVersion")
        except RpcRefused:
            return True
        except RpcFailed:
            return False
        return True

    try:
        async with asyncio.timeout(within_s):
            await until(answers, _LOOK_EVERY_S)
    except TimeoutError:
        raise CommandFailed("no chain answers there", "Start it, or correct --rpc-url.", EXIT_UNAVAILABLE) from None


def _token_of(chain_id: int) -> Token:
    token = TOKENS.get(chain_id)
    if token is None:
        known = ", ".join(map(str, TOKENS))
        raise CommandFailed(f"no token is known for chain {chain_id}", f"Start anvil with --chain-id, one of {known}.")
    return token
