"""For tests: what every implementation of Reservations must do."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Protocol

from kite_common.ids import TeamId
from kite_gateway.application.ports import Reservations
from kite_gateway.domain.admission import AdmissionRequest, Claim, FirstAnswer, Outcome, PaidWith, Usage
from kite_gateway.testing.accounts import WITHOUT_SUBSCRIPTION_PER_MINUTE, Account


class ReservationsHarness(Protocol):
    """What the behaviour suite needs beside the port: a team of its own, and billing's hand on it."""

    @property
    def reservations(self) -> Reservations: ...

    async def open(self, account: Account) -> TeamId:
        """A new team with this projected account."""
        ...

    def request(self, team_id: TeamId, claim: Claim | None = None, delivery: str | None = None) -> AdmissionRequest:
        """A new request of the team."""
        ...


Behaviour = Callable[[ReservationsHarness], Awaitable[None]]


async def an_unknown_account_is_not_admitted(harness: ReservationsHarness) -> None:
    team = TeamId("team_nobody")
    assert (await harness.reservations.admit(harness.request(team))).outcome is Outcome.UNKNOWN_ACCOUNT


async def a_wallet_pays_for_what_it_holds_and_no_more(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(price=100, balance=350))
    outcomes = [(await harness.reservations.admit(harness.request(team))).outcome for _ in range(5)]
    assert outcomes == [Outcome.ADMITTED] * 3 + [Outcome.WALLET_TOO_LOW] * 2


async def a_refusal_names_price_and_what_is_free(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(price=100, balance=150))
    await harness.reservations.admit(harness.request(team))
    facts = await harness.reservations.admit(harness.request(team))
    assert (facts.outcome, facts.price_atomic, facts.available_atomic) == (Outcome.WALLET_TOO_LOW, 100, 50)


async def a_refusal_names_what_the_next_credit_pays_first(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(price=100, balance=0, debt=5_000_000))
    for facts in (await harness.reservations.peek(harness.request(team)), await harness.reservations.admit(harness.request(team))):
        assert (facts.outcome, facts.debt_atomic, facts.available_atomic) == (Outcome.WALLET_TOO_LOW, 5_000_000, 0)


async def a_flat_plan_takes_nothing_from_the_wallet(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(provider="clerk", price=100, balance=0))
    facts = await harness.reservations.admit(harness.request(team))
    assert (facts.outcome, facts.price_atomic) == (Outcome.ADMITTED, 0)


async def the_month_ends_at_its_limit(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(used=8, month_limit=10))
    facts = [await harness.reservations.admit(harness.request(team)) for _ in range(3)]
    assert [(one.outcome, one.month_used) for one in facts] == [
        (Outcome.ADMITTED, 9), (Outcome.ADMITTED, 10), (Outcome.MONTH_USED_UP, 10),
    ]  # fmt: skip


async def a_day_that_is_over_counts_nothing(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(day=1, day_used=500, day_limit=1))
    facts = [await harness.reservations.admit(harness.request(team)) for _ in range(2)]
    assert [(one.outcome, one.day_used) for one in facts] == [(Outcome.ADMITTED, 1), (Outcome.DAY_USED_UP, 1)]


async def a_period_that_is_over_counts_nothing(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(period_end=1, used=500, month_limit=1))
    facts = [await harness.reservations.admit(harness.request(team)) for _ in range(2)]
    assert [(one.outcome, one.month_used) for one in facts] == [(Outcome.ADMITTED, 1), (Outcome.MONTH_USED_UP, 1)]


async def without_an_active_subscription_nothing_is_reserved(harness: ReservationsHarness) -> None:
    for status in ("past_due", "cancelled", "none"):
        team = await harness.open(Account(status=status))
        facts = await harness.reservations.admit(harness.request(team))
        assert (facts.outcome, facts.per_minute) == (Outcome.NO_SUBSCRIPTION, WITHOUT_SUBSCRIPTION_PER_MINUTE)


async def a_rate_ends_at_its_burst(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(rate_per_min=2))
    outcomes = [(await harness.reservations.admit(harness.request(team))).outcome for _ in range(3)]
    assert outcomes == [Outcome.ADMITTED, Outcome.ADMITTED, Outcome.RATE_LIMITED]


async def a_confirmed_claim_gives_its_first_answer(harness: ReservationsHarness) -> None:
    team, claim = await harness.open(Account(used=4)), Claim("k" * 32, "body")
    first = harness.request(team, claim)
    await harness.reservations.admit(first)
    await harness.reservations.confirm(first)
    facts = await harness.reservations.admit(harness.request(team, claim))
    assert facts.first == FirstAnswer(first.event_id, first.received_ms, Usage(5, 1_000, 100))


async def a_claim_in_flight_holds_its_key(harness: ReservationsHarness) -> None:
    team, claim = await harness.open(Account()), Claim("k" * 32, "body")
    await harness.reservations.admit(harness.request(team, claim))
    again = await harness.reservations.admit(harness.request(team, claim))
    other = await harness.reservations.admit(harness.request(team, Claim(claim.id, "other body")))
    assert (again.outcome, other.outcome) == (Outcome.IN_PROGRESS, Outcome.KEY_REUSED)


