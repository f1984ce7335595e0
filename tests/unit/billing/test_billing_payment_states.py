"""The table of states and the table of failures, row by row, over the real processor in a simulated world."""

from typing import Any

import pytest

from kite_billing.domain.payments.breaker import Breaker
from kite_billing.domain.payments.facts import (
    EvidenceRead,
    Invalid,
    Look,
    NoAnswer,
    Refused,
    SettleAnswer,
    Success,
    Unclear,
    Unreadable,
    Valid,
    Verify,
)
from kite_billing.domain.payments.facts import Settle as SettleEffect
from kite_common.events.payment_record import PaymentRecord
from kite_common.events.payments import Alternative, PaymentOutcome, PaymentResult, PaymentSubmitted, Target
from kite_common.testing import make
from kite_common.testing import payments as payments_make
from support.payments_world import Transfer, World, word

FUNDS = "invalid_exact_evm_insufficient_balance"
USED = "invalid_exact_evm_nonce_already_used"
VALUE = 1_000_000
CUT = Unclear("no_answer", "cut")


class Scene(World):
    """The world with the moves most rows begin with."""

    def show(self, number: int = 0, **given: Any) -> PaymentSubmitted:
        submitted = self.submit(number, **given)
        self.step()
        return submitted

    def answered(self) -> None:
        """Looks that were ordered are answered, and what comes of it is decided."""
        while self.has_effect(Look):
            self.look()
        self.step()

    def valid(self) -> None:
        self.verify(Valid())
        self.step()

    def settle_with(self, answer: SettleAnswer | None = None, *, sends: bool = True) -> None:
        """The facilitator settles; None: it says what is true."""
        self.settle(Success if answer is None else lambda _: answer, sends=sends)
        self.chain.mine()
        self.step()
        self.answered()

    def apply(self) -> None:
        self.apply_commands()
        self.step()

    def credited(self, number: int = 0, **given: Any) -> PaymentSubmitted:
        submitted = self.show(number, **given)
        self.valid()
        self.settle_with()
        self.apply()
        return submitted

    def wait(self, seconds: float) -> None:
        """Time passes in small steps, as keys are woken; the chain is read whenever it is asked for."""
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

    def use(self, submitted: PaymentSubmitted, kind: str = "pay") -> None:
        """Somebody else uses the authorization, and it is mined."""
        made = submitted.authorization
        self.chain.send(Transfer(made.from_address, made.nonce, int(made.value), int(made.valid_before), kind))
        self.chain.mine()

    def unreadable(self) -> None:
        effect, _ = self.next_effect(Look)
        self.queue.put(EvidenceRead(effect.key, Unreadable("eth_call: TimeoutError")))
        self.step()


@pytest.fixture
def scene() -> Scene:
    return Scene(large_atomic=5_000_000, confirmations_large=3)


def test_a_payment_goes_from_claimed_to_credited_and_its_caller_is_told_once(scene: Scene) -> None:
    submitted = scene.credited()
    outcome, record = scene.outcome(submitted), scene.of(submitted)
    assert (record.state, record.sent, record.attempts, record.credited_to) == ("credited", True, 1, make.TEAM)
    assert (outcome.result, outcome.amount_atomic, outcome.transaction) == ("credited", VALUE, record.place and record.place.transaction)
    assert [step.event for step in scene.events] == ["claimed", "settling", "settled", "credited"]
    assert scene.accounts.entries == [(submitted.payment_key, make.TEAM, VALUE)]


def test_a_payer_without_funds_is_refused_and_nothing_was_sent(scene: Scene) -> None:
    submitted = scene.show()
    scene.verify(Invalid(FUNDS))
    scene.step()
    scene.answered()
    outcome = scene.outcome(submitted)
    assert (scene.of(submitted).state, scene.of(submitted).sent, outcome.after_settle) == ("rejected", False, False)
    assert (outcome.result, outcome.status, outcome.code, outcome.reason) == ("refused", 402, "invalid_payment", FUNDS)


