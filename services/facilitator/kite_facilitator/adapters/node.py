"""The SDK's signer with what it lacks: bounded waits, a transaction count that heals, and a memory of what went wrong in a call.

Loading this module loads web3.
"""

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from eth_typing import HexStr
from web3 import HTTPProvider, Web3
from web3.exceptions import BadFunctionCallOutput, ContractLogicError
from web3.types import FilterParams, LogReceipt
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.constants import AUTHORIZATION_STATE_ABI
from x402.mechanisms.evm.exact.eip3009_utils import verify_eip3009_transfer_event
from x402.mechanisms.evm.types import TransactionReceipt

from kite_common.runtime import faults
from kite_common.x402.networks import checksum
from kite_facilitator.domain.answer import Used
from kite_facilitator.domain.order import Order

# Callers wait 5 s for a verify: a node that is slower than that has lost them anyway.
_ANSWER_S: Final = 4.0
# How far back a use is looked for: a day of blocks of 2 s, in steps that public nodes allow. Windows are an hour at most.
_LOOK_BACK: Final = 43_200
_STEP: Final = 2_000
_USED_TOPIC: Final = Web3.to_hex(Web3.keccak(text="AuthorizationUsed(address,bytes32)"))


@dataclass(slots=True)
class Trouble:
    """What one call met: a node without a usable answer, an attempt to send."""

    node_away: bool = False
    sending: bool = False


class Node(FacilitatorWeb3Signer):
    """A node and the key. Blocks; a call is one thread's, from `watched` to its end."""

    def __init__(self, private_key: str, rpc_url: str, confirm_s: float) -> None:
        super().__init__(private_key, rpc_url, confirmation_timeout_seconds=confirm_s)
        # The SDK's own provider waits 30 s and repeats sends, and a repeated send is answered with an error although the first one landed.
        self._w3.provider = HTTPProvider(rpc_url, request_kwargs={"timeout": _ANSWER_S}, exception_retry_configuration=None)
        self._calls = threading.local()

    @contextmanager
    def watched(self) -> Generator[Trouble, None, None]:
        """Remember what goes wrong inside, in this thread."""
        self._calls.trouble = trouble = Trouble()
        try:
            yield trouble
        finally:
            del self._calls.trouble

    def chain_id(self) -> int:
        """The number of the node's chain, asked anew."""
        with self._noting():
            return int(self._w3.eth.chain_id)

    def gas_wei(self) -> int:
        """What the key has for fees."""
        with self._noting():
            return int(self._w3.eth.get_balance(Web3.to_checksum_address(self.address)))

    def used(self, order: Order, asset: str) -> Used | None:
        """What became of the order's nonce, None while it is unused. `asset` is the token's address."""
        nonce = bytes.fromhex(order.authorization.nonce[2:])
        payer = checksum(order.authorization.from_address)
        if not self.read_contract(asset, AUTHORIZATION_STATE_ABI, "authorizationState", payer, nonce):
            return None
        with self._noting():
            use = self._find_use(order, asset)
            return Used(Web3.to_hex(use["transactionHash"]) if use is not None and self._pays(use, order, asset) else None)

    def read_contract(self, address: str, abi: list[dict[str, Any]], function_name: str, *args: Any) -> Any:
        """As the SDK's."""
        with self._noting():
            return super().read_contract(address, abi, function_name, *args)

    def get_code(self, address: str) -> bytes:
        """As the SDK's."""
        with self._noting():
            return super().get_code(address)

    def write_contract(
        self, address: str, abi: list[dict[str, Any]], function_name: str, *args: Any, data_suffix: str | None = None
    ) -> str:
        """As the SDK's; after a failure the node is asked for the transaction count again, so that no gap stays."""
        self._trouble.sending = True
        faults.reached("facilitator.settle.before_send")
        try:
            transaction = super().write_contract(address, abi, function_name, *args, data_suffix=data_suffix)
        except BaseException:
            with self._nonce_lock:
                self._next_nonce = None
            raise
        faults.reached("facilitator.settle.sent")
        return transaction

    def send_transaction(self, to: str, data: bytes) -> str:  # noqa: ARG002 - the SDK's signature
        """Refused: the SDK sends so only to deploy wallets of contracts, which do not pay Kite. Raises RuntimeError always."""
        raise RuntimeError("no wallet is deployed")

    def wait_for_transaction_receipt(self, tx_hash: str) -> TransactionReceipt:
        """As the SDK's."""
        receipt = super().wait_for_transaction_receipt(tx_hash)
        faults.reached("facilitator.settle.mined")
        return receipt

    @property
    def _trouble(self) -> Trouble:
        return getattr(self._calls, "trouble", None) or Trouble()

    @contextmanager
    def _noting(self) -> Generator[None, None, None]:
        try:
            yield
        except (ContractLogicError, BadFunctionCallOutput):
            raise  # the contract's answer, not the node's failure
        except Exception:
            self._trouble.node_away = True
            raise

    def _find_use(self, order: Order, asset: str) -> LogReceipt | None:
        head = int(self._w3.eth.block_number)
        payer = "0x" + order.authorization.from_address[2:].rjust(64, "0")
        topics = [HexStr(_USED_TOPIC), HexStr(payer), HexStr(order.authorization.nonce)]
        for last in range(head, max(-1, head - _LOOK_BACK), -_STEP):
            wanted: FilterParams = {
                "address": Web3.to_checksum_address(asset), "topics": topics,
                "fromBlock": Web3.to_hex(max(0, last - _STEP + 1)), "toBlock": Web3.to_hex(last),
            }  # fmt: skip
            found = self._w3.eth.get_logs(wanted)
            if found:
                return found[-1]
        return None

    def _pays(self, use: LogReceipt, order: Order, asset: str) -> bool:
        """Whether the transfer that was ordered stands directly behind the use: a transaction may use two nonces and pay once."""
        logs: Sequence[LogReceipt] = self._w3.eth.get_transaction_receipt(use["transactionHash"])["logs"]
        behind: list[object] = [dict(log) for log in logs if log["logIndex"] == use["logIndex"] + 1]
        signed = order.authorization
        return verify_eip3009_transfer_event(
            behind, asset, from_address=signed.from_address, to=signed.to_address, value=int(signed.value)
        )
