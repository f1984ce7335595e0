"""Settle calls that come to nothing, and what they do to everybody else: reverted transactions, and the breaker they must not hold open."""

from collections.abc import Callable
from typing import Any

import pytest

from kite_billing.domain.payments.breaker import Breaker
from kite_billing.domain.payments.evidence import Block
from kite_billing.domain.payments.facts import Invalid, Look, NoAnswer, Settle, SettleAnswer, Success, Unclear, Valid, Verify
from kite_common.events.payment_record import PaymentRecord
from kite_common.events.payments import Authorization, PaymentOutcome, PaymentSubmitted
from kite_common.testing import payments as payments_make
from support.payments_world import Transfer, World, WorldChain, word

FUNDS = "invalid_exact_evm_insufficient_balance"
CUT = Unclear("no_answer", "cut")


def failed(sent: str) -> SettleAnswer:
    """As the SDK answers when the receipt says that the transaction was reverted."""
    return Unclear("transaction_failed", "answered", sent)


def pending(sent: str) -> SettleAnswer:
    """As it answers when there is no receipt in time."""
    return Unclear("settlement_pending", "pending", sent)


class Scene(World):
    """The world with the moves of these tests."""

    def show(self, number: int = 0, **given: Any) -> PaymentSubmitted:
        submitted = self.submit(number, **given)
        self.step()
        return submitted

    def answered(self) -> None:
        """Looks that were ordered are answered, and what comes of it is decided."""
        while self.has_effect(Look):
            self.look()
        self.step()

    def verified(self, answer: Valid | Invalid | NoAnswer | None = None) -> None:
        self.verify(answer or Valid())
        self.step()
        self.answered()

    def settled(self, answer: Callable[[str], SettleAnswer], *, kind: str = "pay", sends: bool = True, mined: bool = True) -> None:
        """The oldest settle call ends; `kind` of what was sent as in `World.pay`."""
        self.settle(answer, sends=sends, kind=kind)
        if mined:
            self.chain.mine()
        self.step()
        self.answered()

    def credited(self) -> None:
        """The settle call that was ordered pays."""
        self.settled(Success)
        self.apply_commands()
        self.step()

    def hangs(self, number: int) -> PaymentSubmitted:
        """A payment nobody can say anything of."""
        submitted = self.show(number)
        self.verified()
        self.settled(lambda _: CUT, sends=False)
        return submitted

    def wait(self, seconds: float) -> None:
        """Time passes in small steps, as keys are woken; blocks are mined, the chain is read whenever it is asked for."""
        for _ in range(round(seconds * 2)):
            self.pass_time(0.5)
            self.chain.mine()
            self.step()
            self.answered()

    def of(self, submitted: PaymentSubmitted) -> PaymentRecord:
        record = self.record(submitted.payment_key)
        assert record is not None
        return record

    def outcome(self, submitted: PaymentSubmitted) -> PaymentOutcome:
        outcome = self.told(submitted)
        assert outcome is not None
        return outcome

    @property
    def breaker(self) -> Breaker:
        return self.shared.breaker


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("answer", [failed, Success, pending], ids=["says so", "claims success", "does not know yet"])
def test_a_transaction_that_was_mined_and_did_nothing_is_a_refusal(scene: Scene, answer: Callable[[str], SettleAnswer]) -> None:
    submitted = scene.show()
    scene.verified()
    scene.settled(answer, kind="revert")
    outcome, record = scene.outcome(submitted), scene.of(submitted)
    assert (record.state, record.sent, record.reason) == ("rejected", True, "transaction_failed")
    assert (outcome.result, outcome.status, outcome.reason, outcome.after_settle) == ("refused", 402, "transaction_failed", True)
    assert outcome.transaction == record.hint == word(1, "f")
    scene.wait(30)
    assert not scene.has_effect(Settle)


def test_a_refused_payment_whose_transaction_was_reverted_is_credited_if_it_lands_all_the_same(scene: Scene) -> None:
    submitted = scene.show()
    scene.verified()
    scene.settled(failed, kind="revert")
    scene.pay(scene.of(submitted))
    scene.chain.mine()
    for _ in range(2):
        scene.scan()
        scene.step()
    scene.step()
    scene.answered()
    scene.apply_commands()
    scene.step()
    assert (scene.of(submitted).state, scene.accounts.net[submitted.payment_key]) == ("credited", 1_000_000)


