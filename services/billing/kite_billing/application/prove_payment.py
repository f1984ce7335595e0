"""Asks the chain what became of an authorization. Everything but an unused one counts only so deep in the chain as the question wants."""

from typing import Final

from kite_billing.application.ports import Chain, ChainUnreadable
from kite_billing.domain.payments.evidence import AUTHORIZATION_USED, Block, judge_cancel, judge_transfer, judge_use, use_in
from kite_billing.domain.payments.facts import Closed, Evidence, Open, Question, Unreadable

LOG_MISSING: Final = "authorization_log_missing"
_RANGE_BLOCKS: Final = 2_000
# How far before the claim an authorization may have been used: a day on a chain with a block every two seconds.
_BEFORE_CLAIM: Final = 43_200


async def prove(chain: Chain, asset: str, question: Question) -> tuple[Evidence, int]:
    """The evidence, and the number of the newest block it was read at (0 if not even that is known). Raises nothing."""
    head = 0
    try:
        newest = await chain.head()
        head = newest.number
        return await _evidence(chain, asset, question, newest), head
    except ChainUnreadable as error:
        return Unreadable(str(error)), head


async def _evidence(chain: Chain, asset: str, question: Question, head: Block) -> Evidence:
    if question.nonce is None:
        return await _of_transfer(chain, asset, question, head)
    reverted: list[str] = []
    for hint in question.hints:
        receipt = await chain.receipt(hint)
        use = None if receipt is None else use_in(receipt, asset, question)
        if receipt is not None and use is not None:
            return judge_use(use, receipt, asset, question, head.number)
        if receipt is not None and not receipt.succeeded and receipt.block <= head.number:
            # In a block above the head it may be reverted because another transaction there has used the authorization.
            reverted.append(hint)
    if await chain.authorization_used(question.payer, question.nonce, head.number):
        return await _of_used(chain, asset, question, question.nonce, head)
    return Closed("authorization_expired") if await _is_expired(chain, question, head) else Open(tuple(reverted))


async def _is_expired(chain: Chain, question: Question, head: Block) -> bool:
    """The token takes it only before `validBefore`, by the time of the block it would stand in."""
    deep = head.number - question.needed_depth + 1
    if question.valid_before_s is None or deep < 0 or head.timestamp_s < question.valid_before_s:
        return False
    block = head if deep == head.number else await chain.block(deep)
    return block.timestamp_s >= question.valid_before_s


async def _of_used(chain: Chain, asset: str, question: Question, nonce: str, head: Block) -> Evidence:
    """Used up alone proves no payment: a cancelled nonce is used up too. Its log tells; the newest blocks are searched first."""
    oldest, last = max(0, question.claim_block - _BEFORE_CLAIM), head.number
    while last >= oldest:
        first = max(oldest, last - _RANGE_BLOCKS + 1)
        logs = await chain.logs_of_nonce(question.payer, nonce, first, last)
        if logs:
            log = logs[-1]
            if log.topics[0] != AUTHORIZATION_USED:
                return judge_cancel(log, question, head.number)
            receipt = await chain.receipt(log.transaction)
            use = None if receipt is None else use_in(receipt, asset, question)
            if receipt is None or use is None:
                raise ChainUnreadable("receipt_missing")
            return judge_use(use, receipt, asset, question, head.number)
        last = first - 1
    raise ChainUnreadable(LOG_MISSING)


async def _of_transfer(chain: Chain, asset: str, question: Question, head: Block) -> Evidence:
    if question.place is None:
        raise ChainUnreadable("no_place")
    receipt = await chain.receipt(question.place.transaction)
    found = None if receipt is None else judge_transfer(receipt, asset, question, head.number)
    if found is not None:
        return found
    if question.place.block <= head.number and (await chain.block(question.place.block)).hash == question.place.block_hash:
        # The block is the same, so the transaction is in it: the node has not got its receipt (yet).
        raise ChainUnreadable("receipt_missing")
    return Open()
