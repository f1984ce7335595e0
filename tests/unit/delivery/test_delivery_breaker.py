"""An endpoint that only fails is left alone; how it is tried again, and how soon what was held gets to it once it is back."""

import heapq
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kite_delivery.domain import breaker as rules
from kite_delivery.domain import lane as lanes
from kite_delivery.domain.breaker import CLOSED, Breaker, BreakerLimits, Verdict, after, at_once, hold, state
from kite_delivery.domain.lane import Lane, LaneLimits, Room
from kite_delivery.domain.outcome import Answer, Failure, Reply, SendError, verdict
from kite_delivery.domain.tiers import tier_for

LIMITS = BreakerLimits(failures=3, open_s=5, open_most_s=60, look_s=5, hold_most_s=1_800)
CONCURRENCY = 16


def failed(times: int, breaker: Breaker = CLOSED, now_s: float = 0.0, limits: BreakerLimits = LIMITS) -> Breaker:
    for _ in range(times):
        breaker = after(breaker, limits, "down", CONCURRENCY, now_s)
    return breaker


def succeeded(breaker: Breaker, now_s: float) -> Breaker:
    return after(breaker, LIMITS, "up", CONCURRENCY, now_s)


@pytest.mark.parametrize("error", ["timeout", "connect", "tls", "dns", "protocol"])
def test_no_answer_is_the_endpoints_fault(error: SendError) -> None:
    assert verdict(Failure(error)) == "down"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [(Answer(500), "down"), (Answer(503, "1"), "down"), (Answer(429), "down"), (Answer(200), "up"), (Answer(404), "up"),
     (Answer(401), "up"), (Answer(302), "up"), (Answer(410), "up"), (Answer(200, error="body_too_slow"), "up"),
     (Failure("secret"), "unknown"), (Failure("blocked"), "unknown")],
)  # fmt: skip
def test_what_an_answer_says_of_the_endpoint(reply: Reply, expected: Verdict) -> None:
    assert verdict(reply) == expected


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    assert state(failed(2), 0.0) == "closed"
    assert state(failed(2, succeeded(failed(2), 0.0)), 0.0) == "closed"
    assert state(failed(3), 0.0) == "open"
    assert at_once(failed(3), CONCURRENCY, 0.0) == 0


def test_then_one_tries_and_a_success_closes_it_carefully() -> None:
    breaker = failed(3)
    assert state(breaker, 4.9) == "open"
    assert state(breaker, 5.0) == "half_open"
    assert at_once(breaker, CONCURRENCY, 5.0) == 1
    breaker = succeeded(breaker, 5.5)
    allowed = [at_once(breaker, CONCURRENCY, 6.0)]
    for _ in range(14):
        breaker = succeeded(breaker, 6.0)
        allowed.append(at_once(breaker, CONCURRENCY, 6.0))
    assert allowed == list(range(2, 17))
    assert breaker == CLOSED


def test_a_failed_probe_leaves_it_alone_for_twice_as_long_up_to_a_bound() -> None:
    breaker, now_s, waits = failed(3), 0.0, []
    for _ in range(7):
        waits.append(breaker.open_until_s - now_s)
        now_s = breaker.open_until_s
        breaker = failed(1, breaker, now_s)
    assert waits == [5, 10, 20, 40, 60, 60, 60]
    assert breaker.opened_s == 0.0


def test_what_was_under_way_when_it_opened_prolongs_nothing() -> None:
    assert failed(13, failed(3), 4.0).open_until_s == 5.0


def test_what_says_nothing_of_the_endpoint_changes_nothing() -> None:
    assert after(failed(2), LIMITS, "unknown", CONCURRENCY, 0.0) == failed(2)
    assert after(failed(3), LIMITS, "unknown", CONCURRENCY, 5.0) == failed(3)


def test_switched_off_it_never_opens() -> None:
    assert state(failed(1000, limits=BreakerLimits(failures=0)), 0.0) == "closed"


def test_one_of_those_held_looks_again_soon_and_the_others_rest_for_half_the_outage() -> None:
    breaker, rest_s = hold(failed(3), LIMITS, 4.0)
    assert rest_s == 5
    for now_s, expected in ((5.0, 5), (8.9, 5)):
        breaker, rest_s = hold(breaker, LIMITS, now_s)
        assert rest_s == expected
    breaker, _ = hold(breaker, LIMITS, 100.0)
    assert hold(breaker, LIMITS, 101.0)[1] == 50.5
    breaker, _ = hold(breaker, LIMITS, 36_000.0)
    assert hold(breaker, LIMITS, 36_001.0)[1] == 1_800


