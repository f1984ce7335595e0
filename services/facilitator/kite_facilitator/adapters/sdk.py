"""The x402 SDK's facilitator on a thread pool: its calls are synchronous and wait for confirmations. web3 is loaded when it is built."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from kite_facilitator.application.ports import Payment, Settled

_THREADS: Final = 16
ResultT = TypeVar("ResultT")


class SdkChain:
    """`kite_facilitator.application.ports.Chain`."""

    def __init__(self, private_key: str, rpc_url: str, network: str, confirm_s: float) -> None:
        # Half a second and 65 MB: only the process that needs it, only when it starts.
        from x402 import x402FacilitatorSync
        from x402.mechanisms.evm.exact.register import register_exact_evm_facilitator
        from x402.mechanisms.evm.signers import FacilitatorWeb3Signer

        self._signer = FacilitatorWeb3Signer(private_key, rpc_url, confirmation_timeout_seconds=confirm_s)
        self._sdk = register_exact_evm_facilitator(x402FacilitatorSync(), self._signer, networks=[network])
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="facilitator")

    @property
    def address(self) -> str:
        """Who signs the transactions and pays for them."""
        return str(self._signer.address)

    def supported(self) -> Mapping[str, Any]:
        """What is settled, in the SDK's words."""
        return _body(self._sdk.get_supported())

    async def verify(self, payment: Payment) -> Mapping[str, Any]:
        """The SDK's answer as JSON by alias, without nulls."""
        return _body(await self._run(lambda: self._sdk.verify(payment.payload, payment.requirements)))

    async def settle(self, payment: Payment) -> Settled:
        """The same for a settlement; it ends, at the latest, when the confirmation's time is over."""
        answer = await self._run(lambda: self._sdk.settle(payment.payload, payment.requirements))
        return Settled(answer.success, answer.error_reason, answer.transaction or "", _body(answer))

    async def gas_wei(self) -> int:
        """The balance of the signer. Raises OSError."""
        return await self._run(lambda: int(self._signer._w3.eth.get_balance(self._signer._account.address)))

    def close(self) -> None:
        """Begin no call any more; calls that have begun end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: Callable[[], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


def _body(answer: Any) -> Mapping[str, Any]:
    body: dict[str, Any] = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
    return body
