"""The SDK's facilitator as a Chain: it blocks, so it runs in threads; it gets canonical values; its texts stay here.

Loading this module loads web3.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from x402 import x402FacilitatorSync
from x402.mechanisms.evm.exact import register_exact_evm_facilitator
from x402.schemas import PaymentPayload, PaymentRequirements

from kite_common.x402.networks import Asset, checksum
from kite_common.x402.wire import SCHEME
from kite_facilitator.adapters.node import Node
from kite_facilitator.application.ports import ChainAway
from kite_facilitator.domain.answer import Settled, Used, Verified
from kite_facilitator.domain.order import Order

# A settle holds its thread until its receipt, so looks have threads of their own.
_SETTLES_AT_ONCE: Final = 16
_LOOKS_AT_ONCE: Final = 8
T = TypeVar("T")


class SdkChain:
    """`kite_facilitator.application.ports.Chain` with the SDK on a node."""

    def __init__(self, node: Node, asset: Asset) -> None:
        # They log what nodes answer, and a node's address may be a secret.
        for name in ("x402", "web3", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._node, self._asset = node, asset
        self._sdk = register_exact_evm_facilitator(x402FacilitatorSync(), node, networks=[asset.network])
        self._settles = ThreadPoolExecutor(_SETTLES_AT_ONCE, thread_name_prefix="settle")
        self._looks = ThreadPoolExecutor(_LOOKS_AT_ONCE, thread_name_prefix="look")

    @property
    def signer(self) -> str:
        """The address of the key."""
        return self._node.address

    def supported(self) -> dict[str, Any]:
        """What GET /supported tells: of what the SDK supports, what is served here."""
        told: dict[str, Any] = self._sdk.get_supported().model_dump(by_alias=True, exclude_none=True)
        served = {(2, self._asset.network), (1, self._asset.v1_network)}
        return told | {"kinds": [kind for kind in told["kinds"] if (kind["x402Version"], kind["network"]) in served]}

    async def verify(self, order: Order) -> Verified:
        """As the SDK says; without a node it says nothing."""
        return await self._run(self._looks, lambda: self._verify(order))

    async def used(self, order: Order) -> Used | None:
        """As logs and receipt of the token tell."""
        return await self._run(self._looks, lambda: self._node.used(order, self._asset.checksum))

    async def settle(self, order: Order) -> Settled:
        """As the SDK says, unless the node was away before anything was sent."""
        return await self._run(self._settles, lambda: self._settle(order))

    async def chain_id(self) -> int:
        """As the node says."""
        return await self._run(self._looks, self._node.chain_id)

    async def gas_wei(self) -> int:
        """As the node says."""
        return await self._run(self._looks, self._node.gas_wei)

    def close(self) -> None:
        """Begin nothing any more."""
        for pool in (self._settles, self._looks):
            pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, order: Order) -> Verified:
        with self._node.watched() as trouble:
            said = self._sdk.verify(*self._arguments(order))
            if not said.is_valid and trouble.node_away:
                raise ChainAway("the node does not answer")
        return Verified(said.is_valid, said.invalid_reason)

    def _settle(self, order: Order) -> Settled:
        with self._node.watched() as trouble:
            said = self._sdk.settle(*self._arguments(order))
            if not said.success and trouble.node_away and not trouble.sending:
                raise ChainAway("the node does not answer")
        return Settled(said.success, said.transaction, said.error_reason)

    def _arguments(self, order: Order) -> tuple[PaymentPayload, PaymentRequirements]:
        asset, signed = self._asset, order.authorization
        wanted = PaymentRequirements(
            scheme=SCHEME, network=asset.network, asset=asset.checksum, amount=str(order.amount), pay_to=checksum(order.pay_to),
            max_timeout_seconds=order.max_timeout_s, extra={"name": asset.name, "version": asset.version},
        )  # fmt: skip
        authorization = {
            "from": checksum(signed.from_address), "to": checksum(signed.to_address), "value": signed.value,
            "validAfter": signed.valid_after, "validBefore": signed.valid_before, "nonce": signed.nonce,
        }  # fmt: skip
        return PaymentPayload(payload={"signature": order.signature, "authorization": authorization}, accepted=wanted), wanted

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except ChainAway:
            raise
        except Exception as error:  # noqa: BLE001 - web3, requests and the SDK raise what they like; all of it is before a send
            raise ChainAway(f"the node gave no usable answer ({type(error).__name__})") from None
