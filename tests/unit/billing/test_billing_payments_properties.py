"""Any interleaving of submissions, answers, lies, evidence, reorganisations, crashes: money is credited once, as the chain paid."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Final

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kite_billing.domain.payments.events import PaymentObserved, PaymentSettled
from kite_billing.domain.payments.facts import Invalid, Look, NoAnswer, Refused, Settle, SettleAnswer, Success, Unclear, Valid, Verify
from kite_common.events.payments import Alternative, Authorization, PaymentSubmitted
from kite_common.testing import payments as make
from support.payments_world import Transfer, World, word

# What the table of events allows, and what this design adds: `noted` changes no state.
ALLOWED: Final[Mapping[str, Set[str | None]]] = {
    "claimed": {None, "claimed", "rejected", "observed", "reversed"},
    "settling": {"claimed", "unknown", "reversed"},
    "settled": {"claimed", "settling", "unknown", "rejected", "dead", "reversed"},
    "credited": {"settled"},
    "rejected": {"claimed", "settling", "unknown"},
    "unknown": {"settling"},
    "dead": {"claimed", "settling", "unknown", "rejected", "observed"},
    "reversed": {"credited", "observed", "claimed"},
    "observed": {None, "reversed", "claimed", "settling", "unknown", "rejected", "dead"},
    "assigned": {"observed", "dead"},
}
REASON: Final = "invalid_exact_evm_insufficient_balance"
KEYS: Final = st.integers(0, 2)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Thousands of steps are made: their lines are for nobody."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


class Payments(RuleBasedStateMachine):
    """One payer with three authorizations, of which the third is large, and two requests."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(large_atomic=5_000_000, confirmations_large=3, watch_blocks=1_000)
        self.shown: list[PaymentSubmitted] = []
        self.sent: set[str] = set()
        # How often each submission stands in the inbox: a record that comes twice may be answered twice, with one meaning.
        self.asked: Counter[str] = Counter()

    @rule(number=KEYS, request=st.integers(0, 1), new=st.booleans(), held=st.booleans())
    def submit(self, number: int, request: int, new: bool, held: bool) -> None:
        alternative = Alternative(status=402, code="invalid_payment", reason="price_moved") if new else None
        submitted = self.world.submit(
            number, fingerprint=f"{request:064d}", if_new=alternative, idempotency_hash="e" * 64 if held else None,
            authorization=self._authorization(number),
        )  # fmt: skip
        self.asked[submitted.submission_id] += 1
        self.shown.append(submitted)

    @precondition(lambda self: self.shown)
    @rule(data=st.data())
    def an_inbox_record_comes_again(self, data: st.DataObject) -> None:
        again = data.draw(st.sampled_from(self.shown))
        self.asked[again.submission_id] += 1
        self.world.publish(again)

    @rule(records=st.integers(0, 3), commit=st.booleans() | st.just(True))
    def step(self, records: int, commit: bool) -> None:
        self.world.step(records=records, commit=commit)

    @rule()
    def crash(self) -> None:
        self.world.restart()

    @precondition(lambda self: self.world.has_effect(Verify))
    @rule(answer=st.sampled_from([Valid(), Valid(), Valid(), Invalid(REASON), NoAnswer("down")]))
    def the_facilitator_verifies(self, answer: Valid | Invalid | NoAnswer) -> None:
        self.world.verify(answer)

    @precondition(lambda self: self.world.has_effect(Settle))
    @rule(
        says=st.sampled_from(["success", "refused", "failed", "timeout", "pending", "cut", "unsent", "500"]), sends=st.booleans(),
        kind=st.sampled_from(["pay", "pay", "revert"]),
    )  # fmt: skip
    def the_facilitator_settles(self, says: str, sends: bool, kind: str) -> None:
        answers: dict[str, Callable[[str], SettleAnswer]] = {
            "success": Success, "refused": lambda _: Refused(REASON), "timeout": lambda _: Unclear("no_answer", "timeout"),
            "failed": lambda sent: Unclear("transaction_failed", "answered", sent),
            "pending": lambda sent: Unclear("settlement_pending", "pending", sent), "cut": lambda _: Unclear("no_answer", "cut"),
            "unsent": lambda _: Unclear("no_answer", "unsent"), "500": lambda _: Unclear("status_500", "answered"),
        }  # fmt: skip
        # Nothing of a call that never arrived can be sent.
        self.world.settle(answers[says], sends=sends and says != "unsent", kind=kind)

    @precondition(lambda self: self.world.has_effect(Look))
    @rule()
    def the_chain_is_read(self) -> None:
        self.world.look()

    @rule()
    def a_block_is_mined(self) -> None:
        self.world.chain.mine()

    @rule(again=st.booleans())
    def the_newest_block_is_replaced(self, again: bool) -> None:
        self.world.chain.reorganise(again=again)

    @rule(number=KEYS, kind=st.sampled_from(["pay", "cancel", "elsewhere"]))
    def somebody_else_uses_the_authorization(self, number: int, kind: str) -> None:
        made = self._authorization(number)
        self.world.chain.send(Transfer(made.from_address, made.nonce, int(made.value), int(made.valid_before), kind))

    @rule(number=KEYS, for_ever=st.booleans())
    def the_payer_signs_another_value_under_the_same_nonce(self, number: int, for_ever: bool) -> None:
        made = self._authorization(number)
        self.world.chain.send(Transfer(made.from_address, made.nonce, 1, 1 << 62 if for_ever else int(made.valid_before)))

    @rule()
    def somebody_pays_without_an_authorization(self) -> None:
        self.world.chain.send(Transfer("0x" + "77" * 20, None, 70_000))

    @rule(seconds=st.sampled_from([0.5, 3, 40, 70, 400, 90_000]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(twice=st.booleans())
    def accounts_apply(self, twice: bool) -> None:
        self.world.apply_commands(twice=twice)

    @rule()
    def the_scanner_reads(self) -> None:
        self.world.scan()

    @rule()
    def blocks_are_compared(self) -> None:
        self.world.watch()

    @invariant()
    def every_key_is_credited_once_at_most(self) -> None:
        for key, net in self.world.accounts.net.items():
            record = self.world.record(key)
            assert record is not None
            assert net in (0, int(record.value)), key

    @invariant()
    def what_was_sent_stays_sent(self) -> None:
        records = self.world.records()
        assert self.sent <= {key for key, record in records.items() if record.sent} | (self.sent - records.keys())
        self.sent |= {key for key, record in records.items() if record.sent}

    @invariant()
    def states_change_only_as_allowed(self) -> None:
        for step in self.world.events:
            assert step.event == "noted" or step.before in ALLOWED[step.event], (step.before, step.event)
        self.world.events.clear()

    @invariant()
    def nothing_is_credited_that_did_not_stand_in_a_block(self) -> None:
        for key, event in self.world.decided:
            if isinstance(event, PaymentSettled | PaymentObserved):
                record = self.world.folded.get(key)
                assert record is not None
                paid = (event.place.transaction, event.place.block_hash, record.payer, int(record.value))
                assert paid in self.world.chain.ever_paid, (key, event)
        self.world.decided.clear()

    @invariant()
    def what_the_breaker_waits_for_is_under_way(self) -> None:
        world, trying = self.world, self.world.shared.breaker.trying
        flight = world.hands.desk.flight(trying) if world.hands.desk is not None and trying is not None else None
        assert trying is None or (flight is not None and flight.is_running), (trying, flight)

    @invariant()
    def nobody_is_told_more_often_than_they_asked(self) -> None:
        told = Counter(one.submission_id for one in self.world.outcomes)
        assert all(count <= self.asked[submission] for submission, count in told.items())

    @invariant()
    def the_events_give_the_records(self) -> None:
        assert {key: record for key, record in self.world.folded.items() if record is not None} == self.world.records()

    def teardown(self) -> None:
        """Nothing lies any more, what waits is mined, windows end: then the wallets hold what the chain paid."""
        world = self.world
        for _ in range(4):
            world.chain.mine()
        world.settle_down()
        self._everybody_is_answered()
        for _ in range(3):
            world.pass_time(4_000)
            world.chain.mine()
            world.settle_down()
        world.chain.mine()
        world.settle_down()
        assert sum(world.accounts.net.values()) == world.chain.paid()
        self.every_key_is_credited_once_at_most()
        self.nobody_is_told_more_often_than_they_asked()
        assert not {record.state for record in world.records().values()} & {"settling", "unknown", "settled"}

    def _everybody_is_answered(self) -> None:
        """Whatever happened before: a payment that is shown now gets an answer before its caller gives up, and nothing goes on hanging."""
        world = self.world
        again = [world.submit(number, authorization=self._authorization(number), fingerprint=f"{0:064d}") for number in range(3)]
        for one in again:
            self.asked[one.submission_id] += 1
        for _ in range(8):
            world.settle_down()
            world.pass_time(1)
            world.chain.mine()
        world.settle_down()
        for one in again:
            assert world.told(one) is not None, world.record(one.payment_key)
        assert (world.shared.running, world.shared.breaker.trying) == (0, None)
        for key in world.records():
            flight = world.hands.desk.flight(key) if world.hands.desk is not None else None
            assert flight is None or not (flight.is_running or flight.waiters or flight.asking), (key, flight)

    def _authorization(self, number: int) -> Authorization:
        return make.authorization(nonce=word(number, "a"), value="9000000" if number == 2 else "1000000")


TestPayments = Payments.TestCase
TestPayments.settings = settings(max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
