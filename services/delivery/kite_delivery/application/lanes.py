"""One bounded lane an endpoint: starts work in the order it came, as far as `domain.lane` allows. Knows not what the work is.

A lane that can take no more says so at once; its delivery is then parked by whoever offered it. So nothing here ever makes one
endpoint wait for another, and what hangs costs a bounded number of sockets and bytes.
"""

from collections.abc import Callable
from typing import Final, Literal, Protocol

from kite_delivery.application.budget import Budget
from kite_delivery.domain import breaker as breakers
from kite_delivery.domain import lane as rules
from kite_delivery.domain.breaker import CLOSED, Verdict
from kite_delivery.domain.lane import Lane, LaneLimits, Room
from kite_delivery.domain.line import Line

# How long a breaker is remembered that nobody asks about: what it holds comes back sooner, unless the endpoint is gone.
_MEMORY_OF_HOLDS: Final = 2
_FORGET_EVERY_S: Final = 5.0


class Job(Protocol):
    """Work for one endpoint. Both calls return at once."""

    @property
    def size(self) -> int:
        """Bytes it holds."""
        ...

    @property
    def order(self) -> str | None:
        """Jobs of a lane with the same order are never under way together; None is in nobody's order."""
        ...

    @property
    def budget(self) -> Budget:
        """What holds it; its lane may keep a share of what is free there."""
        ...

    @property
    def owner(self) -> object:
        """Who may withdraw it."""
        ...

    def start(self) -> None:
        """Begin; `Lanes.ended` is to be called when it is over, however it ends."""
        ...

    def step_aside(self, rest_s: float | None = None) -> None:
        """Make room: it waited too long for its turn, or (`rest_s`) its endpoint is left alone and it should rest for so long."""
        ...


Change = Literal["open", "closed"]