def test_a_refused_payment_that_was_not_sent_may_be_shown_again_and_for_another_request(scene: Scene) -> None:
    scene.show()
    scene.verify(Invalid(FUNDS))
    scene.step()
    scene.answered()
    again = scene.show(fingerprint="b" * 64)
    scene.valid()
    scene.settle_with()
    scene.apply()
    record = scene.of(again)
    assert record.binding is not None
    assert (record.binding.fingerprint, scene.outcome(again).result) == ("b" * 64, "credited")


def test_without_a_verdict_nothing_is_taken_and_the_key_is_idle(scene: Scene) -> None:
    submitted = scene.show()
    scene.verify(NoAnswer("status_500"))
    scene.step()
    assert (scene.outcome(submitted).result, scene.of(submitted).state, scene.of(submitted).sent) == ("not_taken", "claimed", False)
    assert scene.shared.running == 0
    scene.show()
    assert scene.has_effect(Verify)


def test_refused_at_settling_with_an_open_chain_is_402_and_goes_on_being_watched(scene: Scene) -> None:
    submitted = scene.show()
    scene.valid()
    scene.settle_with(Refused(FUNDS), sends=False)
    outcome = scene.outcome(submitted)
    assert (scene.of(submitted).state, scene.of(submitted).sent) == ("rejected", True)
    assert (outcome.result, outcome.reason, outcome.after_settle) == ("refused", FUNDS, True)
    scene.use(submitted)
    for _ in range(2):
        scene.scan()
        scene.step()
    scene.step()
    scene.answered()
    scene.apply()
    assert scene.of(submitted).state == "credited"


def test_what_was_sent_stands_in_the_way_of_another_request(scene: Scene) -> None:
    submitted = scene.show()
    scene.valid()
    scene.settle_with(Refused(FUNDS), sends=False)
    assert scene.outcome(scene.show(fingerprint="b" * 64)).code == "payment_already_used"
    assert scene.of(submitted).state == "rejected"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Unclear("settlement_pending", "pending", word(9, "e")), "settlement_pending"),
        (Unclear("no_answer", "timeout"), "no_answer"),
        (CUT, "no_answer"),
        (Unclear("status_500", "answered"), "status_500"),
        (Unclear("not_json", "answered"), "not_json"),
        (Unclear("no_transaction", "answered"), "no_transaction"),
        (Unclear("another_network", "answered"), "another_network"),
        (Success(word(9, "e")), "facilitator_unproven"),
    ],
    ids=["pending", "timeout", "cut", "500", "html", "no hash", "another network", "no such transfer"],
)
def test_an_unclear_end_is_unknown_and_its_caller_waits_three_seconds_more(scene: Scene, answer: SettleAnswer, why: str) -> None:
    submitted = scene.show()
    scene.valid()
    scene.settle_with(answer, sends=False)
    assert (scene.of(submitted).state, scene.of(submitted).reason, scene.told(submitted)) == ("unknown", why, None)
    # A call that was answered may be made again after two seconds: it ends as before.
    for _ in range(5):
        scene.wait(0.5)
        assert scene.told(submitted) is None
        if scene.has_effect(SettleEffect):
            scene.settle_with(answer, sends=False)
    scene.wait(4)
    assert (scene.outcome(submitted).result, scene.accounts.entries) == ("pending", [])


@pytest.mark.parametrize(
    ("answer", "not_before_s", "by_s"),
    [
        (Unclear("status_500", "answered"), 2, 4), (Unclear("no_answer", "unsent"), 2, 4), (Unclear("no_answer", "timeout"), 35, 45),
        (CUT, 35, 45), (Unclear("settlement_pending", "pending"), 60, 85),
    ],
    ids=["answered", "unsent", "timeout", "cut", "pending"],
)  # fmt: skip
def test_the_same_payload_is_settled_again_once_the_last_call_is_surely_over(
    scene: Scene, answer: SettleAnswer, not_before_s: float, by_s: float
) -> None:
    submitted = scene.show()
    scene.valid()
    scene.settle_with(answer, sends=False)
    waited = 0.0
    while not scene.has_effect(SettleEffect) and waited < 200:
        scene.wait(0.5)
        waited += 0.5
    assert not_before_s <= waited <= by_s
    scene.settle_with()
    scene.apply()
    assert (scene.of(submitted).state, scene.of(submitted).attempts) == ("credited", 2)