@given(st.lists(st.tuples(st.sampled_from(["up", "down", "unknown"]), st.floats(0, 100)), max_size=60))
def test_whatever_happens_the_time_alone_is_bounded_and_one_success_ends_it(steps: list[tuple[Verdict, float]]) -> None:
    breaker, now_s = CLOSED, 0.0
    for said, later_s in steps:
        now_s += later_s
        breaker = after(breaker, LIMITS, said, CONCURRENCY, now_s)
        assert breaker.open_until_s - now_s <= LIMITS.open_most_s
        assert said != "up" or state(breaker, now_s) == "closed"
        assert 0 <= at_once(breaker, CONCURRENCY, now_s) <= CONCURRENCY


TIERS_MS = (5_000, 60_000, 300_000, 1_800_000, 7_200_000, 21_600_000)
ATTEMPT_S = 15.0


@dataclass
class Outage:
    """One endpoint that fails until `back_s`, and deliveries that nobody has tried, through lane, breaker and tiers, in no time at all."""

    back_s: float
    limits: LaneLimits = field(default_factory=lambda: LaneLimits(breaker=LIMITS))
    lane: Lane = field(default_factory=Lane)
    closed_s: float = 0.0
    opened_s: float = 0.0
    moves: int = 0
    posts_down: int = 0

    def run(self, arrivals_s: list[float]) -> dict[int, float]:
        """When each delivery was sent with success, or had its attempt fail."""
        tried: dict[int, float] = {}
        agenda = [(at_s, number, "offer") for number, at_s in enumerate(arrivals_s)]
        heapq.heapify(agenda)
        while agenda:
            now_s, number, what = heapq.heappop(agenda)
            if what != "offer":
                was_open = bool(self.lane.breaker.openings)
                self.opened_s = self.lane.breaker.opened_s if was_open else self.opened_s
                self.lane = lanes.ended(self.lane, self.limits, "up" if what == "up" else "down", now_s)
                self.closed_s = now_s if was_open and not self.lane.breaker.openings else self.closed_s
                continue
            match lanes.decide(self.lane, 1, self.limits, Room(1000, 100_000, 1 << 30), now_s, has_turn=True):
                case "start":
                    self.lane, tried[number] = lanes.started(self.lane, self.limits, now_s), now_s
                    up = now_s >= self.back_s
                    self.posts_down += not up
                    heapq.heappush(agenda, (now_s + (0.01 if up else ATTEMPT_S), number, "up" if up else "down"))
                case "hold":
                    self.lane, rest_s = lanes.held(self.lane, self.limits, now_s)
                    self.moves += 1
                    heapq.heappush(agenda, (now_s + TIERS_MS[tier_for(round(rest_s * 1000), TIERS_MS)] / 1000, number, "offer"))
                case "wait" | "full":
                    heapq.heappush(agenda, (now_s + 0.1, number, "offer"))
        return tried


@settings(max_examples=60, deadline=None)
@given(st.floats(1, 100_000), st.integers(20, 200))
def test_what_is_held_reaches_the_endpoint_in_bounded_time_after_it_is_back(down_s: float, rate_count: int) -> None:
    """The bound of the README. Events come evenly during the outage and go on coming once a minute after it."""
    outage = Outage(back_s=down_s)
    during = [down_s * number / rate_count for number in range(rate_count)]
    afterwards = [down_s + 60.0 * number for number in range(1, 120)]
    tried = outage.run(during + afterwards)
    assert len(tried) == len(during) + len(afterwards)
    assert outage.closed_s or outage.posts_down < CONCURRENCY + LIMITS.failures
    if outage.closed_s:
        # A probe that began before the endpoint was back hangs 15 s; then it is left alone for 60 s at most; then the next event tries.
        assert outage.closed_s <= down_s + ATTEMPT_S + 60 + 60 + 1
        rest_s = max(LIMITS.look_s, min(LIMITS.hold_most_s, (outage.closed_s - outage.opened_s) / 2))
        assert max(tried[number] for number in range(len(during))) <= outage.closed_s + rest_s + 30


def test_a_day_of_outage_costs_few_posts_and_few_moves() -> None:
    outage = Outage(back_s=86_400.0)
    tried = outage.run([86_400.0 * number / 2_000 for number in range(2_000)])
    assert len(tried) == 2_000
    # One probe in 75 s at most, and each delivery looks every 30 minutes.
    assert outage.posts_down <= 86_400 / 60 + LIMITS.failures + CONCURRENCY
    assert outage.moves <= 2_000 * 48 + 86_400 / 5


def test_a_lane_that_is_left_alone_is_told_apart_from_a_full_one() -> None:
    full = Lane(in_flight=16, waiting=256)
    assert lanes.decide(full, 1, LaneLimits(breaker=LIMITS), Room(1000, 100_000, 1 << 30), 0.0, has_turn=True) == "full"
    assert rules.state(full.breaker, 0.0) == "closed"