async def a_released_claim_frees_its_key_and_its_money(harness: ReservationsHarness) -> None:
    team, claim = await harness.open(Account(price=100, balance=100)), Claim("k" * 32, "body")
    first = harness.request(team, claim)
    at_ms = (await harness.reservations.admit(first)).at_ms
    await harness.reservations.release(first, at_ms)
    await harness.reservations.release(first, at_ms)
    facts = await harness.reservations.admit(harness.request(team, Claim(claim.id, "other body")))
    assert (facts.outcome, facts.available_atomic) == (Outcome.ADMITTED, 100)


async def a_refused_request_frees_its_key(harness: ReservationsHarness) -> None:
    team, claim = await harness.open(Account(price=100, balance=100)), Claim("k" * 32, "body")
    other = harness.request(team)
    at_ms = (await harness.reservations.admit(other)).at_ms
    refused = await harness.reservations.admit(harness.request(team, claim))
    await harness.reservations.release(other, at_ms)
    admitted = await harness.reservations.admit(harness.request(team, Claim(claim.id, "other body")))
    assert (refused.outcome, admitted.outcome) == (Outcome.WALLET_TOO_LOW, Outcome.ADMITTED)


async def a_second_delivery_is_a_duplicate_also_with_the_quota_used_up(harness: ReservationsHarness) -> None:
    team, first = await harness.open(Account(used=4, month_limit=5, balance=100)), "d" * 32
    request = harness.request(team, delivery=first)
    await harness.reservations.admit(request)
    await harness.reservations.confirm(request)
    again = await harness.reservations.admit(harness.request(team, delivery=first))
    other = await harness.reservations.admit(harness.request(team, delivery="e" * 32))
    assert (again.outcome, other.outcome) == (Outcome.DUPLICATE, Outcome.MONTH_USED_UP)
    assert again.first == FirstAnswer(request.event_id, request.received_ms, Usage(5, 5, 100))


async def a_delivery_in_flight_is_no_duplicate_yet(harness: ReservationsHarness) -> None:
    team, first = await harness.open(Account()), "d" * 32
    request = harness.request(team, delivery=first)
    at_ms = (await harness.reservations.admit(request)).at_ms
    assert (await harness.reservations.admit(harness.request(team, delivery=first))).outcome is Outcome.DELIVERY_IN_FLIGHT
    await harness.reservations.release(request, at_ms)
    assert (await harness.reservations.admit(harness.request(team, delivery=first))).outcome is Outcome.ADMITTED


async def a_key_is_asked_before_the_delivery(harness: ReservationsHarness) -> None:
    team, claim, delivery = await harness.open(Account()), Claim("k" * 32, "body"), "d" * 32
    request = harness.request(team, claim, delivery)
    await harness.reservations.admit(request)
    await harness.reservations.confirm(request)
    asked = [(claim, delivery), (Claim("l" * 32, "body"), delivery), (claim, "e" * 32), (None, delivery), (Claim("k" * 32, "x"), delivery)]
    outcomes = [(await harness.reservations.admit(harness.request(team, *one))).outcome for one in asked]
    assert outcomes == [Outcome.REPLAYED, Outcome.DUPLICATE, Outcome.REPLAYED, Outcome.DUPLICATE, Outcome.KEY_REUSED]


async def without_a_subscription_even_a_duplicate_is_refused(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(status="past_due"))
    facts = await harness.reservations.admit(harness.request(team, delivery="d" * 32))
    assert facts.outcome is Outcome.NO_SUBSCRIPTION


async def a_body_above_the_plans_limit_takes_nothing(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(max_payload=1_000, rate_per_min=1))
    sizes = [replace(harness.request(team), body_bytes=size) for size in (1_001, 1_000)]
    facts = [await harness.reservations.admit(request) for request in sizes]
    assert [(one.outcome, one.largest_bytes) for one in facts] == [(Outcome.PAYLOAD_TOO_LARGE, 1_000), (Outcome.ADMITTED, 0)]


PAYMENT: Final = PaidWith("p" * 32, '{"transaction":"0x5a"}')


async def a_look_ahead_takes_a_token_and_nothing_else(harness: ReservationsHarness) -> None:
    team, claim = await harness.open(Account(rate_per_min=2, price=100, balance=100, used=4)), Claim("k" * 32, "body")
    request = harness.request(team, claim, "d" * 32)
    seen = await harness.reservations.peek(request)
    assert (seen.outcome, seen.month_used, seen.available_atomic, seen.level) == (Outcome.ADMITTED, 4, 100, 60_000)
    admitted = await harness.reservations.admit(request)
    assert (admitted.outcome, admitted.month_used) == (Outcome.ADMITTED, 5)
    assert (await harness.reservations.peek(request)).outcome is Outcome.RATE_LIMITED


