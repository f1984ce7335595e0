"""What a payment shown with an event is good for, and what follows from its credit: tables and properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.ids import EventId
from kite_common.testing import make, payments
from kite_common.x402.key import event_of
from kite_gateway.domain.admission import (
    Admitted,
    Decision,
    Duplicate,
    Facts,
    FirstAnswer,
    FundsMissing,
    Outcome,
    Refused,
    Replayed,
    Usage,
    decide,
)
from kite_gateway.domain.topup import Due, Needed, NotNeeded, NotSold, due_of, topup_of

USAGE = Usage(1, 100, 10)
FIRST = FirstAnswer(EventId(make.EVENT_ID), make.NOW_MS, USAGE)
TOO_LOW = Refused("insufficient_funds", detail=FundsMissing(100, 7))
NO_SUBSCRIPTION, QUOTA = Refused("no_active_subscription"), Refused("quota_exceeded", retry_after_s=60)
# Whatever a payment would say, the contract puts these before it.
BEFORE: list[Decision] = [
    Replayed(FIRST, None), Refused("rate_limit_exceeded"), Refused("payload_too_large"), Refused("service_unavailable"),
    Refused("request_in_progress"), Refused("idempotency_key_reused"),
]  # fmt: skip
TABLE: list[tuple[Decision, Due]] = [
    (TOO_LOW, Needed(100, TOO_LOW)),
    (Admitted(USAGE, 10, "sub", 1, None), NotNeeded()),
    (Duplicate(FIRST, None), NotNeeded()),
    (NO_SUBSCRIPTION, NotSold(NO_SUBSCRIPTION)),
    (QUOTA, NotSold(QUOTA)),
]


@pytest.mark.parametrize(("decision", "due"), TABLE)
def test_a_payment_is_needed_only_where_money_is_all_that_is_missing(decision: Decision, due: Due) -> None:
    assert due_of(decision) == due


@pytest.mark.parametrize("decision", BEFORE)
def test_what_comes_before_the_payment_is_answered_without_it(decision: Decision) -> None:
    assert due_of(decision) is decision


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_of_admission_says_what_a_payment_is_for(outcome: Outcome) -> None:
    decision = decide(Facts(outcome, make.NOW_MS, first=FIRST, period_end=make.NOW_MS + 1))
    assert isinstance(due_of(decision), Needed) == (outcome is Outcome.WALLET_TOO_LOW)


@given(st.integers(0, 1 << 47), st.text(min_size=1, max_size=80))
def test_every_repeat_of_a_payment_is_the_same_event_under_the_same_claim(credited_at: int, key: str) -> None:
    first = topup_of(payments.outcome(payment_key=key, credited_at=credited_at, submission_id="a"))
    repeat = topup_of(payments.outcome(payment_key=key, credited_at=credited_at, submission_id="b", stored_status=202))
    other = topup_of(payments.outcome(payment_key=key + "'", credited_at=credited_at))
    assert first == repeat
    assert first.event_id == event_of(key, credited_at)
    assert (other.event_id == first.event_id, other.paid_with.claim == first.paid_with.claim) == (False, False)


def test_a_payment_that_is_not_credited_pays_for_nothing() -> None:
    with pytest.raises(ValueError, match="not credited"):
        topup_of(payments.outcome(result="pending"))
