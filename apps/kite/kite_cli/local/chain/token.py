"""The token of a local chain: our own code at the canonical USDC address, with the EIP-712 name and version of the real one.

MockUSDC.sol is its source (solc 0.8.37, EVM version paris, optimizer 200 runs, viaIR), MockUSDC.json what the compiler made of it.
Anybody may mint.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from kite_cli.local.chain.known import SETUP, Token
from kite_cli.local.chain.rpc import Rpc, RpcFailed
from kite_cli.local.readiness import until

_ARTIFACT: Final = Path(__file__).with_name("MockUSDC.json")
_POLL_S: Final = 0.05
# The first four bytes of keccak-256 of each signature.
_NAME: Final = "0x06fdde03"  # name()
_BALANCE_OF: Final = "0x70a08231"  # balanceOf(address)
_INITIALIZE: Final = "0x4cd88b76"  # initialize(string,string)
_MINT: Final = "0x40c10f19"  # mint(address,uint256)
# How its version begins.
_IS_ANVIL: Final = "anvil/"


@cache
def artifact() -> dict[str, Any]:
    """What the compiler made of MockUSDC.sol: `abi`, `bytecode`, `deployedBytecode`."""
    made: dict[str, Any] = json.loads(_ARTIFACT.read_text("utf-8"))
    return made


async def is_anvil(rpc: Rpc) -> bool:
    """Say whether it is a chain whose owner may put code anywhere, so that nothing on it is worth anything. Raises RpcFailed."""
    return str(await rpc.call("web3_clientVersion")).startswith(_IS_ANVIL)


async def is_set_up(rpc: Rpc, token: Token) -> bool:
    """Say whether the token answers with its name. Raises RpcFailed."""
    if await rpc.call("eth_getCode", token.address, "latest") in ("0x", None):
        return False
    return _text(await rpc.call("eth_call", {"to": token.address, "data": _NAME}, "latest")) == token.name


async def set_up(rpc: Rpc, token: Token) -> None:
    """Put the token there, unless it is; returns once it is mined. Raises RpcFailed."""
    if await is_set_up(rpc, token):
        return
    await rpc.call("anvil_setCode", token.address, artifact()["deployedBytecode"])
    await sent(rpc, {"to": token.address, "data": _INITIALIZE + _two_texts(token.name, token.version)})


async def mint(rpc: Rpc, token: Token, to: str, amount_atomic: int) -> str:
    """Mint to an address; the transaction's hash once it is mined. Raises RpcFailed."""
    return await sent(rpc, {"to": token.address, "data": _MINT + word(to) + word(amount_atomic)})


async def balance_of(rpc: Rpc, token: Token, holder: str) -> int:
    """How much an address has, in atomic units. Raises RpcFailed."""
    return await rpc.number("eth_call", {"to": token.address, "data": _BALANCE_OF + word(holder)}, "latest")


async def sent(rpc: Rpc, transaction: dict[str, str]) -> str:
    """Let anvil sign a transaction of the account that sets things up, and wait until it is mined; its hash.

    Raises RpcFailed, also if it was mined and reverted. On a chain that does not mine it waits for ever.
    """
    transaction = {"from": SETUP} | transaction
    transaction_hash = str(await rpc.call("eth_sendTransaction", transaction))

    async def is_mined() -> bool:
        return await rpc.call("eth_getTransactionReceipt", transaction_hash) is not None

    await until(is_mined, _POLL_S)
    if (await rpc.call("eth_getTransactionReceipt", transaction_hash))["status"] != "0x1":
        await rpc.call("eth_call", transaction, "latest")  # raises with the reason, if it still is one
        raise RpcFailed(f"transaction {transaction_hash} was reverted")
    return transaction_hash


def word(value: str | int) -> str:
    """An address or a number as an ABI word: 64 hex digits."""
    return f"{value:064x}" if isinstance(value, int) else value.removeprefix("0x").lower().rjust(64, "0")


def _two_texts(first: str, second: str) -> str:
    # ABI: two offsets, then each text as length and bytes; both fit one word.
    return word(64) + word(128) + "".join(word(len(text)) + text.encode().hex().ljust(64, "0") for text in (first, second))


def _text(encoded: str) -> str:
    raw = bytes.fromhex(encoded.removeprefix("0x"))
    return raw[64 : 64 + int.from_bytes(raw[32:64])].decode("utf-8", "replace")
