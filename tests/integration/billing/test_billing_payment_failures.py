"""Each way facilitator and chain fail, with a real chain, log and Redis: the answer, the ledger and the chain agree, and money moves once.

Billing runs as one process for all of them, as it would: what one failure leaves must not harm the next payment.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from kite_cli.admin.payments import assign_payment, list_payments, show_payment
from kite_cli.failure import CommandFailed
from kite_common import auth
from kite_common.events.credentials import CredentialIssued
from kite_common.events.payments import PaymentOutcome, Target
from kite_common.ids import UNATTRIBUTED, TeamId, new_team_id
from kite_common.plans import shipped_catalog
from kite_common.runtime.system import random_bytes
from kite_common.testing.eventually import eventually
from kite_common.topics import CREDENTIALS
from kite_common.x402.key import payment_id, team_of
from kite_common.x402.seal import open_credentials
from support.chain import FACILITATOR, PAY_TO
from support.chain_faults import Lie
from support.paid_billing import PaidBilling, Payment, paid_billing
from support.stack import RunningStack

VALUE = 1_000_000
LARGE = 10_000_000
DEEP = 4
USED = "invalid_exact_evm_nonce_already_used"
BROKEN = (Lie.ERROR_500, Lie.HTML, Lie.CUT, Lie.NOTHING, Lie.HANG_UP, Lie.HUGE)
LIES = (Lie.NO_HASH, Lie.OTHER_NETWORK, Lie.MADE_UP_HASH)


@pytest.fixture(scope="module")
async def running_scene(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PaidBilling]:
    async with paid_billing(stack, tmp_path_factory.mktemp("failures")) as scene:
        scene.start(X402_CONFIRMATIONS_LARGE=str(DEEP))
        await eventually(lambda: _is_ready(scene), within_s=60, what="billing is ready")
        yield scene


@pytest.fixture
async def scene(running_scene: PaidBilling) -> AsyncIterator[PaidBilling]:
    """The scene, healed; after the test all adds up, and nothing secret stands in the open."""
    running_scene.facilitator.heal()
    running_scene.node.heal()
    yield running_scene
    running_scene.facilitator.heal()
    running_scene.node.heal()
    audit = await running_scene.audit()
    assert audit.ok, audit
    assert await running_scene.secrets_in_the_open() == []


async def _is_ready(scene: PaidBilling) -> bool:
    return (await scene.readiness())[0] == 200


async def paid_once(scene: PaidBilling, payment: Payment, outcome: PaymentOutcome) -> None:
    """Credited, once, by a transaction that is on the chain."""
    assert (outcome.result, outcome.team_id, outcome.amount_atomic) == ("credited", payment.team_id, payment.signed.value), outcome
    assert await scene.entries(payment.team_id) == [payment.signed.value]
    assert outcome.transaction is not None
    receipt = await scene.chain.receipt(outcome.transaction)
    assert receipt is not None
    assert receipt["status"] == "0x1"


async def not_credited(scene: PaidBilling, payment: Payment) -> None:
    assert await scene.entries(payment.team_id) == []
    assert not await scene.chain.is_used(payment.signed.payer, payment.signed.nonce)


async def test_a_payment_is_one_transfer_one_credit_and_one_result_for_ever(scene: PaidBilling) -> None:
    payment, before = await scene.payment(), await scene.chain.balance(PAY_TO)
    outcome = await scene.show(payment)
    await paid_once(scene, payment, outcome)
    assert await scene.chain.balance(PAY_TO) == before + VALUE
    assert (await scene.show(payment)).model_copy(update={"submission_id": outcome.submission_id}) == outcome
    other = await scene.show(payment, fingerprint="f" * 64)
    assert (other.result, other.code, other.transaction) == ("conflict", "payment_already_used", outcome.transaction)


async def test_twenty_copies_at_once_are_one_payment(scene: PaidBilling) -> None:
    payment, calls = await scene.payment(), scene.facilitator.count("/settle")
    outcomes = await asyncio.gather(*(scene.show(payment) for _ in range(20)))
    assert len({outcome.model_copy(update={"submission_id": ""}) for outcome in outcomes}) == 1
    await paid_once(scene, payment, outcomes[0])
    assert scene.facilitator.count("/settle") == calls + 1


@pytest.mark.parametrize("lie", [*BROKEN, *LIES, Lie.PENDING, Lie.REFUSED], ids=lambda lie: lie.name)
async def test_whatever_it_answers_what_was_settled_is_credited_at_once(scene: PaidBilling, lie: Lie) -> None:
    scene.facilitator.settle, scene.facilitator.settles_first = lie, True
    payment = await scene.payment()
    await paid_once(scene, payment, await scene.show(payment))


@pytest.mark.parametrize("lie", [*BROKEN, *LIES], ids=lambda lie: lie.name)
async def test_whatever_it_answers_nothing_is_credited_that_did_not_happen_and_the_same_payment_pays_later(
    scene: PaidBilling, lie: Lie
) -> None:  # fmt: skip
    scene.facilitator.settle = lie
    payment = await scene.payment()
    outcome = await scene.show(payment)
    assert outcome.result == "pending", outcome
    await not_credited(scene, payment)
    scene.facilitator.heal()
    await paid_once(scene, payment, await scene.pay(payment))


@pytest.mark.parametrize("lie", BROKEN, ids=lambda lie: lie.name)
async def test_without_a_judgement_nothing_is_tried_and_nobody_is_told_to_sign_anew(scene: PaidBilling, lie: Lie) -> None:
    scene.facilitator.verify, calls = lie, scene.facilitator.count("/settle")
    payment = await scene.payment()
    assert (await scene.show(payment)).result == "not_taken"
    assert scene.facilitator.count("/settle") == calls
    await not_credited(scene, payment)
    scene.facilitator.heal()
    await paid_once(scene, payment, await scene.pay(payment))


async def test_a_facilitator_that_is_slow_is_waited_for(scene: PaidBilling) -> None:
    scene.facilitator.delay_s = 1.0
    payment = await scene.payment()
    await paid_once(scene, payment, await scene.show(payment))


async def test_a_facilitator_that_is_down_takes_no_payment_and_the_same_one_pays_when_it_is_back(scene: PaidBilling) -> None:
    scene.facilitator.is_down = True
    payment = await scene.payment()
    assert (await scene.show(payment)).result == "not_taken"
    assert (await scene.readiness())[0] == 200
    scene.facilitator.heal()
    await paid_once(scene, payment, await scene.pay(payment))


async def test_a_payer_without_funds_is_refused_and_may_pay_with_the_same_payment_later(scene: PaidBilling) -> None:
    scene.facilitator.verify = Lie.REFUSED
    payment = scene.payment_of(await scene.chain.payer(0))
    outcome = await scene.show(payment)
    assert (outcome.result, outcome.status, outcome.reason, outcome.after_settle) == (
        "refused", 402, "invalid_exact_evm_insufficient_balance", False,
    )  # fmt: skip
    await not_credited(scene, payment)
    scene.facilitator.heal()
    await scene.chain.mint(payment.signed.payer, VALUE)
    await paid_once(scene, payment, await scene.pay(payment))


async def test_a_payment_that_was_refused_and_lands_all_the_same_is_credited_without_a_repeat(scene: PaidBilling) -> None:
    scene.facilitator.settle = Lie.REFUSED
    payment = await scene.payment()
    outcome = await scene.show(payment)
    assert (outcome.result, outcome.after_settle) == ("refused", True)
    await scene.chain.front_run(payment.signed)
    await eventually(lambda: _moved(scene, payment.team_id, [VALUE]), within_s=20, what="it is credited")
    await paid_once(scene, payment, await scene.show(payment))


async def test_a_payment_that_hangs_and_lands_later_is_credited_without_a_repeat(scene: PaidBilling) -> None:
    scene.facilitator.settle = Lie.PENDING
    payment = await scene.payment()
    outcome = await scene.show(payment)
    assert (outcome.result, outcome.after_settle) == ("pending", True)
    await not_credited(scene, payment)
    await scene.chain.front_run(payment.signed)
    await eventually(lambda: _moved(scene, payment.team_id, [VALUE]), within_s=15, what="it is credited")
    await paid_once(scene, payment, await scene.show(payment))


async def test_a_third_party_that_submits_it_first_has_paid_for_the_caller(scene: PaidBilling) -> None:
    first = await scene.payment()
    await scene.chain.front_run(first.signed)
    await paid_once(scene, first, await scene.pay(first))
    scene.facilitator.verify, scene.facilitator.reason = Lie.REFUSED, USED
    second = await scene.payment()
    await scene.chain.front_run(second.signed)
    await paid_once(scene, second, await scene.pay(second))


async def test_a_cancelled_authorization_is_dead_before_and_after_the_settle_call(scene: PaidBilling) -> None:
    payer = await scene.chain.payer()
    for verify in (Lie.HONEST, Lie.REFUSED):
        scene.facilitator.verify, scene.facilitator.reason = verify, USED
        payment = scene.payment_of(payer)
        await scene.chain.cancel(payer, payment.signed.nonce)
        for _ in range(2):
            outcome = await scene.show(payment)
            assert (outcome.result, outcome.status, outcome.reason) == ("refused", 402, "authorization_canceled")
        assert await scene.entries(payment.team_id) == []
        record = await scene.record(payment.key)
        assert record is not None
        assert (record.state, record.signature) == ("dead", None)


async def test_two_authorizations_used_in_one_transaction_pay_once(scene: PaidBilling) -> None:
    payer = await scene.chain.payer()
    ours, other = scene.payment_of(payer), payer.authorize(VALUE, to=FACILITATOR)
    await scene.chain.both_in_one(other, ours.signed)
    await paid_once(scene, ours, await scene.pay(ours))


async def test_a_large_payment_counts_only_at_its_depth_and_survives_a_reorganisation_before(scene: PaidBilling) -> None:
    payment = await scene.payment(LARGE)
    assert (await scene.show(payment)).result == "pending"
    assert await scene.entries(payment.team_id) == []
    await scene.chain.reorg(1)
    assert not await scene.chain.is_used(payment.signed.payer, payment.signed.nonce)
    paying = asyncio.create_task(scene.pay(payment))
    await eventually(lambda: scene.chain.is_used(payment.signed.payer, payment.signed.nonce), within_s=30, what="it is settled again")
    assert await scene.entries(payment.team_id) == []
    await scene.chain.mine(DEEP - 1)
    await paid_once(scene, payment, await paying)


async def test_a_credit_whose_transaction_leaves_the_chain_is_taken_back_and_given_again(scene: PaidBilling) -> None:
    payment = await scene.payment()
    first = await scene.pay(payment)
    await scene.chain.reorg(1)
    await eventually(lambda: _moved(scene, payment.team_id, [VALUE, -VALUE, VALUE]), within_s=40, what="reversed, and credited again")
    again = await scene.pay(payment)
    assert again.result == "credited"
    assert again.transaction is not None
    assert await scene.chain.receipt(again.transaction) is not None
    assert again.transaction != first.transaction or again.credited_at != first.credited_at


@pytest.mark.parametrize("fault", ["refuses", "silent", "errors", "null_receipts", "behind"])
async def test_while_the_chain_cannot_be_read_nothing_is_credited_and_nothing_is_lost(scene: PaidBilling, fault: str) -> None:
    payment = await scene.payment()
    broken = {"errors": frozenset({"eth_call", "eth_getTransactionReceipt"}), "behind": 3}
    await scene.chain.mine(3)
    setattr(scene.node, fault, broken.get(fault, True))
    outcome = await scene.show(payment)
    assert outcome.result == "pending"
    assert await scene.entries(payment.team_id) == []
    assert await scene.chain.is_used(payment.signed.payer, payment.signed.nonce)
    scene.node.heal()
    await paid_once(scene, payment, await scene.pay(payment))


async def test_three_unclear_payments_in_a_row_stop_new_ones_until_one_is_proven(scene: PaidBilling) -> None:
    scene.facilitator.settle = Lie.ERROR_500
    stuck = [await scene.payment() for _ in range(3)]
    assert {outcome.result for outcome in await asyncio.gather(*(scene.show(one) for one in stuck))} == {"pending"}
    assert "kite_x402_breaker_open 1.0" in await eventually(lambda: _open_breaker(scene), within_s=10, what="the breaker opens")
    assert (await scene.show(await scene.payment())).result == "not_taken"
    scene.facilitator.heal()
    for one in stuck:
        await paid_once(scene, one, await scene.pay(one))
    assert (await scene.pay(await scene.payment())).result == "credited"


async def test_payments_that_are_reverted_are_refused_and_turn_nobody_away(scene: PaidBilling) -> None:
    scene.facilitator.settle, calls = Lie.REVERTED, scene.facilitator.count("/settle")
    payer = await scene.chain.payer(0)
    broke = [scene.payment_of(payer) for _ in range(4)]
    for payment in broke:
        outcome = await scene.show(payment)
        assert (outcome.result, outcome.status, outcome.reason, outcome.after_settle) == ("refused", 402, "transaction_failed", True)
        receipt = await scene.chain.receipt(outcome.transaction or "")
        assert receipt is not None
        assert receipt["status"] == "0x0"
    scene.facilitator.heal()
    other = await scene.payment()
    await paid_once(scene, other, await scene.show(other))
    assert "kite_x402_breaker_open 0.0" in await scene.metrics()
    assert scene.facilitator.count("/settle") == calls + len(broke) + 1
    await scene.chain.mint(payer.address, VALUE)
    await paid_once(scene, broke[0], await scene.pay(broke[0]))


async def test_a_submission_that_is_read_too_late_starts_nothing(scene: PaidBilling) -> None:
    late, other = await scene.payment(), await scene.payment()
    await scene.publish(late.submission(wait_s=-10))
    await scene.pay(other)
    await scene.publish(late.submission(wait_s=-10))
    await scene.pay(other)
    assert await scene.state(late.key) is None
    await not_credited(scene, late)


async def test_a_plain_transfer_waits_unclaimed_until_an_operator_gives_it_to_a_team(scene: PaidBilling) -> None:
    paid = await scene.payment()
    await scene.pay(paid)
    key = await scene.transfer(VALUE)
    await eventually(lambda: _state_is(scene, key, "observed"), within_s=20, what="the scanner reports it")
    assert sum(await scene.entries(UNATTRIBUTED)) == VALUE
    assert [one.record.payment_key for one in await list_payments(scene.target, ["observed"])] == [key]
    with pytest.raises(CommandFailed, match="there is no team"):
        await assign_payment(scene.target, payment_id(key), new_team_id(random_bytes(16)), "a typo")
    for _ in range(2):
        told = await assign_payment(scene.target, payment_id(key), TeamId(paid.team_id), "ticket 4711")
        assert (told.record.state, told.record.credited_to) == ("credited", paid.team_id)
    assert await scene.entries(paid.team_id) == [VALUE, VALUE]
    assert sum(await scene.entries(UNATTRIBUTED)) == 0
    shown = await show_payment(scene.target, key)
    assert [(step.event, step.why) for step in shown.steps] == [("observed", None), ("assigned", "ticket 4711"), ("credited", None)]
    with pytest.raises(CommandFailed, match="belongs to"):
        await assign_payment(scene.target, key, new_team_id(random_bytes(16)), "again")


async def test_operators_see_every_step_of_a_payment(scene: PaidBilling) -> None:
    payment = await scene.payment()
    await scene.pay(payment)
    shown = (await show_payment(scene.target, payment_id(payment.key))).to_json()
    assert [step["event"] for step in shown["steps"]] == ["claimed", "settling", "settled", "credited"]
    assert (shown["state"], shown["team_id"], shown["settle_calls"]) == ("credited", payment.team_id, 1)
    assert payment.key in {one.record.payment_key for one in await list_payments(scene.target, ["credited"], payment.team_id)}
    assert payment.key not in {one.record.payment_key for one in await list_payments(scene.target, ["unknown"])}
    with pytest.raises(CommandFailed, match="there is no payment"):
        await show_payment(scene.target, "pay_" + "a" * 26)


async def test_a_bootstrap_makes_one_team_whose_secrets_only_its_first_caller_gets(scene: PaidBilling) -> None:
    payment, plan = await scene.payment(), shipped_catalog().by_name("starter")
    assert plan is not None
    asked = {"purpose": "bootstrap", "target": Target(source="agent", plan_id=plan.id), "quote_hash": "a" * 64}
    outcome = await scene.show(payment, **asked)
    assert (outcome.result, outcome.team_id) == ("credited", team_of(payment.key))
    assert outcome.bootstrapped is not None
    assert outcome.bootstrapped.seal is not None
    secrets = open_credentials((b"c" * 32,), payment.key, outcome.bootstrapped.seal)
    issued = {one.prefix: one for one in await scene.read(CREDENTIALS) if isinstance(one, CredentialIssued)}
    held = issued[auth.parse_api_key(secrets.api_key).prefix]
    assert (held.team_id, held.secret_hash) == (outcome.team_id, auth.hash_secret(b"pepper of the tests", secrets.api_key))
    same = await scene.show(payment, **asked)
    assert same.bootstrapped == outcome.bootstrapped
    rebuilt = await scene.show(payment, **(asked | {"quote_hash": None}))
    assert rebuilt.bootstrapped is not None
    assert rebuilt.bootstrapped.seal is None
    assert await scene.entries(outcome.team_id or "") == [VALUE]


async def test_an_owner_that_stood_still_until_another_took_over_writes_nothing(
    stack: RunningStack, tmp_path_factory: pytest.TempPathFactory
) -> None:  # fmt: skip
    async with paid_billing(stack, tmp_path_factory.mktemp("frozen")) as scene:
        frozen = scene.start()
        await eventually(lambda: _is_ready(scene), within_s=60, what="billing is ready")
        scene.facilitator.delay_s = 1.0
        payment = await scene.payment()
        paying = asyncio.create_task(scene.pay(payment, within_s=90))
        await eventually(lambda: scene.facilitator.count("/settle"), within_s=20, what="it is being settled")
        os.kill(frozen.pid, signal.SIGSTOP)
        other = scene.start(KITE_INSTANCE="another", KITE_PORT="0")
        await paid_once(scene, payment, await paying)
        os.kill(frozen.pid, signal.SIGCONT)
        after = await scene.payment()
        await paid_once(scene, after, await scene.pay(after))
        assert await scene.entries(payment.team_id) == [VALUE]
        assert (await scene.audit()).ok
        # Who stood still does not know what it holds: it ends itself, to be started anew.
        assert await eventually(frozen.poll, within_s=20, what="the frozen process ends") == 1
        assert other.poll() is None


async def test_billing_is_not_ready_but_works_while_the_facilitator_does_not_fit(
    stack: RunningStack, tmp_path_factory: pytest.TempPathFactory
) -> None:  # fmt: skip
    async with paid_billing(stack, tmp_path_factory.mktemp("unfit")) as scene:
        scene.facilitator.is_down = True
        scene.start()
        payment = await scene.payment()
        await eventually(lambda: _not_ready_for(scene, "the facilitator does not answer"), within_s=60, what="readiness says so")
        team = await scene.open_team()
        assert await eventually(lambda: scene.balance(team), within_s=30, what="accounts are served") == VALUE
        assert (await scene.show(payment)).result == "not_taken"
        key = await scene.transfer(VALUE)
        await eventually(lambda: _state_is(scene, key, "observed"), within_s=20, what="what the chain has paid is credited all the same")
        scene.facilitator.heal()
        scene.facilitator.network = "eip155:1"
        await eventually(lambda: _not_ready_for(scene, "does not support x402 version 2, scheme exact, on eip155:84532"), what="that too")
        assert (await scene.show(payment)).result == "not_taken"
        scene.facilitator.heal()
        await eventually(lambda: _is_ready(scene), within_s=10, what="it is looked at again and again")
        await paid_once(scene, payment, await scene.pay(payment))


async def _not_ready_for(scene: PaidBilling, reason: str) -> bool:
    status, body = await scene.readiness()
    return status == 503 and reason in body


async def _open_breaker(scene: PaidBilling) -> str:
    text = await scene.metrics()
    return text if "kite_x402_breaker_open 1" in text else ""


async def _moved(scene: PaidBilling, team: str, expected: list[int]) -> bool:
    return await scene.entries(team) == expected


async def _state_is(scene: PaidBilling, key: str, state: str) -> bool:
    return await scene.state(key) == state
