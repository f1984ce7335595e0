"""A local chain for tests: payers that sign, balances, and the levers that make a chain misbehave.

`chain_of(stack)` is the chain of a running stack; `own_chain(folder)` starts one of its own, ready in a fraction of a second. Tests that
pull levers others would notice (automine, time, reorganisations, the facilitator's gas) or count what payTo has need one of their own.
`running_facilitator` starts the real facilitator, as a process, on either; doubles are in support/chain_faults.py.
"""

import base64
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from kite_cli.local import readiness
from kite_cli.local.chain.anvil import AnvilNode, ChainOptions, anvil_spec
from kite_cli.local.chain.install import ensure_anvil
from kite_cli.local.chain.known import FACILITATOR, FACILITATOR_KEY, PAY_TO, SETUP, Token
from kite_cli.local.chain.rpc import Rpc, local_rpc
from kite_cli.local.chain.token import balance_of, mint, sent, word
from kite_cli.local.environment import tool_environment
from kite_cli.local.folders import lib_folder
from kite_cli.local.ports import LOOPBACK, PortBook
from kite_cli.local.process import Child, ProcessSpec
from kite_cli.local.stack import LocalStack
from kite_cli.local.step import Silent
from kite_common.testing.eventually import eventually

__all__ = [
    "FACILITATOR", "FACILITATOR_KEY", "PAY_TO", "SETUP", "Authorization", "Chain", "Facilitator", "OwnChain", "Payer", "chain_of",
    "own_chain", "running_facilitator",
]  # fmt: skip

USDC: Final = 1_000_000
WINDOW_S: Final = 300
# The first four bytes of keccak-256 of each signature; the first: transferWithAuthorization with v, r, s.
_TRANSFER_WITH_AUTHORIZATION: Final = "0xe3ee160e"
_CANCEL_AUTHORIZATION: Final = "0x5a049a70"  # cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)
_AUTHORIZATION_STATE: Final = "0xe94a0102"  # authorizationState(address,bytes32)
_TRANSFER: Final = "0xa9059cbb"  # transfer(address,uint256)
_CALL_BYTES: Final = 4 + 9 * 32  # calldata of a transferWithAuthorization
_TYPES: Final = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"}, {"name": "to", "type": "address"}, {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"}, {"name": "validBefore", "type": "uint256"}, {"name": "nonce", "type": "bytes32"},
    ],
    "CancelAuthorization": [{"name": "authorizer", "type": "address"}, {"name": "nonce", "type": "bytes32"}],
}  # fmt: skip


