"""May this endpoint take one more now: concurrency, queue, fair share, rate."""

from hypothesis import given
from hypothesis import strategies as st

from kite_delivery.domain import lane as rules
from kite_delivery.domain.breaker import BreakerLimits
from kite_delivery.domain.lane import Decision, Lane, LaneLimits, Room, may_start

LIMITS = LaneLimits(concurrency=2, queue=3)
ROOMY = Room(in_flight=1000, held=10_000, held_bytes=1 << 30)


def decide(lane: Lane, size: int, limits: LaneLimits, room: Room, now_s: float, *, has_turn: bool | None = None) -> Decision:
    """The rule, for one whose turn it is as soon as nobody waits."""
    return rules.decide(lane, size, limits, room, now_s, has_turn=not lane.waiting if has_turn is None else has_turn)


def test_an_empty_lane_starts_at_once() -> None:
    assert decide(Lane(), 100, LIMITS, ROOMY, 0.0) == "start"


def test_a_busy_lane_lets_wait_and_a_full_one_says_so() -> None:
    busy = Lane(in_flight=2)
    assert decide(busy, 100, LIMITS, ROOMY, 0.0) == "wait"
    assert decide(Lane(in_flight=2, waiting=3), 100, LIMITS, ROOMY, 0.0) == "full"


def test_nothing_overtakes_what_waits() -> None:
    assert decide(Lane(in_flight=0, waiting=1), 100, LIMITS, ROOMY, 0.0) == "wait"


def test_one_whose_recipient_has_another_under_way_waits_though_there_is_room() -> None:
    assert decide(Lane(in_flight=1), 100, LIMITS, ROOMY, 0.0, has_turn=False) == "wait"


def test_an_endpoint_that_is_left_alone_lets_nothing_wait() -> None:
    limits = LaneLimits(concurrency=2, queue=3, breaker=BreakerLimits(failures=1, open_s=10))
    lane = rules.ended(rules.started(Lane(), limits, 0.0), limits, "down", 0.0)
    assert decide(lane, 1, limits, ROOMY, 9.9) == "hold"
    assert decide(lane, 1, limits, ROOMY, 10.0) == "start"
    assert decide(rules.started(lane, limits, 10.0), 1, limits, ROOMY, 10.0) == "hold"


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
            lanes[key] = rules.ended(lane, limits, "up", 0.0) if lane.in_flight else lane
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
