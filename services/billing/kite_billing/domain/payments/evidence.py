"""What logs of the token prove of an authorization. Pure: judges what was read, reads nothing.

One transaction can use two authorizations and pay once. So it counts only what stands directly behind the use: `AuthorizationUsed` at log
index i, `Transfer` with the signed values at i + 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kite_billing.domain.payments.facts import Closed, Evidence, NotYet, Paid, Question, Stray
from kite_common.events.payment_record import Place

# keccak256 of AuthorizationUsed(address,bytes32), AuthorizationCanceled(address,bytes32), Transfer(address,address,uint256).
AUTHORIZATION_USED: Final = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
AUTHORIZATION_CANCELED: Final = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81"
TRANSFER: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


@dataclass(frozen=True, slots=True)
class Block:
    """A block's number, hash and time (unix seconds)."""

    number: int
    hash: str
    timestamp_s: int


@dataclass(frozen=True, slots=True)
class Log:
    """One log of a mined transaction. Everything hex is lower case with 0x."""

    address: str
    topics: tuple[str, ...]
    data: str
    block: int
    block_hash: str
    transaction: str
    index: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined transaction; `succeeded`: it was not reverted."""

    transaction: str
    block: int
    block_hash: str
    succeeded: bool
    logs: tuple[Log, ...]


def word_of(address: str) -> str:
    """An address as a topic."""
    return "0x" + address.removeprefix("0x").lower().rjust(64, "0")


def address_of(topic: str) -> str:
    """The address in a topic."""
    return "0x" + topic[-40:]


def amount_of(log: Log) -> int:
    """The value of a Transfer."""
    return int(log.data, 16) if len(log.data) > len("0x") else 0


def use_in(receipt: Receipt, asset: str, question: Question) -> Log | None:
    """The log by which a transaction used the authorization, None if it did not."""
    if not receipt.succeeded or question.nonce is None:
        return None
    wanted = (AUTHORIZATION_USED, word_of(question.payer), question.nonce)
    return next((log for log in receipt.logs if log.address == asset and log.topics == wanted), None)


def judge_use(use: Log, receipt: Receipt, asset: str, question: Question, head: int) -> Evidence:
    """What the use of the authorization came to, if it is deep enough."""
    if head - use.block + 1 < question.needed_depth:
        return NotYet(use.transaction)
    transfer = next((log for log in receipt.logs if log.index == use.index + 1), None)
    if transfer is None or not _pays(transfer, asset, question):
        return Closed("authorization_used_elsewhere", None if transfer is None else _stray(transfer, asset, question))
    return Paid(_place(transfer))


def judge_cancel(cancel: Log, question: Question, head: int) -> Evidence:
    """A cancellation, if it is deep enough."""
    deep = head - cancel.block + 1 >= question.needed_depth
    return Closed("authorization_canceled") if deep else NotYet(cancel.transaction)


def judge_transfer(receipt: Receipt, asset: str, question: Question, head: int) -> Evidence | None:
    """A transfer without authorization: where it stands now; None if it is not in that transaction any more.

    It is known by its number among the logs of its transaction: log indexes count through the block, and another block has others.
    """
    numbered = receipt.logs[question.transfer_number : question.transfer_number + 1] if question.transfer_number is not None else ()
    transfer = next((log for log in numbered if receipt.succeeded and _pays(log, asset, question)), None)
    if transfer is None:
        return None
    return Paid(_place(transfer)) if head - transfer.block + 1 >= question.needed_depth else NotYet(transfer.transaction)


def used_before(transfer: Log, logs: Sequence[Log], asset: str) -> str | None:
    """The nonce whose use stands directly before a transfer of the same payer, None for a transfer without authorization."""
    before = next((log for log in logs if log.index == transfer.index - 1), None)
    if before is None or before.address != asset or len(before.topics) != 3 or before.topics[0] != AUTHORIZATION_USED:
        return None
    return before.topics[2] if before.topics[1] == transfer.topics[1] else None


def _stray(log: Log, asset: str, question: Question) -> Stray | None:
    """What a transfer that is not the signed one brought to an address of ours, as the scanner counts it; None if nothing."""
    if log.address != asset or len(log.topics) != 3 or log.topics[:2] != (TRANSFER, word_of(question.payer)):
        return None
    paid_to, value = address_of(log.topics[2]), amount_of(log)
    is_income = paid_to in question.recipients and paid_to != question.payer and value > 0
    return Stray(_place(log), paid_to, value) if is_income else None


def _pays(log: Log, asset: str, question: Question) -> bool:
    wanted = (TRANSFER, word_of(question.payer), word_of(question.pay_to))
    return log.address == asset and log.topics == wanted and amount_of(log) == question.value


def _place(log: Log) -> Place:
    return Place(transaction=log.transaction, block=log.block, block_hash=log.block_hash, log_index=log.index)