@dataclass(frozen=True)
class Authorization:
    """A signed EIP-3009 authorization. Amounts are atomic, times seconds since 1970, `nonce` and `signature` 0x and hex digits."""

    payer: str
    to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str
    signature: str

    def fields(self) -> dict[str, str]:
        """The authorization as payloads carry it."""
        return {
            "from": self.payer, "to": self.to, "value": str(self.value), "validAfter": str(self.valid_after),
            "validBefore": str(self.valid_before), "nonce": self.nonce,
        }  # fmt: skip

    def payload(self) -> dict[str, Any]:
        """The scheme's part of a payment, of both versions of the protocol."""
        return {"signature": self.signature, "authorization": self.fields()}

    def v2(self, accepted: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The payment as protocol version 2 has it; `accepted` is the offer it answers."""
        return {"x402Version": 2, "accepted": accepted, "payload": self.payload(), **more}

    def v1(self, network: str = "base-sepolia") -> dict[str, Any]:
        """The payment as protocol version 1 has it."""
        return {"x402Version": 1, "scheme": "exact", "network": network, "payload": self.payload()}

    def request(self, requirement: dict[str, Any]) -> dict[str, Any]:
        """The body of a call to a facilitator's /verify or /settle."""
        return {"x402Version": 2, "paymentPayload": self.v2(requirement), "paymentRequirements": requirement}

    def request_v1(self, requirement: dict[str, Any]) -> dict[str, Any]:
        """The same in version 1 of the protocol."""
        return {"x402Version": 1, "paymentPayload": self.v1(requirement["network"]), "paymentRequirements": requirement}

    def call(self) -> str:
        """The calldata of its transferWithAuthorization."""
        words: tuple[str | int, ...] = (self.payer, self.to, self.value, self.valid_after, self.valid_before, self.nonce)
        return _TRANSFER_WITH_AUTHORIZATION + "".join(map(word, words)) + _v_r_s(self.signature)


@dataclass(frozen=True)
class Payer:
    """A throwaway account that signs for one token. Has no gas and needs none."""

    account: LocalAccount
    token: Token
    chain_id: int

    @property
    def address(self) -> str:
        """Its address, with the casing of its checksum."""
        return str(self.account.address)

    @property
    def private_key(self) -> str:
        """Its key, 0x and 64 hex digits."""
        return "0x" + bytes(self.account.key).hex()

    def authorize(
        self, value: int = USDC, *, to: str = PAY_TO, valid_after: int = 0, valid_before: int | None = None, nonce: str | None = None
    ) -> Authorization:
        """Sign a transfer, without a given end for five minutes from now, with a nonce nobody had."""
        unsigned = Authorization(
            self.address, to, value, valid_after, int(time.time()) + WINDOW_S if valid_before is None else valid_before,
            nonce or "0x" + secrets.token_hex(32), "",
        )  # fmt: skip
        message = {
            "from": self.address, "to": to, "value": value, "validAfter": valid_after, "validBefore": unsigned.valid_before,
            "nonce": bytes.fromhex(unsigned.nonce[2:]),
        }  # fmt: skip
        return replace(unsigned, signature=self._signed("TransferWithAuthorization", message))

    def cancellation(self, nonce: str) -> str:
        """Sign the cancellation of a nonce; the calldata of its cancelAuthorization."""
        message = {"authorizer": self.address, "nonce": bytes.fromhex(nonce[2:])}
        return _CANCEL_AUTHORIZATION + word(self.address) + word(nonce) + _v_r_s(self._signed("CancelAuthorization", message))

    def _signed(self, primary: str, message: dict[str, Any]) -> str:
        domain = {
            "name": self.token.name, "version": self.token.version, "chainId": self.chain_id, "verifyingContract": self.token.address,
        }  # fmt: skip
        signed = self.account.sign_typed_data(domain, {primary: _TYPES[primary]}, message)
        return "0x" + bytes(signed.signature).hex()


@dataclass(frozen=True)
class Chain:
    """A chain and its token. Amounts are atomic; what the chain refuses raises RpcFailed."""

    rpc: Rpc
    token: Token
    chain_id: int

    @property
    def url(self) -> str:
        """Its JSON-RPC."""
        return self.rpc.url

    @property
    def network(self) -> str:
        """Its CAIP-2 name."""
        return f"eip155:{self.chain_id}"

    def requirement(self, amount: int = USDC, *, pay_to: str = PAY_TO, **extra: Any) -> dict[str, Any]:
        """An offer, as an entry of `accepts` in version 2; `extra` is added to its `extra`."""
        return {
            "scheme": "exact", "network": self.network, "asset": self.token.address, "amount": str(amount), "payTo": pay_to,
            "maxTimeoutSeconds": WINDOW_S, "extra": {"name": self.token.name, "version": self.token.version, **extra},
        }  # fmt: skip

    def requirement_v1(self, amount: int = USDC) -> dict[str, Any]:
        """The same offer as version 1 of the protocol has it, on Base Sepolia."""
        return {
            "scheme": "exact", "network": "base-sepolia", "maxAmountRequired": str(amount), "resource": "http://127.0.0.1/",
            "payTo": PAY_TO, "maxTimeoutSeconds": WINDOW_S, "asset": self.token.address,
            "extra": {"name": self.token.name, "version": self.token.version},
        }  # fmt: skip

    async def payer(self, balance: int = 100 * USDC) -> Payer:
        """A new account with that much."""
        payer = Payer(Account.create(), self.token, self.chain_id)
        if balance:
            await self.mint(payer.address, balance)
        return payer

    async def mint(self, to: str, amount: int) -> str:
        """Give somebody tokens; the transaction's hash. Waits until it is mined."""
        return await mint(self.rpc, self.token, to, amount)

    async def balance(self, holder: str) -> int:
        """How much somebody has."""
        return await balance_of(self.rpc, self.token, holder)

    async def is_used(self, payer: str, nonce: str) -> bool:
        """Whether a nonce was used or cancelled."""
        call = {"to": self.token.address, "data": _AUTHORIZATION_STATE + word(payer) + word(nonce)}
        return bool(await self.rpc.number("eth_call", call, "latest"))

    async def receipt(self, transaction: str) -> dict[str, Any] | None:
        """The receipt of a transaction, None while it is not mined."""
        found: dict[str, Any] | None = await self.rpc.call("eth_getTransactionReceipt", transaction)
        return found

    async def head(self) -> int:
        """The number of the newest block."""
        return await self.rpc.number("eth_blockNumber")

    # Third parties.

    async def front_run(self, authorization: Authorization) -> str:
        """Submit an authorization from account 0, as anybody may; the transaction's hash."""
        return await sent(self.rpc, {"to": self.token.address, "data": authorization.call()})

    async def reverted(self, authorization: Authorization) -> str:
        """Submit an authorization that the token refuses, without asking the node first whether it would; the hash, once it is mined."""
        call = {"from": SETUP, "to": self.token.address, "data": authorization.call(), "gas": "0x7a120"}
        transaction = str(await self.rpc.call("eth_sendTransaction", call))
        receipt = await eventually(lambda: self.receipt(transaction), within_s=5, what="it is mined")
        assert receipt["status"] == "0x0"
        return transaction

    async def cancel(self, payer: Payer, nonce: str) -> str:
        """Cancel a nonce with its payer's signature; the transaction's hash."""
        return await sent(self.rpc, {"to": self.token.address, "data": payer.cancellation(nonce)})

    async def transfer(self, to: str, amount: int) -> str:
        """A plain transfer of account 0's tokens, without an authorization; the transaction's hash."""
        await self.mint(SETUP, amount)
        return await sent(self.rpc, {"to": self.token.address, "data": _TRANSFER + word(to) + word(amount)})

    async def both_in_one(self, first: Authorization, second: Authorization) -> str:
        """Use two authorizations in one transaction, by a contract that calls the token twice; the transaction's hash."""
        contract = "0x" + secrets.token_hex(20)
        await self.rpc.call("anvil_setCode", contract, _twice(self.token.address))
        return await sent(self.rpc, {"to": contract, "data": first.call() + second.call().removeprefix("0x"), "gas": "0x7a120"})

    # Levers on the chain.

    async def automine(self, on: bool) -> None:
        """Whether a transaction gets its block at once; without, it stays pending until `mine`."""
        await self.rpc.call("evm_setAutomine", on)

    async def mine(self, blocks: int = 1) -> None:
        """Mine that many blocks."""
        await self.rpc.call("anvil_mine", hex(blocks))

    async def set_gas(self, address: str, wei: int) -> None:
        """Set how much ether an account has."""
        await self.rpc.call("anvil_setBalance", address, hex(wei))

    async def gas(self, address: str) -> int:
        """How much ether an account has, in wei."""
        return await self.rpc.number("eth_getBalance", address, "latest")

    async def reorg(self, depth: int = 1) -> None:
        """Replace the newest blocks by empty ones: their transactions are gone. Not on a chain that was loaded from a file.

        Restart the facilitator afterwards: its transaction counter never goes down.
        """
        await self.rpc.call("anvil_reorg", depth, [])

    async def snapshot(self) -> str:
        """Remember the state; the id `revert` takes, once."""
        return str(await self.rpc.call("evm_snapshot"))

    async def revert(self, snapshot: str) -> None:
        """Go back to a state, time included. Restart the facilitator afterwards."""
        if await self.rpc.call("evm_revert", snapshot) is not True:
            raise RuntimeError(f"there is no snapshot {snapshot}")

    async def increase_time(self, seconds: int) -> None:
        """Let time pass on the chain, and mine a block that shows it."""
        await self.rpc.call("evm_increaseTime", seconds)
        await self.rpc.call("evm_mine")

    @asynccontextmanager
    async def later(self, seconds: int) -> AsyncIterator[None]:
        """The chain as it is `seconds` later; afterwards it is again as before, because payers sign by the host's clock."""
        before = await self.snapshot()
        try:
            await self.increase_time(seconds)
            yield
        finally:
            await self.revert(before)


@dataclass(frozen=True)
class OwnChain(Chain):
    """A chain of one test: `child` may be killed, stopped, frozen. Without `keeps` a killed one comes back empty, with its token."""

    child: Child
    node: AnvilNode


@asynccontextmanager
async def chain_of(local: LocalStack) -> AsyncIterator[Chain]:
    """The chain of a running stack, started if it has none."""
    await local.start_chain()
    async with local_rpc(local.chain.url) as rpc:
        yield Chain(rpc, local.chain.token, local.chain.options.chain_id)


@asynccontextmanager
async def own_chain(folder: Path, options: ChainOptions | None = None) -> AsyncIterator[OwnChain]:
    """A chain of one's own, with its token in place."""
    book = PortBook()
    node = AnvilNode(folder, await ensure_anvil(lib_folder(), Silent()), book.pick(), options or ChainOptions())
    child = _child(anvil_spec(node, tool_environment()), folder)
    try:
        await child.start()
        async with local_rpc(node.url) as rpc:
            yield OwnChain(rpc, node.token, node.options.chain_id, child, node)
    finally:
        await child.stop()
        book.release()


@dataclass(frozen=True)
class Facilitator:
    """A real facilitator as a process."""

    url: str
    child: Child
    endings: list[str]
    http: httpx.AsyncClient = field(repr=False)

    async def verify(self, request: dict[str, Any]) -> httpx.Response:
        """POST /verify."""
        return await self.http.post("/verify", json=request)

    async def settle(self, request: dict[str, Any]) -> httpx.Response:
        """POST /settle."""
        return await self.http.post("/settle", json=request)

    async def is_ready(self) -> bool:
        """Whether /readyz says so."""
        try:
            return (await self.http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False


@asynccontextmanager
async def running_facilitator(
    chain: Chain, folder: Path, *, rpc_url: str | None = None, waits: bool = True, **env: str
) -> AsyncIterator[Facilitator]:
    """The facilitator on a chain, with account 1's gas; `env` are further settings, `rpc_url` a proxy before the chain.
    Without `waits` it may not be ready yet.

    `endings` of it are told in words: how the process ended, each time that it did so unasked.
    """
    async with AsyncExitStack() as open_things:
        book = PortBook()
        open_things.callback(book.release)
        port = book.pick()
        settings = {
            "KITE_HOST": LOOPBACK, "KITE_PORT": str(port), "X402_NETWORK": chain.network, "X402_PAY_TO": PAY_TO,
            "X402_FACILITATOR_RPC_URL": rpc_url or chain.url, "X402_FACILITATOR_EVM_PRIVATE_KEY": FACILITATOR_KEY, "PYTHONUNBUFFERED": "1",
        }  # fmt: skip

        async def ready() -> bool:
            return await readiness.answers_ok(LOOPBACK, port, "/readyz")

        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("X402_", "KITE_"))}
        command = (sys.executable, "-m", "kite_facilitator.main")
        endings: list[str] = []
        spec = ProcessSpec("facilitator", command, ready, inherited | settings | env, ready_within_s=60.0)
        child = _child(spec, folder, lambda _name, text: endings.append(text))
        open_things.push_async_callback(child.stop)
        child.begin()
        if waits:
            await child.wait_ready()
        url = f"http://{LOOPBACK}:{port}"
        http = await open_things.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False, timeout=60))
        yield Facilitator(url, child, endings, http)