def test_it_is_settled_ten_times_at_most_and_not_near_the_end_of_its_window(scene: Scene) -> None:
    submitted = scene.show()
    scene.valid()
    calls, waited = 0, 0.0
    while waited < 290:
        if scene.has_effect(SettleEffect):
            calls += 1
            scene.settle_with(Unclear("status_500", "answered"), sends=False)
            assert scene.now_ms // 1_000 <= int(submitted.authorization.valid_before) - 36
        scene.wait(0.5)
        waited += 0.5
    assert 2 <= calls <= 10


@pytest.mark.parametrize(
    ("kind", "state", "reason"),
    [("pay", "settled", None), ("cancel", "dead", "authorization_canceled"), ("elsewhere", "dead", "authorization_used_elsewhere")],
)
@pytest.mark.parametrize("when", ["before verify", "before settle"])
def test_what_others_do_with_the_authorization_is_judged_by_the_chain(
    scene: Scene, kind: str, state: str, reason: str | None, when: str
) -> None:
    submitted = scene.show()
    if when == "before settle":
        scene.valid()
    scene.use(submitted, kind)
    if when == "before settle":
        scene.settle_with(Unclear("transaction_failed", "answered"), sends=False)
    else:
        scene.verify(Invalid(USED))
        scene.step()
        scene.answered()
    record = scene.of(submitted)
    assert (record.state, record.reason) == (state, reason)
    if state == "settled":
        scene.apply()
        assert scene.outcome(submitted).result == "credited"
    else:
        assert (scene.outcome(submitted).status, scene.outcome(submitted).reason, record.signature) == (402, reason, None)
        assert scene.outcome(scene.show(fingerprint="b" * 64)).reason == reason


def test_a_used_nonce_that_cannot_be_read_is_not_taken_rather_than_refused(scene: Scene) -> None:
    submitted = scene.show()
    scene.verify(Invalid(USED))
    scene.step()
    scene.unreadable()
    assert (scene.outcome(submitted).result, scene.of(submitted).state) == ("not_taken", "claimed")


def test_copies_in_flight_wait_for_one_result(scene: Scene) -> None:
    copies = [scene.show() for _ in range(5)]
    scene.valid()
    scene.settle_with()
    copies.append(scene.show())
    scene.apply()
    copies.append(scene.show())
    outcomes = {scene.outcome(one).model_copy(update={"submission_id": ""}) for one in copies}
    assert len(outcomes) == 1
    assert scene.settles[copies[0].payment_key] == 1


def test_a_copy_of_a_bootstrap_in_flight_is_told_so(scene: Scene) -> None:
    asked: dict[str, Any] = {"purpose": "bootstrap", "target": Target(source="agent", plan_id="p")}
    scene.show(**asked)
    assert scene.outcome(scene.show(**asked)).result == "in_progress"
    scene.valid()
    assert scene.outcome(scene.show(**asked)).result == "in_progress"


@pytest.mark.parametrize("finished", [False, True])
def test_another_request_with_the_same_payment_is_a_conflict_that_names_the_transaction(scene: Scene, finished: bool) -> None:
    submitted = scene.show()
    scene.valid()
    if finished:
        scene.settle_with()
        scene.apply()
    outcome = scene.outcome(scene.show(fingerprint="b" * 64))
    place = scene.of(submitted).place
    assert (outcome.result, outcome.status, outcome.code) == ("conflict", 409, "payment_already_used")
    assert outcome.transaction == (place.transaction if place is not None else None)


