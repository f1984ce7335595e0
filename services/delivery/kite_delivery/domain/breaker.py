"""Shall an endpoint that only fails be left alone for a while? The breaker of one endpoint, as a value. Sends and parks nothing.

Closed: the endpoint is called. Open: it is not, until a time that doubles with every failed probe. Half-open: that time is over, one
POST tries. Its success closes the breaker, and from there one more POST at once is allowed with each success, up to the lane's own limit.

What is not sent meanwhile is *held*: parked for half as long as the outage has lasted, so that it comes back soon after the endpoint
does and moves through the log only as often as the logarithm of the outage. One of them looks again at once the smallest delay is over:
it will be the probe.
"""

from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["up", "down", "unknown"]
State = Literal["closed", "open", "half_open"]

_MOST_DOUBLINGS: Final = 20


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When it opens (`failures` in a row, 0 = never), for how long (`open_s`, doubled up to `open_most_s`), how long what is held may rest.

    `look_s` is the shortest rest there is, `hold_most_s` the longest.
    """

    failures: int = 10
    open_s: float = 5.0
    open_most_s: float = 60.0
    look_s: float = 5.0
    hold_most_s: float = 1_800.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is remembered of an endpoint's failures. Times are seconds of a clock that never goes back.

    `failures` in a row, `openings` since it was closed last, `opened_s` the first of them; `open_until_s` the end of the last;
    `look_s` is until when one of those held has promised to be back; `eased` how many POSTs at once it takes after an outage (0: all).
    """

    failures: int = 0
    openings: int = 0
    opened_s: float = 0.0
    open_until_s: float = 0.0
    look_s: float = 0.0
    eased: int = 0


CLOSED: Final = Breaker()


def state(breaker: Breaker, now_s: float) -> State:
    """Whether the endpoint is called."""
    if not breaker.openings:
        return "closed"
    return "open" if now_s < breaker.open_until_s else "half_open"


def at_once(breaker: Breaker, concurrency: int, now_s: float) -> int:
    """How many POSTs at once it takes now, of a lane that takes `concurrency` of a healthy one."""
    match state(breaker, now_s):
        case "open":
            return 0
        case "half_open":
            return 1
        case "closed":
            return min(concurrency, breaker.eased) if breaker.eased else concurrency


def after(breaker: Breaker, limits: BreakerLimits, verdict: Verdict, concurrency: int, now_s: float) -> Breaker:
    """The breaker after an attempt. What says nothing of the endpoint changes nothing; one success closes it."""
    if verdict == "unknown" or not limits.failures:
        return breaker
    if verdict == "up":
        return _after_success(breaker, concurrency)
    failures = breaker.failures + 1
    counted = Breaker(failures, breaker.openings, breaker.opened_s, breaker.open_until_s, breaker.look_s, breaker.eased)
    # What was under way when it opened says nothing new.
    if failures < limits.failures or state(breaker, now_s) == "open":
        return counted
    wait_s = min(limits.open_most_s, limits.open_s * 2 ** min(breaker.openings, _MOST_DOUBLINGS))
    return Breaker(failures, breaker.openings + 1, breaker.opened_s if breaker.openings else now_s, now_s + wait_s, breaker.look_s)


def hold(breaker: Breaker, limits: BreakerLimits, now_s: float) -> tuple[Breaker, float]:
    """How long a delivery rests that may not be sent now, in seconds; the breaker remembers who will look again first."""
    if now_s >= breaker.look_s:
        look_s = now_s + limits.look_s
        promised = Breaker(breaker.failures, breaker.openings, breaker.opened_s, breaker.open_until_s, look_s, breaker.eased)
        return promised, limits.look_s
    return breaker, max(limits.look_s, min(limits.hold_most_s, (now_s - breaker.opened_s) / 2))


def _after_success(breaker: Breaker, concurrency: int) -> Breaker:
    eased = 2 if breaker.openings else breaker.eased + 1
    return CLOSED if eased >= concurrency or not (breaker.openings or breaker.eased) else Breaker(eased=eased)
