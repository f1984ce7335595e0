"""May this endpoint take one more now? Concurrency, rate, breaker, and a fair share of what is left. Knows no other endpoint.

A lane is a value: each function gives the next one. Room is what the whole process has left; a lane gets at most an eighth of
it, so that however many receivers hang, there is always some left for the next one (dynamic thresholds: Choudhury and Hahne, 1998).
"""

from dataclasses import dataclass
from typing import Final, Literal

from kite_delivery.domain import breaker as breakers
from kite_delivery.domain.breaker import CLOSED, Breaker, BreakerLimits, Verdict

_SHARE: Final = 8
# Sums of seconds are not exact; a millionth of one POST is nobody's advantage.
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Bounds of one endpoint. `rate_per_s` 0 switches the rate off.

    `queue` is how many may wait in memory for their turn, for at most `queue_wait_s`.
    """

    concurrency: int = 16
    queue: int = 256
    queue_wait_s: float = 5.0
    rate_per_s: float = 0.0
    burst: int = 1
    breaker: BreakerLimits = BreakerLimits()


@dataclass(frozen=True, slots=True)
class Room:
    """What the process has left for all endpoints: POSTs at once, deliveries and their bytes in memory."""

    in_flight: int
    held: int
    held_bytes: int


@dataclass(frozen=True, slots=True)
class Lane:
    """One endpoint's present use. Times are seconds of a clock that never goes back.

    `paced_s` is when the rate is used up to (a leaky bucket as a time).
    """

    in_flight: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    paced_s: float = 0.0
    breaker: Breaker = CLOSED

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waiting."""
        return not self.in_flight and not self.waiting


Decision = Literal["start", "wait", "full", "hold"]


def decide(lane: Lane, size: int, limits: LaneLimits, room: Room, now_s: float, *, has_turn: bool) -> Decision:
    """What becomes of one more delivery of `size` bytes: start now, wait in memory, or neither.

    `full`: parked until there may be room; `hold`: parked because the endpoint is left alone. Without its turn (`Line.has_turn`) it
    does not start: nothing overtakes what waits, but for what waits for another of the same recipient.
    """
    if has_turn and may_start(lane, limits, room, now_s):
        return "start"
    if breakers.state(lane.breaker, now_s) != "closed":
        return "hold"
    fits = lane.waiting < limits.queue and fits_share(lane.waiting + 1, lane.waiting_bytes + size, room.held, room.held_bytes)
    return "wait" if fits else "full"


def fits_share(count: int, size: int, free: int, free_bytes: int) -> bool:
    """Whether one endpoint may keep that many deliveries of that many bytes in all in memory, when so much is free."""
    return count <= free // _SHARE and size <= free_bytes // _SHARE


def may_start(lane: Lane, limits: LaneLimits, room: Room, now_s: float) -> bool:
    """Whether the endpoint may take one more POST now."""
    at_once = breakers.at_once(lane.breaker, limits.concurrency, now_s)
    if room.in_flight <= 0 or lane.in_flight >= min(at_once, max(1, room.in_flight // _SHARE)):
        return False
    return limits.rate_per_s <= 0 or (lane.paced_s - now_s) * limits.rate_per_s <= limits.burst - 1 + _ROUNDING


def queued(lane: Lane, size: int) -> Lane:
    """One more waits."""
    return Lane(lane.in_flight, lane.waiting + 1, lane.waiting_bytes + size, lane.paced_s, lane.breaker)


def unqueued(lane: Lane, size: int) -> Lane:
    """One less waits: it starts, or is parked."""
    return Lane(lane.in_flight, lane.waiting - 1, lane.waiting_bytes - size, lane.paced_s, lane.breaker)


def started(lane: Lane, limits: LaneLimits, now_s: float) -> Lane:
    """One more POST is under way."""
    paced_s = max(lane.paced_s, now_s) + 1 / limits.rate_per_s if limits.rate_per_s > 0 else 0.0
    return Lane(lane.in_flight + 1, lane.waiting, lane.waiting_bytes, paced_s, lane.breaker)


def ended(lane: Lane, limits: LaneLimits, verdict: Verdict, now_s: float) -> Lane:
    """One POST is over; what it says of the endpoint moves the breaker."""
    breaker = breakers.after(lane.breaker, limits.breaker, verdict, limits.concurrency, now_s)
    return Lane(lane.in_flight - 1, lane.waiting, lane.waiting_bytes, lane.paced_s, breaker)


def repaired(lane: Lane) -> Lane:
    """The endpoint is somewhere else now: what was learned of it holds no more."""
    return Lane(lane.in_flight, lane.waiting, lane.waiting_bytes, lane.paced_s, CLOSED)


def held(lane: Lane, limits: LaneLimits, now_s: float) -> tuple[Lane, float]:
    """One that may not be sent now, because its endpoint is left alone, rests for so many seconds."""
    breaker, rest_s = breakers.hold(lane.breaker, limits.breaker, now_s)
    return Lane(lane.in_flight, lane.waiting, lane.waiting_bytes, lane.paced_s, breaker), rest_s