@pytest.mark.parametrize("committed", [False, True], ids=["before its commit", "after its commit"])
def test_a_crash_around_the_order_to_settle(scene: Scene, committed: bool) -> None:
    submitted = scene.show()
    scene.verify(Valid())
    scene.step(commit=committed)
    if committed:
        scene.restart()
    record = scene.of(submitted)
    assert (record.state, record.sent) == (("settling", True) if committed else ("claimed", False))
    assert scene.told(submitted) is None
    if not committed:
        # Nobody waits any more: no money is moved anew until somebody asks.
        scene.wait(10)
        assert not scene.hands.ordered
        scene.show()
        scene.valid()
    else:
        scene.wait(45)
        assert scene.has_effect(SettleEffect)
    scene.settle_with()
    scene.apply()
    assert (scene.of(submitted).state, scene.accounts.net[submitted.payment_key]) == ("credited", VALUE)


def test_a_crash_after_a_settle_call_is_ended_by_evidence(scene: Scene) -> None:
    submitted = scene.show()
    scene.valid()
    scene.use(submitted)
    scene.restart()
    scene.wait(1)
    scene.apply()
    assert (scene.of(submitted).state, scene.settles[submitted.payment_key]) == ("credited", 0)


def test_a_crash_between_settled_and_credited_needs_nothing_but_the_command_in_the_log(scene: Scene) -> None:
    submitted = scene.show()
    scene.valid()
    scene.settle_with()
    scene.restart()
    assert scene.of(submitted).state == "settled"
    repeat = scene.show()
    scene.apply()
    assert (scene.outcome(repeat).result, scene.accounts.net[submitted.payment_key]) == ("credited", VALUE)


def test_a_submission_that_is_read_too_late_starts_nothing(scene: Scene) -> None:
    submitted = scene.submit()
    scene.pass_time(22.001)
    scene.step()
    assert (scene.record(submitted.payment_key), scene.told(submitted)) == (None, None)


def test_an_unreadable_chain_leaves_it_unknown_until_it_can_be_read(scene: Scene) -> None:
    submitted = scene.show()
    scene.valid()
    scene.settle(Success, sends=True)
    scene.chain.mine()
    scene.step()
    scene.unreadable()
    assert (scene.of(submitted).state, scene.told(submitted)) == ("unknown", None)
    scene.pass_time(0.5)
    scene.step()
    scene.answered()
    scene.apply()
    assert scene.outcome(submitted).result == "credited"


def test_a_large_payment_is_unknown_until_it_is_deep_and_open_again_after_a_reorganisation(scene: Scene) -> None:
    large = payments_make.authorization(nonce=word(0, "a"), value="9000000")
    submitted = scene.show(authorization=large)
    scene.valid()
    scene.settle_with()
    assert scene.of(submitted).state == "unknown"
    scene.chain.reorganise(again=True)
    scene.pass_time(0.5)
    scene.step()
    scene.answered()
    assert scene.of(submitted).state == "unknown"
    for _ in range(3):
        scene.chain.mine()
    scene.wait(1)
    scene.apply()
    assert (scene.of(submitted).state, scene.accounts.net[submitted.payment_key]) == ("credited", 9_000_000)


def test_a_reorganisation_after_the_credit_takes_it_back_and_settles_again(scene: Scene) -> None:
    submitted = scene.credited()
    scene.chain.reorganise(again=False)
    scene.watch()
    scene.step()
    scene.answered()
    assert (scene.of(submitted).state, scene.of(submitted).credited_to) == ("reversed", None)
    assert scene.told(scene.show()) is None
    scene.wait(4)
    scene.settle_with()
    scene.apply()
    assert [amount for _, _, amount in scene.accounts.entries] == [VALUE, -VALUE, VALUE]
    assert scene.of(submitted).command_seq == 3