def header(payment: dict[str, Any]) -> str:
    """A payment as its header's value."""
    return base64.b64encode(json.dumps(payment).encode()).decode()


def _child(spec: ProcessSpec, folder: Path, warn: Callable[[str, str], None] = lambda _name, _text: None) -> Child:
    folder.mkdir(parents=True, exist_ok=True)
    return Child(spec, log=folder / f"{spec.name}.log", folder=folder, changed=lambda _name, _identity: None, warn=warn)


def _v_r_s(signature: str) -> str:
    raw = bytes.fromhex(signature.removeprefix("0x"))
    return word(raw[64]) + raw[:64].hex()


def _twice(token: str) -> str:
    """The code of a contract that hands each half of its calldata to the token, and reverts unless both calls succeed."""
    size = f"{_CALL_BYTES:04x}"
    # CALL takes gas, address, value, offset and size of the arguments, offset and size of the answer; the last are pushed first.
    calls = [f"6000600061{size}61{offset:04x}600073{token[2:].lower()}5af1" for offset in (0, _CALL_BYTES)]
    copy = f"61{2 * _CALL_BYTES:04x}6000600037"
    head = copy + "".join(calls) + "16"  # AND of both answers
    jump, revert = "61{:04x}57", "60006000fd"
    return "0x" + head + jump.format((len(head) + len(jump.format(0)) + len(revert)) // 2) + revert + "5b00"
