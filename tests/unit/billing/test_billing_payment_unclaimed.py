"""Money that came without a request, and requests that can never be taken: observed, claimed, given to teams, taken back."""

from typing import Any

import pytest

from kite_billing.domain.payments.facts import Invalid, Look, NoAnswer, Refused, Success, Valid, Verify
from kite_common.events.payment_record import PaymentRecord
from kite_common.events.payments import Alternative, CreditApplied, PaymentAssigned, Target
from kite_common.ids import UNATTRIBUTED
from kite_common.money import UNLIMITED
from kite_common.testing import make
from kite_common.testing import payments as payments_make
from support.payments_world import Transfer, World, rules, word

VALUE = 70_000
SOMEBODY = "0x" + "77" * 20
FUNDS = "invalid_exact_evm_insufficient_balance"


class Scene(World):
    """The world with a scanner that is at the newest block."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.scan()
        self.step()

    def seen(self) -> None:
        """What was mined is scanned, reported and decided; looks that follow are answered."""
        self.scan()
        self.step()
        self.step()
        self.answered()

    def answered(self) -> None:
        while self.has_effect(Look):
            self.look()
        self.step()

    def apply(self) -> None:
        self.apply_commands()
        self.step()

    def refused_after_a_settle_call(self, reason: str) -> None:
        self.verify(Valid())
        self.step()
        self.settle(lambda _: Refused(reason), sends=False)
        self.step()
        self.answered()

    def processor_gap(self) -> int:
        """What the records say stands in accounts, less what was scanned."""
        cursor = self.hands.cursor(self.scanner.key)
        assert self.hands.desk is not None
        assert cursor is not None
        return self.hands.desk.standing - int(cursor.total)

    def only(self) -> PaymentRecord:
        [record] = self.records().values()
        return record

    def transferred(self, value: int = VALUE) -> PaymentRecord:
        """Somebody pays without an authorization."""
        self.chain.send(Transfer(SOMEBODY, None, value))
        self.chain.mine()
        self.seen()
        self.apply()
        return self.only()

    def assign(self, record: PaymentRecord, command_id: str = "a") -> None:
        self.publish(PaymentAssigned(payment_key=record.payment_key, command_id=command_id, team_id=make.TEAM, note="ticket 21"))
        self.step()
        self.apply()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_transfer_nobody_asked_for_waits_unclaimed(scene: Scene) -> None:
    record = scene.transferred()
    assert (record.state, record.credited_to, record.binding) == ("observed", UNATTRIBUTED, None)
    assert [entry[1:] for entry in scene.accounts.entries] == [(UNATTRIBUTED, VALUE)]


def test_an_operator_gives_it_to_a_team_once(scene: Scene) -> None:
    record = scene.transferred()
    scene.assign(record)
    scene.assign(record, "b")
    assert [entry[1:] for entry in scene.accounts.entries] == [(UNATTRIBUTED, VALUE), (UNATTRIBUTED, -VALUE), (make.TEAM, VALUE)]
    assert scene.only().credited_to == make.TEAM


def test_no_wallet_is_given_more_than_it_can_hold(scene: Scene) -> None:
    record = scene.transferred(UNLIMITED + 1)
    assert (record.state, record.credited_to, scene.accounts.entries) == ("observed", None, [])


def test_a_transfer_that_leaves_the_chain_is_taken_back_and_given_again_when_it_returns(scene: Scene) -> None:
    scene.transferred()
    scene.chain.reorganise(again=True)
    scene.watch()
    scene.step()
    scene.answered()
    scene.apply()
    assert (scene.only().state, scene.accounts.net[scene.only().payment_key]) == ("reversed", 0)
    scene.chain.mine()
    scene.seen()
    scene.seen()
    scene.apply()
    assert (scene.only().state, scene.accounts.net[scene.only().payment_key]) == ("observed", VALUE)


def test_an_authorization_somebody_else_submitted_is_claimed_by_its_request(scene: Scene) -> None:
    made = payments_make.authorization(nonce=word(1, "a"))
    scene.chain.send(Transfer(made.from_address, made.nonce, int(made.value), int(made.valid_before), "pay"))
    scene.chain.mine()
    scene.seen()
    scene.apply()
    assert scene.only().credited_to == UNATTRIBUTED
    submitted = scene.submit(1, authorization=made)
    scene.step()
    scene.answered()
    scene.apply()
    outcome = scene.told(submitted)
    assert outcome is not None
    assert (outcome.result, scene.only().credited_to) == ("credited", make.TEAM)
    assert scene.accounts.net[scene.only().payment_key] == int(made.value)


def paid_otherwise(scene: Scene, number: int = 1, value: int = 1) -> None:
    """The payer has signed another authorization under the nonce, and that one is mined."""
    made = payments_make.authorization(nonce=word(number, "a"))
    scene.chain.send(Transfer(made.from_address, made.nonce, value, int(made.valid_before)))
    scene.chain.mine()


@pytest.mark.parametrize("at", ["refused", "being verified", "sent", "never shown again"])
def test_money_that_came_under_the_nonce_of_a_claim_waits_unclaimed_and_the_claim_is_dead(scene: Scene, at: str) -> None:
    submitted = scene.submit(1)
    scene.step()
    if at == "refused":
        scene.verify(Invalid(FUNDS))
        scene.step()
        scene.answered()
    elif at == "sent":
        scene.refused_after_a_settle_call(FUNDS)
    elif at == "never shown again":
        scene.verify(NoAnswer("down"))
        scene.step()
    paid_otherwise(scene)
    scene.seen()
    if at == "being verified":
        scene.verify(Invalid("invalid_exact_evm_nonce_already_used"))
        scene.step()
        scene.answered()
    scene.apply()
    record = scene.only()
    assert (record.state, record.reason, record.credited_to) == ("dead", "authorization_used_elsewhere", UNATTRIBUTED)
    assert [entry[1:] for entry in scene.accounts.entries] == [(UNATTRIBUTED, 1)]
    assert (scene.processor_gap(), scene.told(submitted) is not None) == (0, True)


def test_money_that_came_under_the_nonce_of_an_expired_claim_waits_unclaimed(scene: Scene) -> None:
    made = scene.submit(1).authorization
    scene.step()
    scene.verify(Invalid(FUNDS))
    scene.step()
    scene.answered()
    scene.pass_time(400)
    scene.chain.mine([])
    scene.pass_time(2)
    scene.step()
    scene.answered()
    assert (scene.only().state, scene.only().reason) == ("dead", "authorization_expired")
    scene.chain.send(Transfer(made.from_address, made.nonce, 1))
    scene.chain.mine()
    for _ in range(2):
        scene.seen()
        scene.apply()
    assert (scene.only().state, scene.only().credited_to, scene.processor_gap()) == ("dead", UNATTRIBUTED, 0)
    assert [entry[1:] for entry in scene.accounts.entries] == [(UNATTRIBUTED, 1)]


def test_such_money_can_be_given_to_a_team_and_is_found_again_after_a_reorganisation(scene: Scene) -> None:
    scene.submit(1)
    scene.step()
    scene.verify(Invalid(FUNDS))
    scene.step()
    scene.answered()
    paid_otherwise(scene)
    scene.seen()
    scene.assign(scene.only())
    assert (scene.only().state, scene.only().credited_to, scene.accounts.net[scene.only().payment_key]) == ("credited", make.TEAM, 1)
    scene.chain.reorganise(again=True)
    scene.chain.mine()
    scene.watch()
    scene.step()
    scene.answered()
    scene.apply()
    assert (scene.only().state, scene.accounts.net[scene.only().payment_key]) == ("credited", 1)


def test_an_unclaimed_transfer_that_another_one_under_its_nonce_replaces_gives_way_to_it(scene: Scene) -> None:
    paid_otherwise(scene, value=1)
    scene.seen()
    scene.chain.reorganise(again=False)
    paid_otherwise(scene, value=2)
    for _ in range(4):
        scene.watch()
        scene.pass_time(1)
        scene.seen()
        scene.apply()
    assert (scene.only().state, scene.only().value, scene.accounts.net[scene.only().payment_key]) == ("observed", "2", 2)
    assert scene.processor_gap() == 0


@pytest.mark.parametrize("ends", [False, True], ids=["window open", "window over"])
def test_a_claim_of_money_that_has_left_the_chain_takes_it_back(scene: Scene, ends: bool) -> None:
    made = payments_make.authorization(nonce=word(1, "a"))
    scene.chain.send(Transfer(made.from_address, made.nonce, int(made.value), int(made.valid_before), "pay"))
    scene.chain.mine()
    scene.seen()
    scene.apply()
    scene.chain.reorganise(again=False)
    submitted = scene.submit(1, authorization=made)
    if ends:
        scene.chain.now_s = int(made.valid_before) + 1
        scene.chain.mine()
    scene.step()
    scene.answered()
    scene.apply()
    outcome = scene.told(submitted)
    assert outcome is not None
    assert outcome.result in ("not_taken", "refused")
    assert sum(amount for _, _, amount in scene.accounts.entries) == 0


def rotated(scene: Scene) -> None:
    """From now on another address is asked for; billing starts anew."""
    new = "0x" + "55" * 20
    scene.rules = rules(pay_to=new, recipients=frozenset({new, scene.rules.pay_to}))
    scene.restart()


def test_money_at_an_earlier_address_is_no_gap_at_the_present_one(scene: Scene) -> None:
    scene.transferred()
    made = scene.submit(1)
    scene.step()
    scene.verify(Valid())
    scene.step()
    scene.settle(Success, sends=True)
    scene.chain.mine()
    scene.step()
    scene.answered()
    scene.apply()
    assert scene.hands.desk is not None
    assert scene.hands.desk.standing == VALUE + int(made.authorization.value)
    rotated(scene)
    assert scene.hands.desk is not None
    assert (scene.hands.desk.standing, scene.hands.desk.unattributed) == (0, VALUE)


def test_unclaimed_money_that_moves_to_another_block_after_the_address_changed_is_not_touched(scene: Scene) -> None:
    scene.transferred()
    rotated(scene)
    before = scene.only().place
    scene.chain.reorganise(again=True)
    scene.chain.mine()
    scene.watch()
    scene.step()
    scene.answered()
    scene.apply()
    assert (scene.only().state, scene.only().place != before) == ("observed", True)
    assert [entry[1:] for entry in scene.accounts.entries] == [(UNATTRIBUTED, VALUE)]


@pytest.mark.parametrize(
    "given", [{"value": "0"}, {"value": str(UNLIMITED + 1)}, {"to_address": SOMEBODY}], ids=["nothing", "too much", "to somebody else"]
)
def test_what_edges_refuse_already_gets_no_further(scene: Scene, given: dict[str, Any]) -> None:
    submitted = scene.submit(1, authorization=payments_make.authorization(nonce=word(1, "a"), **given))
    scene.step()
    outcome = scene.told(submitted)
    assert outcome is not None
    assert (outcome.result, scene.records()) == ("refused", {})


def test_without_keys_for_credentials_no_bootstrap_is_taken() -> None:
    scene = Scene(bootstrap=None)
    target = Target(source="my-bot", plan_id=make.plan().id)
    submitted = scene.submit(1, purpose="bootstrap", target=target)
    scene.step()
    outcome = scene.told(submitted)
    assert outcome is not None
    assert (outcome.result, scene.records()) == ("not_taken", {})


@pytest.mark.parametrize("known", [True, False])
def test_a_team_on_a_plan_accounts_do_not_know_is_refused_before_money_moves(known: bool) -> None:
    scene = Scene(plans=frozenset({make.plan().id if known else "another"}))
    submitted = scene.submit(1, purpose="bootstrap", target=Target(source="my-bot", plan_id=make.plan().id.upper()))
    scene.step()
    outcome = scene.told(submitted)
    if known:
        assert (outcome, scene.has_effect(Verify)) == (None, True)
    else:
        assert outcome is not None
        assert (outcome.result, outcome.status, outcome.code, scene.records()) == ("refused", 404, "plan_not_found", {})


def test_work_that_accounts_refuse_after_a_credit_is_an_alert(scene: Scene) -> None:
    submitted = scene.submit(1)
    scene.step()
    scene.verify(Valid())
    scene.step()
    scene.settle(Success, sends=True)
    scene.chain.mine()
    scene.step()
    scene.answered()
    applied = CreditApplied(
        payment_key=submitted.payment_key, seq=1, team_id=make.TEAM, balance_after_atomic=1, applied=1, partition=0,
        refused="insufficient_funds",
    )  # fmt: skip
    scene.publish(applied)
    scene.step()
    assert scene.only().state == "credited"
    assert scene.metrics.value("kite_x402_alerts_total", kind="work_refused") == 1


def test_a_refused_payment_that_was_sent_is_judged_by_the_chain_before_its_repeat_gets_the_routes_word(scene: Scene) -> None:
    first = scene.submit(1)
    scene.step()
    scene.refused_after_a_settle_call(FUNDS)
    again = scene.submit(1, submission_id="8d2f6c1a-3b4e-4f5a-9c7d-000000000002", if_new=Alternative(status=404, code="plan_not_found"))
    scene.step()
    scene.answered()
    told = scene.told(again)
    assert told is not None
    assert (told.status, told.code) == (404, "plan_not_found")
    assert scene.record(first.payment_key) is not None