def test_a_newer_payment_of_the_new_chain_hides_no_older_one_that_was_lost(scene: Scene) -> None:
    lost = scene.credited(0)
    scene.chain.reorganise(again=False)
    stands = scene.credited(1)
    scene.watch()
    scene.step()
    scene.answered()
    scene.apply()
    assert (scene.of(lost).state, scene.of(stands).state) == ("reversed", "credited")
    assert (scene.accounts.net[lost.payment_key], scene.accounts.net[stands.payment_key]) == (0, VALUE)


def test_a_payment_that_only_moved_to_another_block_is_not_touched(scene: Scene) -> None:
    submitted = scene.credited()
    before = scene.of(submitted).place
    scene.chain.reorganise(again=True)
    scene.chain.mine()
    scene.watch()
    scene.step()
    scene.answered()
    after = scene.of(submitted)
    assert (after.state, after.place != before, scene.commands) == ("credited", True, [])


def test_a_reversed_payment_whose_window_is_over_is_402_for_ever(scene: Scene) -> None:
    submitted = scene.credited()
    scene.chain.reorganise(again=False)
    scene.watch()
    scene.step()
    scene.answered()
    scene.pass_time(400)
    scene.chain.mine()
    scene.step()
    scene.answered()
    outcome = scene.outcome(scene.show())
    assert (outcome.status, outcome.reason) == (402, "payment_reversed")
    scene.apply()
    assert scene.accounts.net[submitted.payment_key] == 0


def test_three_unclear_ends_in_a_row_turn_new_payments_away_until_one_is_proven(scene: Scene) -> None:
    for number in range(3):
        scene.show(number)
        scene.valid()
        scene.settle_with(CUT, sends=False)
    opened_at = scene.shared.breaker.opened_at
    assert opened_at is not None
    assert scene.outcome(scene.show(3)).result == "not_taken"
    scene.wait(45)
    assert sum(isinstance(effect, SettleEffect) for effect, _ in scene.hands.ordered) == 1
    scene.settle_with()
    scene.apply()
    assert scene.shared.breaker == Breaker()
    scene.show(4)
    assert scene.has_effect(Verify)


def test_an_authorization_that_expires_unused_is_dead(scene: Scene) -> None:
    submitted = scene.show()
    scene.valid()
    scene.settle_with(Unclear("settlement_pending", "pending"), sends=False)
    scene.pass_time(310)
    scene.chain.mine()
    scene.step()
    scene.answered()
    assert (scene.of(submitted).state, scene.of(submitted).reason) == ("dead", "authorization_expired")


def test_what_no_money_came_of_is_forgotten_a_day_after_its_window(scene: Scene) -> None:
    submitted = scene.show()
    scene.verify(Invalid(FUNDS))
    scene.step()
    scene.answered()
    scene.pass_time(300 + 86_000)
    scene.step()
    scene.answered()
    assert scene.record(submitted.payment_key) is not None
    scene.pass_time(1_000)
    scene.step()
    assert scene.record(submitted.payment_key) is None


@pytest.mark.parametrize("code", ["invalid_payment", "not_needed"])
def test_what_a_new_key_gets_instead_is_told_and_nothing_is_stored(scene: Scene, code: str) -> None:
    instead = Alternative(status=402 if code == "invalid_payment" else 0, code=code, reason="price_moved")
    submitted = scene.show(if_new=instead)
    result = "refused" if code == "invalid_payment" else "not_needed"
    assert (scene.outcome(submitted).result, scene.record(submitted.payment_key)) == (result, None)


def test_a_known_key_finds_its_result_whatever_a_new_one_would_get(scene: Scene) -> None:
    scene.credited()
    instead = Alternative(status=402, code="invalid_payment", reason="price_moved")
    assert scene.outcome(scene.show(if_new=instead)).result == "credited"


