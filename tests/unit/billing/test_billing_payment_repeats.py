"""What comes twice, late or together: repeats of records, facts that overtake each other in one step, a chain that got shorter."""

from typing import Any

import pytest

from kite_billing.domain.payments.facts import (
    EvidenceRead,
    Look,
    NoAnswer,
    Paid,
    Refused,
    Settle,
    SettleEnded,
    Success,
    Unclear,
    Valid,
    Verified,
    Verify,
)
from kite_common.events.payment_record import PaymentRecord, Place, ScanCursor
from kite_common.events.payments import CreditApplied, PaymentSubmitted, Target
from kite_common.testing import make
from kite_common.testing import payments as payments_make
from support.payments_world import Transfer, World, done, word

VALUE = 1_000_000


def show(world: World, **given: Any) -> PaymentSubmitted:
    submitted = world.submit(**given)
    world.step()
    return submitted


def answered(world: World) -> None:
    """Looks that were ordered are answered, and what comes of it is decided."""
    while world.has_effect(Look):
        world.look()
    world.step()


def settled(world: World, submitted: PaymentSubmitted) -> PaymentRecord:
    """The facilitator does what it should."""
    world.verify(Valid())
    world.step()
    world.settle(Success, sends=True)
    world.chain.mine()
    world.step()
    answered(world)
    return record_of(world, submitted)


def record_of(world: World, submitted: PaymentSubmitted) -> PaymentRecord:
    record = world.record(submitted.payment_key)
    assert record is not None
    return record


def test_a_submission_that_stands_in_the_log_twice_is_answered_once() -> None:
    world = World()
    submitted = show(world)
    world.verify(NoAnswer("down"))
    world.step()
    world.publish(submitted)
    world.step()
    outcome = world.told(submitted)
    assert outcome is not None
    assert (outcome.result, world.has_effect(Verify)) == ("not_taken", False)


def test_only_the_credit_that_was_ordered_last_counts_as_applied() -> None:
    world = World()
    submitted = show(world)
    assert settled(world, submitted).command_seq == 1
    for seq, team in ((2, make.TEAM), (0, make.TEAM), (1, "team_other")):
        world.publish(CreditApplied(
            payment_key=submitted.payment_key, seq=seq, team_id=team, balance_after_atomic=1, applied=1, partition=0
        ))  # fmt: skip
        world.step()
        assert (record_of(world, submitted).state, world.told(submitted)) == ("settled", None)
    world.apply_commands(twice=True)
    world.step()
    assert record_of(world, submitted).state == "credited"
    assert world.accounts.net[submitted.payment_key] == VALUE


def test_a_settle_call_that_was_overtaken_in_its_own_step_is_not_made() -> None:
    world = World()
    submitted = show(world)
    authorization = submitted.authorization
    transaction = world.chain.send(Transfer(authorization.from_address, authorization.nonce, VALUE))
    world.chain.mine()
    place = Place(transaction=transaction, block=3, block_hash=world.chain.blocks[3][1], log_index=1)
    world.next_effect(Verify)
    world.queue.put(Verified(submitted.payment_key, Valid()))
    world.queue.put(EvidenceRead(submitted.payment_key, Paid(place), 3))
    world.step()
    assert record_of(world, submitted).state == "settled"
    assert not world.has_effect(Settle)


def test_an_answer_that_nobody_waits_for_any_more_changes_nothing() -> None:
    world = World()
    submitted = show(world)
    settled(world, submitted)
    world.apply_commands()
    world.step()
    before = record_of(world, submitted)
    world.queue.put(Verified(submitted.payment_key, Valid()))
    world.queue.put(SettleEnded(submitted.payment_key, Success(word(9, "e"))))
    world.step()
    assert (record_of(world, submitted), world.hands.ordered) == (before, [])


def test_a_range_of_blocks_that_was_read_twice_is_counted_once() -> None:
    world = World()
    world.scan()
    world.step()
    world.chain.send(Transfer("0x" + "77" * 20, None, 70_000))
    world.chain.mine()
    for _ in range(2):
        world.scan()
    world.step()
    world.queue.put(done(world.scanner.next(_cursor(world).model_copy(update={"block": 0, "block_hash": world.chain.blocks[0][1]})))[0])
    world.step()
    assert _cursor(world).total == "70000"
    assert len(world.inbox) == 1


