"""May this endpoint take one more now: concurrency, queue, fair share, rate, breaker."""

from hypothesis import given
from hypothesis import strategies as st

from kite_delivery.domain import lane as rules
from kite_delivery.domain.lane import Lane, LaneLimits, Room, decide, may_start

LIMITS = LaneLimits(concurrency=2, queue=3)
ROOMY = Room(in_flight=1000, held=10_000, held_bytes=1 << 30)


def test_an_empty_lane_starts_at_once() -> None:
    assert decide(Lane(), 100, LIMITS, ROOMY, 0.0) == "start"


def test_a_busy_lane_lets_wait_and_a_full_one_says_so() -> None:
    busy = Lane(in_flight=2)
    assert decide(busy, 100, LIMITS, ROOMY, 0.0) == "wait"
    assert decide(Lane(in_flight=2, waiting=3), 100, LIMITS, ROOMY, 0.0) == "full"


def test_nothing_overtakes_what_waits() -> None:
    assert decide(Lane(in_flight=0, waiting=1), 100, LIMITS, ROOMY, 0.0) == "wait"


def test_a_lane_gets_an_eighth_of_what_is_left_of_memory() -> None:
    assert decide(Lane(in_flight=2, waiting=2), 100, LaneLimits(2, 100), Room(1000, 16, 1 << 30), 0.0) == "full"
    assert decide(Lane(in_flight=2), 129, LIMITS, Room(1000, 1000, 1024), 0.0) == "full"
    assert decide(Lane(in_flight=2), 128, LIMITS, Room(1000, 1000, 1024), 0.0) == "wait"


def test_a_lane_gets_an_eighth_of_what_is_left_of_the_sockets_but_always_one() -> None:
    sixteen = LaneLimits(concurrency=16)
    assert may_start(Lane(in_flight=1), sixteen, Room(16, 1000, 1 << 30), 0.0)
    assert not may_start(Lane(in_flight=2), sixteen, Room(16, 1000, 1 << 30), 0.0)
    assert may_start(Lane(), sixteen, Room(1, 1000, 1 << 30), 0.0)
    assert not may_start(Lane(), sixteen, Room(0, 1000, 1 << 30), 0.0)


def test_a_rate_spaces_starts_after_a_burst() -> None:
    limits = LaneLimits(concurrency=100, rate_per_s=10, burst=2)
    lane, started = Lane(), 0
    while may_start(lane, limits, ROOMY, 50.0):
        lane, started = rules.started(lane, limits, 50.0), started + 1
    assert started == 2
    assert not may_start(lane, limits, ROOMY, 50.05)
    assert may_start(lane, limits, ROOMY, 50.11)


def test_a_breaker_opens_after_failures_in_a_row_tries_with_one_and_closes_with_a_success() -> None:
    limits = LaneLimits(concurrency=5, breaker_failures=2, breaker_open_s=10)
    lane = Lane()
    for _ in range(2):
        lane = rules.ended(rules.started(lane, limits, 0.0), limits, failed=True, now_s=0.0)
    assert decide(lane, 1, limits, ROOMY, 5.0) == "full"
    probing = rules.started(lane, limits, 10.0)
    assert decide(lane, 1, limits, ROOMY, 10.0) == "start"
    assert not may_start(probing, limits, ROOMY, 10.0)
    closed = rules.ended(probing, limits, failed=False, now_s=11.0)
    assert may_start(rules.started(closed, limits, 11.0), limits, ROOMY, 11.0)


def test_without_a_breaker_failures_stop_nothing() -> None:
    lane = Lane()
    for _ in range(1000):
        lane = rules.ended(rules.started(lane, LIMITS, 0.0), LIMITS, failed=True, now_s=0.0)
    assert decide(lane, 1, LIMITS, ROOMY, 0.0) == "start"


@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(["offer", "end"])), max_size=400), st.integers(1, 64), st.integers(1, 256))
def test_all_bounds_hold_and_a_fresh_endpoint_starts_as_long_as_a_socket_is_left(
    steps: list[tuple[int, str]], sockets: int, memory: int
) -> None:
    limits = LaneLimits(concurrency=16, queue=64)
    lanes: dict[int, Lane] = {}
    for key, what in steps:
        lane = lanes.get(key, Lane())
        in_flight, held = sum(one.in_flight for one in lanes.values()), sum(one.in_flight + one.waiting for one in lanes.values())
        room = Room(sockets - in_flight, memory - held, (memory - held) * 10)
        if what == "end":
            lanes[key] = rules.ended(lane, limits, failed=False, now_s=0.0) if lane.in_flight else lane
            continue
        match decide(lane, 10, limits, room, 0.0):
            case "start":
                lanes[key] = rules.started(lane, limits, 0.0)
            case "wait":
                lanes[key] = rules.queued(lane, 10)
                assert lanes[key].waiting <= 64
            case "full":
                pass
        assert lanes.get(key, Lane()).in_flight <= 16
    in_flight = sum(one.in_flight for one in lanes.values())
    assert in_flight <= sockets
    assert may_start(Lane(), limits, Room(sockets - in_flight, 1, 1), 0.0) == (in_flight < sockets)