def test_another_authorization_under_the_same_idempotency_id_is_never_settled(scene: Scene) -> None:
    first = scene.credited(idempotency_hash="e" * 64)
    second = scene.show(1, idempotency_hash="e" * 64)
    assert (scene.outcome(second).result, scene.outcome(second).payment_key) == ("credited", first.payment_key)
    other = scene.show(2, idempotency_hash="e" * 64, fingerprint="b" * 64)
    assert (scene.outcome(other).result, scene.outcome(other).code) == ("conflict", "idempotency_key_reused")
    assert set(scene.records()) == {first.payment_key}
    scene.pass_time(86_401)
    third = scene.show(3, idempotency_hash="e" * 64)
    assert scene.told(third) is None


def test_eight_keys_of_a_payer_run_at_once_and_no_more(scene: Scene) -> None:
    running = [scene.show(number) for number in range(8)]
    assert scene.outcome(scene.show(8)).result == "not_taken"
    assert not any(scene.told(one) for one in running)
    scene.verify(NoAnswer("down"))
    scene.step()
    assert scene.told(scene.show(9)) is None


def test_while_chain_or_facilitator_do_not_fit_nothing_is_taken(scene: Scene) -> None:
    scene.shared.fit = False
    submitted = scene.show()
    assert (scene.outcome(submitted).result, scene.record(submitted.payment_key)) == ("not_taken", None)


def test_the_first_result_of_the_work_stays_and_a_top_up_without_one_is_spent_after_a_day(scene: Scene) -> None:
    submitted = scene.credited(purpose="topup")
    for body in ("first", "second"):
        scene.publish(PaymentResult(payment_key=submitted.payment_key, status=202, body=body))
    scene.step()
    scene.pass_time(86_401)
    assert scene.outcome(scene.show(purpose="topup")).stored_body == "first"
    other = scene.credited(1, purpose="topup", authorization=_later(scene, 1))
    scene.pass_time(86_401)
    repeat = scene.show(1, purpose="topup", authorization=other.authorization)
    assert (scene.outcome(repeat).result, scene.outcome(repeat).reason) == ("conflict", "credited")


def test_a_seal_goes_at_the_end_of_its_window_and_a_signature_when_it_is_deep(scene: Scene) -> None:
    submitted = scene.credited(purpose="bootstrap", target=Target(source="agent", plan_id="p"), quote_hash="a" * 64)
    outcome, part = scene.outcome(submitted), scene.of(submitted).bootstrap
    assert part is not None
    assert part.seal is not None
    assert outcome.bootstrapped is not None
    assert outcome.bootstrapped.seal == part.seal
    asked: dict[str, Any] = {"purpose": "bootstrap", "target": Target(source="agent", plan_id="p")}
    shown = scene.outcome(scene.show(**asked, quote_hash="a" * 64)).bootstrapped
    rebuilt = scene.outcome(scene.show(**asked)).bootstrapped
    assert shown is not None
    assert rebuilt is not None
    assert (shown.seal, rebuilt.seal) == (part.seal, None)
    scene.pass_time(601)
    scene.step()
    part = scene.of(submitted).bootstrap
    assert part is not None
    assert part.seal is None
    for _ in range(601):
        scene.chain.mine([])
    scene.watch()
    scene.step()
    assert (scene.of(submitted).deep, scene.of(submitted).signature) == (True, None)


def test_a_desk_remembers_nothing_of_payers_and_ids_that_are_over(scene: Scene) -> None:
    submitted = scene.show(idempotency_hash="e" * 64)
    scene.verify(Invalid(FUNDS))
    scene.step()
    scene.answered()
    assert scene.of(submitted).state == "rejected"
    scene.pass_time(90_000)
    scene.step()
    assert scene.record(submitted.payment_key) is None
    assert scene.hands.desk is not None
    assert scene.hands.desk.remembered() == (0, 0)


def _later(scene: Scene, number: int) -> Any:
    return payments_make.authorization(nonce=word(number, "a"), valid_before=str(scene.now_ms // 1_000 + 300))