def test_a_large_credit_is_not_taken_back_before_the_other_chain_is_as_deep() -> None:
    world = World(large_atomic=5_000_000, confirmations_large=3)
    large = payments_make.authorization(nonce=word(0, "a"), value="9000000")
    submitted = show(world, authorization=large)
    settled(world, submitted)
    for _ in range(2):
        world.chain.mine([])
    world.pass_time(0.5)
    world.step()
    answered(world)
    world.apply_commands()
    world.step()
    place = record_of(world, submitted).place
    assert place is not None
    assert (record_of(world, submitted).state, place.block) == ("credited", 3)
    del world.chain.blocks[3:]
    for expected in ("credited", "credited", "reversed"):
        world.chain.mine([])
        world.watch()
        world.step()
        answered(world)
        assert record_of(world, submitted).state == expected


def test_credentials_go_to_nobody_who_has_given_up() -> None:
    world, asked = World(), {"purpose": "bootstrap", "target": Target(source="agent", plan_id="p")}
    submitted = show(world, **asked)
    settled(world, submitted)
    world.restart()
    world.apply_commands()
    world.step()
    late, first, second = (show(world, **asked, deadline=world.now_ms + ms) for ms in (-1_000, 5_000, 5_000))
    seals = []
    for one in (late, first, second):
        outcome = world.told(one)
        assert outcome is not None
        assert outcome.bootstrapped is not None
        seals.append(outcome.bootstrapped.seal)
    part = record_of(world, submitted).bootstrap
    assert part is not None
    assert (seals, part.released) == ([None, part.seal, None], True)


BOOTSTRAP: dict[str, Any] = {"purpose": "bootstrap", "target": Target(source="agent", plan_id="p")}
PROOFS: list[dict[str, Any]] = [{"quote_hash": "a" * 64}, {"idempotency_hash": "e" * 64, "idempotency_long": True}]
REBUILT: dict[str, Any] = {"x402_version": 1, "signature": "0x" + "2c" * 65}


def seal_shown(world: World, submitted: PaymentSubmitted) -> str | None:
    """The sealed credentials a caller was given with its outcome."""
    outcome = world.told(submitted)
    assert outcome is not None
    assert outcome.bootstrapped is not None
    return outcome.bootstrapped.seal


@pytest.mark.parametrize("proof", PROOFS, ids=["quote", "long id"])
def test_who_rebuilds_a_bootstrap_and_waits_with_it_gets_no_credentials(proof: dict[str, Any]) -> None:
    world = World()
    first = show(world, **BOOTSTRAP, **proof)
    world.verify(Valid())
    world.step()
    world.settle(lambda sent: Unclear("settlement_pending", "pending", sent), sends=True)
    world.step()
    answered(world)
    world.pass_time(3)
    world.step()
    answered(world)
    outcome = world.told(first)
    assert outcome is not None
    assert outcome.result == "pending"
    world.chain.mine()
    onlooker = show(world, **BOOTSTRAP, **REBUILT)
    answered(world)
    world.apply_commands()
    world.step()
    part = record_of(world, first).bootstrap
    assert part is not None
    assert (seal_shown(world, onlooker), part.released) == (None, False)
    assert seal_shown(world, show(world, **BOOTSTRAP, **proof)) == part.seal


@pytest.mark.parametrize("proof", PROOFS, ids=["quote", "long id"])
def test_who_rebuilds_a_bootstrap_after_a_credit_nobody_waited_for_gets_no_credentials(proof: dict[str, Any]) -> None:
    world = World()
    first = show(world, **BOOTSTRAP, **proof)
    settled(world, first)
    world.restart()
    world.apply_commands()
    world.step()
    onlooker, guess = show(world, **BOOTSTRAP, **REBUILT), show(world, **BOOTSTRAP, quote_hash="b" * 64, idempotency_hash="b" * 64)
    part = record_of(world, first).bootstrap
    assert part is not None
    assert (seal_shown(world, onlooker), seal_shown(world, guess), part.released) == (None, None, False)
    again = [show(world, **BOOTSTRAP, **proof) for _ in range(2)]
    assert [seal_shown(world, one) for one in again] == [part.seal, part.seal]


