"""Money that came without a request, and requests that can never be taken: observed, claimed, given to teams, taken back."""

from typing import Any

import pytest

from kite_billing.domain.payments.facts import Look, Refused, Valid
from kite_common.events.payment_record import PaymentRecord
from kite_common.events.payments import Alternative, PaymentAssigned, Target
from kite_common.ids import UNATTRIBUTED
from kite_common.money import UNLIMITED
from kite_common.testing import make
from kite_common.testing import payments as payments_make
from support.payments_world import Transfer, World, word

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
