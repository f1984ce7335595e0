"""What each outcome of the admission step becomes."""

from dataclasses import replace

import pytest

from kite_common.ids import EventId
from kite_gateway.domain.admission import (
    Admitted,
    Facts,
    FirstAnswer,
    FundsMissing,
    Outcome,
    QuotaUsed,
    Refused,
    Replayed,
    Usage,
    decide,
)
from kite_gateway.domain.rate_limit import UNIT, RateLimit

DAY_MS = 86_400_000
FACTS = Facts(
    Outcome.ADMITTED, at_ms=20_000 * DAY_MS + 1_000, per_minute=60, level=30 * UNIT, month_used=42, month_limit=100,
    day_used=7, day_limit=10,
    period_start=20_000 * DAY_MS, period_end=20_010 * DAY_MS, price_atomic=80, available_atomic=50, subscription_id="sub",
)  # fmt: skip
RATE = RateLimit(per_minute=60, remaining=30, reset_s=30, retry_after_s=1)


def test_an_admitted_message_carries_the_counters_with_it() -> None:
    assert decide(FACTS) == Admitted(Usage(42, 100, 80), 80, "sub", FACTS.at_ms, RATE)


def test_a_repeat_gets_its_first_answer() -> None:
    first = FirstAnswer(EventId("e"), 5, Usage(1, 2, 3))
    assert decide(replace(FACTS, outcome=Outcome.REPLAYED, first=first)) == Replayed(first, RATE)


def test_a_repeat_without_its_first_answer_is_a_defect() -> None:
    with pytest.raises(ValueError, match="first answer"):
        decide(replace(FACTS, outcome=Outcome.REPLAYED))


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.UNKNOWN_ACCOUNT, Refused("service_unavailable", RATE, 2)),
        (Outcome.IN_PROGRESS, Refused("request_in_progress", RATE, 1)),
        (Outcome.KEY_REUSED, Refused("idempotency_key_reused", RATE)),
        (Outcome.NO_SUBSCRIPTION, Refused("no_active_subscription", RATE)),
        (Outcome.MONTH_USED_UP, Refused("quota_exceeded", RATE, 10 * 86_400 - 1, QuotaUsed("month", 42, 100))),
        (Outcome.DAY_USED_UP, Refused("quota_exceeded", RATE, 86_399, QuotaUsed("day", 7, 10))),
        (Outcome.WALLET_TOO_LOW, Refused("insufficient_funds", RATE, detail=FundsMissing(80, 50))),
    ],
)
def test_each_refusal_says_its_code_its_wait_and_its_numbers(outcome: Outcome, expected: Refused) -> None:
    assert decide(replace(FACTS, outcome=outcome)) == expected


def test_an_empty_bucket_says_when_the_next_request_fits() -> None:
    decision = decide(replace(FACTS, outcome=Outcome.RATE_LIMITED, level=UNIT // 2, per_minute=6))
    assert isinstance(decision, Refused)
    assert (decision.code, decision.retry_after_s) == ("rate_limit_exceeded", 5)


def test_every_outcome_leads_to_a_decision() -> None:
    first = FirstAnswer(EventId("e"), 5, Usage(1, 2, 3))
    for outcome in Outcome:
        assert decide(replace(FACTS, outcome=outcome, first=first)) is not None


def test_a_wait_is_never_below_a_second() -> None:
    last_moment = replace(FACTS, outcome=Outcome.DAY_USED_UP, at_ms=20_001 * DAY_MS - 1)
    assert getattr(decide(last_moment), "retry_after_s", None) == 1


def test_a_quota_of_a_period_that_has_ended_waits_for_the_next_end() -> None:
    # The projected period ended ten days ago and was a calendar month long.
    facts = replace(
        FACTS, outcome=Outcome.MONTH_USED_UP, period_start=1_767_225_600_000, period_end=1_769_904_000_000, at_ms=1_770_768_000_000
    )
    assert getattr(decide(facts), "retry_after_s", None) == (1_772_323_200_000 - 1_770_768_000_000) // 1000


def test_a_wallet_below_what_is_reserved_shows_nothing_free() -> None:
    decision = decide(replace(FACTS, outcome=Outcome.WALLET_TOO_LOW, available_atomic=-20))
    assert getattr(decision, "detail", None) == FundsMissing(80, 0)
