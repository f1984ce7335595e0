"""One authorization is one transaction, whoever asks how often; and when settling counts as stuck."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.events.payments import Authorization
from kite_facilitator.application.gas import Gas
from kite_facilitator.application.ports import ChainAway
from kite_facilitator.application.settle_once import Settlements
from kite_facilitator.domain.answer import NONCE_ALREADY_USED, UNCLEAR_AT_MOST, Settled, Used, unclear_in_a_row
from kite_facilitator.domain.order import Order
from kite_facilitator.testing import FakeChain

PAYER, PAY_TO = "0x" + "ab" * 20, "0x" + "3c" * 20
PENDING = Settled(success=False, transaction="0x" + "be" * 32, reason="settlement_pending")
NOT_SENT = Settled(success=False, transaction="", reason="transaction_failed")
REVERTED = Settled(success=False, transaction="0x" + "be" * 32, reason="transaction_failed")
REFUSED = Settled(success=False, transaction="", reason="invalid_exact_evm_payload_signature")
DONE = Settled(success=True, transaction="0x" + "be" * 32)


def order(nonce: int = 1) -> Order:
    authorization = Authorization(
        from_address=PAYER, to_address=PAY_TO, value="1000000", valid_after="0", valid_before="1790000000", nonce=f"0x{nonce:064x}"
    )
    return Order(2, authorization, "0x" + "11" * 65, PAY_TO, 1_000_000, 300)


async def test_calls_at_once_share_one_transaction() -> None:
    chain = FakeChain(gate=asyncio.Event())
    settlements = Settlements(chain)
    calls = [asyncio.create_task(settlements.settle(order())) for _ in range(10)]
    await chain.landed.wait()
    assert chain.gate is not None
    chain.gate.set()
    answers = await asyncio.gather(*calls)
    assert len(chain.sent) == 1
    assert len(set(answers)) == 1
    assert answers[0].success


async def test_a_caller_that_hangs_up_ends_nothing() -> None:
    chain = FakeChain(gate=asyncio.Event())
    settlements = Settlements(chain)
    call = asyncio.create_task(settlements.settle(order()))
    await chain.landed.wait()
    call.cancel()
    assert chain.gate is not None
    chain.gate.set()
    await settlements.finish()
    assert (await settlements.settle(order())).success
    assert len(chain.sent) == 1


async def test_an_authorization_that_is_gone_is_told_so_and_sent_never() -> None:
    chain = FakeChain(nonces={order().key: Used(None)})
    answer = await Settlements(chain).settle(order())
    assert (answer.success, answer.transaction, answer.reason) == (False, "", NONCE_ALREADY_USED)
    assert chain.sent == []


async def test_without_a_node_nothing_is_sent_and_the_next_call_tries_again() -> None:
    chain = FakeChain(away=True)
    settlements = Settlements(chain)
    with pytest.raises(ChainAway):
        await settlements.settle(order())
    chain.away = False
    assert (await settlements.settle(order())).success


async def test_unclear_ends_in_a_row_are_stuck() -> None:
    settlements = Settlements(FakeChain(ends=[PENDING, NOT_SENT, PENDING]))
    for number in range(UNCLEAR_AT_MOST):
        assert not settlements.stuck.is_set()
        await settlements.settle(order(number))
    assert settlements.stuck.is_set()


@pytest.mark.parametrize(
    ("settled", "row"), [(PENDING, 3), (NOT_SENT, 3), (REVERTED, 0), (DONE, 0), (REFUSED, 2)], ids=lambda one: getattr(one, "reason", one)
)
def test_what_reached_the_chain_ends_a_row_and_what_was_refused_says_nothing(settled: Settled, row: int) -> None:
    assert unclear_in_a_row(2, settled) == row


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans()), max_size=30))
def test_whatever_is_asked_at_once_and_whenever_the_process_begins_anew_an_authorization_is_sent_once(
    rounds: list[tuple[int, int, bool]],
) -> None:
    async def play() -> None:
        chain, settlements = FakeChain(), None
        for nonce, copies, begins_anew in rounds:
            settlements = Settlements(chain) if begins_anew or settlements is None else settlements
            answers = await asyncio.gather(*(settlements.settle(order(nonce)) for _ in range(copies)))
            assert {answer.transaction for answer in answers} == {chain.nonces[order(nonce).key].transaction}
            assert all(answer.success for answer in answers)
        assert len(chain.sent) == len(set(chain.sent)) == len({nonce for nonce, _, _ in rounds})

    asyncio.run(play())


async def test_gas_is_looked_at_again_only_while_it_is_low() -> None:
    chain = FakeChain(gas=5)
    gas = Gas(chain, floor_wei=10)
    assert gas.is_low
    assert not await gas.suffices()
    chain.gas = 10
    assert await gas.suffices()
    assert await gas.suffices()
    assert chain.looks == 2