class Lanes:
    """All lanes of a process. `now_s` is a clock that never goes back; `changed` hears of breakers that open and close.

    A lane is forgotten when it is idle, one with a breaker that is not closed an hour or so later: there are never more than endpoints
    that had work within that time.
    """

    def __init__(
        self, limits: LaneLimits, max_in_flight: int, now_s: Callable[[], float], changed: Callable[[str, Change], None] | None = None
    ) -> None:
        self._limits, self._max_in_flight, self._now_s, self._changed = limits, max_in_flight, now_s, changed
        self._lanes: dict[str, Lane] = {}
        self._lines: dict[str, Line[Job]] = {}
        self._remembered: dict[str, float] = {}
        self._left_alone: set[str] = set()
        self._addresses: dict[str, str] = {}
        self._in_flight = 0
        self._forget_at_s = 0.0

    @property
    def in_flight(self) -> int:
        """Jobs started and not ended."""
        return self._in_flight

    @property
    def open(self) -> int:
        """Lanes in memory."""
        return len(self._lanes)

    @property
    def left_alone(self) -> int:
        """Lanes whose breaker is not closed."""
        return len(self._left_alone)

    def offer(self, key: str, job: Job, address: str = "") -> None:
        """Start the job, let it wait for its turn, or have it step aside at once if the lane can take no more.

        `address`: where its endpoint is now. A new one owes nothing to the failures of the old; order and limits stay the endpoint's.
        """
        self._at(key, address)
        now_s, lane = self._now_s(), self._lanes.get(key, _EMPTY)
        line = self._lines.get(key)
        has_turn = line is None or line.has_turn(job.order)
        match rules.decide(lane, job.size, self._limits, self._room(job), now_s, has_turn=has_turn):
            case "start":
                if job.order is not None:
                    self._line(key).begin(job.order)
                self._start(key, lane, job, now_s)
            case "wait":
                self._lanes[key] = rules.queued(lane, job.size)
                self._line(key).add(job, job.order, now_s)
            case "full":
                job.step_aside()
            case "hold":
                job.step_aside(self.rest_s(key))
        if key not in self._lanes:
            self._addresses.pop(key, None)

    def rest_s(self, key: str) -> float | None:
        """How long a delivery to an endpoint that is left alone should rest, seconds; None for an endpoint that is not."""
        lane, now_s = self._lanes.get(key, _EMPTY), self._now_s()
        if breakers.state(lane.breaker, now_s) == "closed":
            return None
        self._lanes[key], rest_s = rules.held(lane, self._limits, now_s)
        self._remembered[key] = now_s
        return rest_s

    def ended(self, key: str, order: str | None, verdict: Verdict) -> None:
        """A started job is over; the next ones of its lane may start, or rest, if it opened the breaker."""
        now_s, before = self._now_s(), self._lanes[key]
        self._in_flight -= 1
        self._lanes[key] = lane = rules.ended(before, self._limits, verdict, now_s)
        if order is not None:
            self._line(key).done(order)
        self._tell(key, before, lane)
        if breakers.state(lane.breaker, now_s) == "open":
            for job in self._remove(key, lambda _job, _since_s: True):
                job.step_aside(self.rest_s(key))
        self._pump(key, now_s)

    def sweep(self) -> None:
        """Start what has become possible by time alone, and have those step aside that waited too long. To be called often."""
        now_s = self._now_s()
        for key in list(self._lines):
            self._expire(key, now_s)
            self._pump(key, now_s)
        if now_s >= self._forget_at_s:
            self._forget_at_s = now_s + _FORGET_EVERY_S
            for key in list(self._lanes):
                self._forget(key, now_s)

    def withdraw(self, owner: object) -> list[Job]:
        """Take out all waiting jobs of one owner, in order."""
        return [job for key in list(self._lines) for job in self._remove(key, lambda job, _since_s: job.owner is owner)]

    def _at(self, key: str, address: str) -> None:
        before, lane = self._addresses.get(key, address), self._lanes.get(key)
        if before != address and lane is not None:
            self._lanes[key] = repaired = rules.repaired(lane)
            self._remembered.pop(key, None)
            self._tell(key, lane, repaired)
        self._addresses[key] = address

    def _start(self, key: str, lane: Lane, job: Job, now_s: float) -> None:
        self._lanes[key] = rules.started(lane, self._limits, now_s)
        self._in_flight += 1
        job.start()

    def _pump(self, key: str, now_s: float) -> None:
        line = self._lines.get(key)
        while line is not None and (job := line.first()) is not None:
            lane = self._lanes[key]
            if not rules.may_start(lane, self._limits, self._room(job), now_s):
                break
            line.take()
            self._start(key, rules.unqueued(lane, job.size), job, now_s)
        self._forget(key, now_s)

    def _expire(self, key: str, now_s: float) -> None:
        oldest_s, limit_s = self._lines[key].oldest_s(), now_s - self._limits.queue_wait_s
        if oldest_s is not None and oldest_s < limit_s:
            for job in self._remove(key, lambda _job, since_s: since_s < limit_s):
                job.step_aside()

    def _remove(self, key: str, is_meant: Callable[[Job, float], bool]) -> list[Job]:
        """Take jobs out of a line; what becomes free by it is started by whoever pumps next."""
        removed = self._lines[key].remove(is_meant) if key in self._lines else []
        for job in removed:
            self._lanes[key] = rules.unqueued(self._lanes[key], job.size)
        return removed

    def _forget(self, key: str, now_s: float) -> None:
        """Keep in memory only lanes that work or have something to remember, and lines with somebody in them."""
        if (line := self._lines.get(key)) is not None and line.idle:
            del self._lines[key]
        lane = self._lanes.get(key)
        if lane is None or not lane.idle or lane.paced_s > now_s:
            return
        memory_s = _MEMORY_OF_HOLDS * self._limits.breaker.hold_most_s
        if lane.breaker == CLOSED or now_s - self._remembered.setdefault(key, now_s) > memory_s:
            del self._lanes[key]
            self._addresses.pop(key, None)
            self._remembered.pop(key, None)
            self._left_alone.discard(key)

    def _tell(self, key: str, before: Lane, after: Lane) -> None:
        if bool(before.breaker.openings) == bool(after.breaker.openings):
            return
        if after.breaker.openings:
            self._left_alone.add(key)
        else:
            self._left_alone.discard(key)
        if self._changed is not None:
            self._changed(key, "open" if after.breaker.openings else "closed")

    def _line(self, key: str) -> Line[Job]:
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line()
        return line

    def _room(self, job: Job) -> Room:
        return Room(self._max_in_flight - self._in_flight, job.budget.free, job.budget.free_bytes)


_EMPTY = Lane()
