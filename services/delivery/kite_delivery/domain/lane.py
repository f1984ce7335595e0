"""May this endpoint take one more now? Concurrency, rate, breaker, and a fair share of what is left. Knows no other endpoint.

A lane is a value: each function gives the next one. Room is what the whole process has left; a lane gets at most an eighth of
it, so that however many receivers hang, there is always some left for the next one (dynamic thresholds: Choudhury and Hahne, 1998).
"""

from dataclasses import dataclass
from typing import Final, Literal

_SHARE: Final = 8
# Sums of seconds are not exact; a millionth of one POST is nobody's advantage.
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Bounds of one endpoint. `rate_per_s` 0 and `breaker_failures` 0 switch these two off.

    `queue` is how many may wait in memory for their turn, for at most `queue_wait_s`.
    """

    concurrency: int = 16
    queue: int = 256
    queue_wait_s: float = 5.0
    rate_per_s: float = 0.0
    burst: int = 1
    breaker_failures: int = 0
    breaker_open_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Room:
    """What the process has left for all endpoints: POSTs at once, deliveries and their bytes in memory."""

    in_flight: int
    held: int
    held_bytes: int


@dataclass(frozen=True, slots=True)
class Lane:
    """One endpoint's present use. Times are seconds of a clock that never goes back.

    `paced_s` is when the rate is used up to (a leaky bucket as a time), `failures` counts those in a row.
    """

    in_flight: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    paced_s: float = 0.0
    failures: int = 0
    open_until_s: float = 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waiting."""
        return not self.in_flight and not self.waiting


Decision = Literal["start", "wait", "full"]


def decide(lane: Lane, size: int, limits: LaneLimits, room: Room, now_s: float) -> Decision:
    """What becomes of one more delivery of `size` bytes: start now, wait in memory, or neither (then it is parked).

    Nothing overtakes what waits: starts keep the order of the log.
    """
    if not lane.waiting and may_start(lane, limits, room, now_s):
        return "start"
    fits = lane.waiting < limits.queue and fits_share(lane.waiting + 1, lane.waiting_bytes + size, room.held, room.held_bytes)
    return "wait" if fits and not is_open(lane, now_s) else "full"


def fits_share(count: int, size: int, free: int, free_bytes: int) -> bool:
    """Whether one endpoint may keep that many deliveries of that many bytes in all in memory, when so much is free."""
    return count <= free // _SHARE and size <= free_bytes // _SHARE


def may_start(lane: Lane, limits: LaneLimits, room: Room, now_s: float) -> bool:
    """Whether the endpoint may take one more POST now."""
    if room.in_flight <= 0 or lane.in_flight >= min(limits.concurrency, max(1, room.in_flight // _SHARE)):
        return False
    if is_open(lane, now_s) or (_is_probing(lane, limits) and lane.in_flight):
        return False
    return limits.rate_per_s <= 0 or (lane.paced_s - now_s) * limits.rate_per_s <= limits.burst - 1 + _ROUNDING


def is_open(lane: Lane, now_s: float) -> bool:
    """Whether the breaker keeps the endpoint from being called."""
    return now_s < lane.open_until_s


def queued(lane: Lane, size: int) -> Lane:
    """One more waits."""
    return Lane(lane.in_flight, lane.waiting + 1, lane.waiting_bytes + size, lane.paced_s, lane.failures, lane.open_until_s)


def unqueued(lane: Lane, size: int) -> Lane:
    """One less waits: it starts, or is parked."""
    return Lane(lane.in_flight, lane.waiting - 1, lane.waiting_bytes - size, lane.paced_s, lane.failures, lane.open_until_s)


def started(lane: Lane, limits: LaneLimits, now_s: float) -> Lane:
    """One more POST is under way."""
    paced_s = max(lane.paced_s, now_s) + 1 / limits.rate_per_s if limits.rate_per_s > 0 else 0.0
    return Lane(lane.in_flight + 1, lane.waiting, lane.waiting_bytes, paced_s, lane.failures, lane.open_until_s)


def ended(lane: Lane, limits: LaneLimits, *, failed: bool, now_s: float) -> Lane:
    """One POST is over. Enough failures in a row open the breaker; after it one POST at a time tries, a success closes it."""
    failures = lane.failures + 1 if failed else 0
    trips = 0 < limits.breaker_failures <= failures
    open_until_s = now_s + limits.breaker_open_s if trips else 0.0
    return Lane(lane.in_flight - 1, lane.waiting, lane.waiting_bytes, lane.paced_s, failures, open_until_s)


def _is_probing(lane: Lane, limits: LaneLimits) -> bool:
    return 0 < limits.breaker_failures <= lane.failures