def test_of_those_who_wait_the_first_who_shows_the_quote_gets_the_credentials() -> None:
    world, quote = World(large_atomic=1, confirmations_large=2), PROOFS[0]
    first = show(world, **BOOTSTRAP, **quote)
    assert settled(world, first).state == "unknown"
    onlooker, again = show(world, **BOOTSTRAP, **REBUILT), show(world, **BOOTSTRAP, **quote)
    world.chain.mine()
    world.pass_time(0.5)
    world.step()
    answered(world)
    world.apply_commands()
    world.step()
    part = record_of(world, first).bootstrap
    assert part is not None
    assert part.released
    assert [seal_shown(world, one) for one in (first, onlooker, again)] == [part.seal, None, part.seal]


def test_a_bootstrap_that_was_claimed_with_neither_gives_its_credentials_with_its_first_outcome_only() -> None:
    world, short = World(), {"idempotency_hash": "e" * 64, "x402_version": 1}
    first = show(world, **BOOTSTRAP, **short)
    settled(world, first)
    world.restart()
    world.apply_commands()
    world.step()
    part = record_of(world, first).bootstrap
    assert part is not None
    assert [seal_shown(world, show(world, **BOOTSTRAP, **short)) for _ in range(2)] == [part.seal, None]


def refused(world: World) -> None:
    """The payment is verified and sent to be settled, which the facilitator refuses: it may still land."""
    world.verify(Valid())
    world.step()
    world.settle(lambda _: Refused("invalid_exact_evm_insufficient_balance"), sends=False)
    world.step()
    answered(world)


def test_another_authorization_under_the_id_of_one_that_was_sent_starts_that_one_again_with_its_own_signature() -> None:
    world, held = World(), {"idempotency_hash": "e" * 64}
    first = show(world, **held)
    refused(world)
    other = payments_make.authorization(nonce=word(1, "a"))
    second = show(world, **held, authorization=other, signature="0x" + "2c" * 65, x402_version=1)
    answered(world)
    [(_, given)] = [one for one in world.hands.ordered if isinstance(one[0], Verify)]
    assert (given.authorization, given.signature, given.x402_version) == (first.authorization, first.signature, first.x402_version)
    settled(world, first)
    world.apply_commands()
    world.step()
    outcome = world.told(second)
    assert outcome is not None
    assert (outcome.result, outcome.payment_key, set(world.records())) == ("credited", first.payment_key, {first.payment_key})


def test_its_own_repeat_may_bring_another_signature_of_the_same_authorization() -> None:
    world = World()
    first = show(world)
    refused(world)
    show(world, signature="0x" + "2c" * 65)
    answered(world)
    assert (record_of(world, first).state, record_of(world, first).signature) == ("claimed", "0x" + "2c" * 65)


def test_what_was_sent_holds_its_id_also_while_it_is_claimed_and_nobody_works_on_it() -> None:
    world, held = World(), {"idempotency_hash": "e" * 64}
    first = show(world, **held)
    refused(world)
    show(world, **held)
    answered(world)
    world.verify(NoAnswer("down"))
    world.step()
    assert (record_of(world, first).state, record_of(world, first).sent) == ("claimed", True)
    second = show(world, **held, authorization=payments_make.authorization(nonce=word(1, "a")))
    show(world, **held)
    answered(world)
    assert set(world.records()) == {first.payment_key}
    settled(world, first)
    world.apply_commands()
    world.step()
    outcome = world.told(second)
    assert outcome is not None
    assert (outcome.result, outcome.payment_key) == ("credited", first.payment_key)
    assert sum(world.accounts.net.values()) == VALUE


def test_a_repeat_whose_caller_has_given_up_before_the_chain_was_read_starts_nothing() -> None:
    world = World()
    first = show(world)
    refused(world)
    late = show(world)
    world.pass_time(22.001)
    answered(world)
    assert (record_of(world, first).state, world.told(late), world.has_effect(Verify)) == ("rejected", None, False)


def _cursor(world: World) -> ScanCursor:
    cursor = world.states[world.scanner.key]
    assert isinstance(cursor, ScanCursor)
    return cursor