async def a_look_ahead_finds_what_admission_would_find(harness: ReservationsHarness) -> None:
    claim, other = Claim("k" * 32, "body"), Claim("k" * 32, "other body")
    team = await harness.open(Account(price=100, balance=100))
    first = harness.request(team, claim, "d" * 32)
    await harness.reservations.admit(first)
    asked = [(claim, None), (other, None), (None, "d" * 32), (None, None)]
    in_flight = [(await harness.reservations.peek(harness.request(team, *one))).outcome for one in asked]
    await harness.reservations.confirm(first)
    accepted = [(await harness.reservations.peek(harness.request(team, *one))).outcome for one in asked]
    assert in_flight == [Outcome.IN_PROGRESS, Outcome.KEY_REUSED, Outcome.DELIVERY_IN_FLIGHT, Outcome.WALLET_TOO_LOW]
    assert accepted == [Outcome.REPLAYED, Outcome.KEY_REUSED, Outcome.DUPLICATE, Outcome.WALLET_TOO_LOW]


async def who_has_been_looked_at_takes_no_second_token(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(rate_per_min=1))
    request = harness.request(team)
    await harness.reservations.peek(request)
    facts = await harness.reservations.admit(replace(request, takes_token=False))
    assert (facts.outcome, facts.per_minute) == (Outcome.ADMITTED, 1)
    assert facts.level < 60_000


async def a_payment_is_for_one_event_under_whichever_key(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(used=4))
    first = replace(harness.request(team, Claim("k" * 32, "body"), "d" * 32), payment=PAYMENT)
    at_ms = (await harness.reservations.admit(first)).at_ms
    repeats = [replace(first, claim=claim, delivery=None) for claim in (None, Claim("l" * 32, "body"))]
    in_flight = [(await harness.reservations.admit(one)).outcome for one in repeats]
    assert in_flight == [Outcome.PAID_IN_FLIGHT] * 2
    await harness.reservations.confirm(first)
    facts = [await harness.reservations.admit(one) for one in repeats]
    answer = FirstAnswer(first.event_id, first.received_ms, Usage(5, 1_000, 100), PAYMENT.receipt)
    assert [(one.outcome, one.first) for one in facts] == [(Outcome.REPLAYED, answer)] * 2
    assert facts[0].at_ms >= at_ms


async def a_key_and_a_delivery_remember_how_they_were_paid(harness: ReservationsHarness) -> None:
    team, claim = await harness.open(Account()), Claim("k" * 32, "body")
    first = replace(harness.request(team, claim, "d" * 32), payment=PAYMENT)
    await harness.reservations.admit(first)
    await harness.reservations.confirm(first)
    found = [(await harness.reservations.admit(harness.request(team, *one))).first for one in ((claim, None), (None, "d" * 32))]
    assert [one and one.receipt for one in found] == [PAYMENT.receipt] * 2


async def a_released_payment_may_be_admitted_again_under_the_same_event(harness: ReservationsHarness) -> None:
    team = await harness.open(Account(price=100, balance=100))
    first = replace(harness.request(team), payment=PAYMENT)
    at_ms = (await harness.reservations.admit(first)).at_ms
    await harness.reservations.release(first, at_ms - 1)
    assert (await harness.reservations.admit(first)).outcome is Outcome.PAID_IN_FLIGHT, "that reservation was another's"
    await harness.reservations.release(first, at_ms)
    facts = await harness.reservations.admit(first)
    assert (facts.outcome, facts.available_atomic) == (Outcome.ADMITTED, 100)


RESERVATIONS_SUITE: Final[tuple[Behaviour, ...]] = (
    an_unknown_account_is_not_admitted, a_wallet_pays_for_what_it_holds_and_no_more, a_refusal_names_price_and_what_is_free,
    a_refusal_names_what_the_next_credit_pays_first,
    a_flat_plan_takes_nothing_from_the_wallet, the_month_ends_at_its_limit, a_day_that_is_over_counts_nothing,
    a_period_that_is_over_counts_nothing, without_an_active_subscription_nothing_is_reserved, a_rate_ends_at_its_burst,
    a_confirmed_claim_gives_its_first_answer, a_claim_in_flight_holds_its_key, a_released_claim_frees_its_key_and_its_money,
    a_refused_request_frees_its_key, a_second_delivery_is_a_duplicate_also_with_the_quota_used_up, a_delivery_in_flight_is_no_duplicate_yet,
    a_key_is_asked_before_the_delivery, without_a_subscription_even_a_duplicate_is_refused, a_body_above_the_plans_limit_takes_nothing,
    a_look_ahead_takes_a_token_and_nothing_else, a_look_ahead_finds_what_admission_would_find, who_has_been_looked_at_takes_no_second_token,
    a_payment_is_for_one_event_under_whichever_key, a_key_and_a_delivery_remember_how_they_were_paid,
    a_released_payment_may_be_admitted_again_under_the_same_event,
)  # fmt: skip