def test_payments_that_are_reverted_keep_nobody_else_from_paying(scene: Scene) -> None:
    for number in range(5):
        scene.show(number)
        scene.verified()
        scene.settled(failed, kind="revert")
    assert (scene.breaker, scene.shared.unresolved) == (Breaker(), 0)
    other = scene.show(5)
    scene.verified()
    scene.credited()
    assert scene.outcome(other).result == "credited"


def test_a_transaction_that_is_mined_after_its_answer_is_judged_at_the_next_look(scene: Scene) -> None:
    submitted = scene.show()
    scene.verified()
    scene.settled(pending, kind="revert", mined=False)
    assert (scene.of(submitted).state, scene.told(submitted)) == ("unknown", None)
    scene.wait(0.5)
    assert (scene.of(submitted).state, scene.outcome(submitted).status) == ("rejected", 402)
    scene.wait(90)
    assert (scene.has_effect(Settle), scene.breaker) == (False, Breaker())


def test_an_earlier_calls_transaction_says_nothing_of_the_last_call(scene: Scene) -> None:
    submitted = scene.show()
    scene.verified()
    scene.settled(pending, kind="revert", mined=False)
    scene.pass_time(61)
    scene.step()
    scene.answered()
    scene.settled(lambda _: CUT, sends=False)
    scene.wait(5)
    assert (scene.of(submitted).state, scene.of(submitted).hint) == ("unknown", word(1, "f"))


class Behind(WorldChain):
    """A chain whose head and state are as old as `seen` says; receipts are not."""

    seen: int | None = None

    async def head(self) -> Block:
        return await (super().head() if self.seen is None else self.block(self.seen))

    async def authorization_used(self, payer: str, nonce: str, at_block: int) -> bool:
        return self.seen is None and await super().authorization_used(payer, nonce, at_block)


def test_a_receipt_above_the_head_is_not_believed_yet(scene: Scene) -> None:
    scene.chain = behind = Behind()
    submitted = scene.show()
    scene.verified()
    behind.seen = len(behind.blocks) - 1
    scene.pay(scene.of(submitted))
    scene.settled(failed)
    assert (scene.of(submitted).state, scene.told(submitted)) == ("unknown", None)
    behind.seen = None
    scene.wait(0.5)
    scene.apply_commands()
    scene.step()
    assert scene.outcome(submitted).result == "credited"


def test_while_the_breaker_is_open_a_new_payment_is_tried_once_a_minute_whatever_hangs(scene: Scene) -> None:
    for number in range(3):
        scene.hangs(number)
    assert scene.breaker.is_open
    scene.pass_time(59)
    assert scene.outcome(scene.show(3)).result == "not_taken"
    scene.pass_time(1)
    first = scene.show(4)
    assert scene.outcome(scene.show(5)).result == "not_taken"
    scene.verified()
    scene.settled(lambda _: CUT, sends=False)
    assert scene.told(first) is None
    scene.pass_time(59)
    assert scene.outcome(scene.show(6)).result == "not_taken"
    scene.pass_time(1)
    second = scene.show(7)
    scene.verified()
    scene.credited()
    assert (scene.outcome(second).result, scene.breaker, scene.shared.unresolved) == ("credited", Breaker(), 4)
    scene.show(8)
    assert scene.has_effect(Verify)


def test_a_new_payment_that_is_not_valid_is_no_trial(scene: Scene) -> None:
    for number in range(3):
        scene.hangs(number)
    scene.pass_time(60)
    for number, answer in ((3, Invalid(FUNDS)), (4, NoAnswer("down"))):
        scene.show(number)
        scene.verified(answer)
    paid = scene.show(5)
    scene.verified()
    scene.credited()
    assert (scene.outcome(paid).result, scene.breaker) == ("credited", Breaker())


def opened(scene: Scene) -> None:
    """The breaker is open, and whatever opened it has expired."""
    for number in range(3):
        scene.hangs(number)
    scene.pass_time(400)
    scene.chain.mine()
    scene.step()
    scene.answered()
    assert (scene.breaker.is_open, scene.shared.unresolved) == (True, 0)


def lasting(scene: Scene, number: int) -> Authorization:
    return payments_make.authorization(nonce=word(number, "a"), valid_before=str(scene.now_ms // 1_000 + 300))


def test_a_trial_that_was_paid_by_somebody_else_makes_room_for_the_next(scene: Scene) -> None:
    opened(scene)
    trial = scene.show(authorization=lasting(scene, 3))
    scene.pay(scene.of(trial))
    scene.chain.mine()
    scene.verified(Invalid("invalid_exact_evm_nonce_already_used"))
    scene.apply_commands()
    scene.step()
    assert (scene.outcome(trial).result, scene.of(trial).sent) == ("credited", False)
    assert (scene.breaker.is_open, scene.breaker.trying) == (True, None)
    paid = scene.show(authorization=lasting(scene, 4))
    scene.verified()
    scene.credited()
    assert (scene.outcome(paid).result, scene.breaker) == ("credited", Breaker())


def test_a_trial_with_unclaimed_money_that_has_left_the_chain_makes_room_for_the_next(scene: Scene) -> None:
    opened(scene)
    scene.scan()
    scene.step()
    made = lasting(scene, 3)
    scene.chain.send(Transfer(made.from_address, made.nonce, int(made.value), int(made.valid_before)))
    scene.chain.mine()
    for _ in range(2):
        scene.scan()
        scene.step()
    scene.answered()
    scene.apply_commands()
    scene.chain.reorganise(again=False)
    trial = scene.show(authorization=made)
    assert (scene.of(trial).state, scene.breaker.trying) == ("claimed", trial.payment_key)
    scene.chain.now_s = int(made.valid_before) + 1
    scene.chain.mine()
    scene.answered()
    assert (scene.of(trial).state, scene.of(trial).closed) == ("reversed", "authorization_expired")
    assert (scene.breaker.is_open, scene.breaker.trying) == (True, None)


def alerts(scene: Scene) -> float:
    return scene.metrics.value("kite_x402_alerts_total", kind="facilitator_unproven")


@pytest.mark.parametrize("answer", [Success, failed], ids=["success", "failure"])
def test_a_node_that_is_a_block_behind_is_no_fault_of_the_facilitator(scene: Scene, answer: Callable[[str], SettleAnswer]) -> None:
    for number in range(4):
        submitted = scene.show(number)
        scene.verified()
        scene.settled(answer, mined=False)
        assert (scene.of(submitted).state, scene.breaker) == ("unknown", Breaker())
        scene.wait(1)
        scene.apply_commands()
        scene.step()
        assert scene.outcome(submitted).result == "credited"
        assert (scene.breaker, alerts(scene)) == (Breaker(), 0)


def test_a_large_payment_that_is_not_deep_yet_raises_no_alert() -> None:
    scene = Scene(large_atomic=1, confirmations_large=9)
    submitted = scene.show()
    scene.verified()
    scene.settled(Success)
    for _ in range(8):
        scene.pass_time(1)
        scene.step()
        scene.answered()
    assert (scene.of(submitted).state, alerts(scene), scene.breaker) == ("unknown", 0, Breaker())


@pytest.mark.parametrize("resent", [True, False], ids=["before it is sent again", "if it is not"])
def test_a_success_the_chain_does_not_show_seconds_later_counts_once(scene: Scene, resent: bool) -> None:
    submitted = scene.show()
    scene.verified()
    scene.shared.fit = resent
    scene.settled(Success, sends=False)
    assert (scene.breaker.streak, alerts(scene)) == (0, 0)
    scene.wait(1.5)
    assert (scene.breaker.streak, alerts(scene)) == (0, 0)
    scene.wait(1.5)
    assert (scene.of(submitted).state, scene.has_effect(Settle)) == ("settling" if resent else "unknown", resent)
    scene.wait(5)
    assert (scene.breaker.streak, alerts(scene)) == (1, 1)


def test_three_successes_the_chain_does_not_show_open_the_breaker(scene: Scene) -> None:
    for number in range(3):
        scene.show(number)
        scene.verified()
        scene.settled(Success, sends=False)
    assert not scene.breaker.is_open
    scene.wait(3)
    assert (scene.breaker.is_open, alerts(scene)) == (True, 3)


def test_a_trial_nobody_can_prove_yet_makes_room_for_the_next(scene: Scene) -> None:
    opened(scene)
    trial = scene.show(authorization=lasting(scene, 3))
    scene.verified()
    scene.settled(Success, sends=False)
    assert (scene.of(trial).state, scene.breaker.trying, scene.breaker.is_open) == ("unknown", None, True)
