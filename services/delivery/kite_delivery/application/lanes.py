"""One bounded lane an endpoint: starts work in the order it came, as far as `domain.lane` allows. Knows not what the work is.

A lane that can take no more says so at once; its delivery is then parked by whoever offered it. So nothing here ever makes one
endpoint wait for another, and what hangs costs a bounded number of sockets and bytes.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kite_delivery.application.budget import Budget
from kite_delivery.domain import lane as rules
from kite_delivery.domain.lane import Lane, LaneLimits, Room


class Job(Protocol):
    """Work for one endpoint. Both calls return at once."""

    @property
    def size(self) -> int:
        """Bytes it holds."""
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

    def step_aside(self) -> None:
        """It waited too long for its turn: make room."""
        ...


@dataclass(slots=True)
class _Queued:
    job: Job
    since_s: float


class Lanes:
    """All lanes of a process. `now_s` is a clock that never goes back."""

    def __init__(self, limits: LaneLimits, max_in_flight: int, now_s: Callable[[], float]) -> None:
        self._limits, self._max_in_flight, self._now_s = limits, max_in_flight, now_s
        self._lanes: dict[str, Lane] = {}
        self._queues: dict[str, deque[_Queued]] = {}
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Jobs started and not ended."""
        return self._in_flight

    @property
    def open(self) -> int:
        """Lanes in memory."""
        return len(self._lanes)

    def offer(self, key: str, job: Job) -> bool:
        """Start the job, or let it wait for its turn; False if the lane can take no more."""
        now_s, lane = self._now_s(), self._lanes.get(key, _EMPTY)
        decision = rules.decide(lane, job.size, self._limits, self._room(job), now_s)
        if decision == "start":
            self._start(key, lane, job, now_s)
        elif decision == "wait":
            self._lanes[key] = rules.queued(lane, job.size)
            self._queues.setdefault(key, deque()).append(_Queued(job, now_s))
        return decision != "full"

    def ended(self, key: str, *, failed: bool) -> None:
        """A started job is over; the next ones of its lane may start."""
        now_s = self._now_s()
        self._in_flight -= 1
        self._lanes[key] = rules.ended(self._lanes[key], self._limits, failed=failed, now_s=now_s)
        self._pump(key, now_s)

    def sweep(self) -> None:
        """Start what has become possible by time alone, and have those step aside that waited too long. To be called often."""
        now_s = self._now_s()
        for key in list(self._queues):
            self._expire(key, now_s)
            self._pump(key, now_s)
        for key in [key for key, lane in self._lanes.items() if self._is_forgettable(lane, now_s)]:
            del self._lanes[key]

    def withdraw(self, owner: object) -> list[Job]:
        """Take out all waiting jobs of one owner, in order."""
        withdrawn: list[Job] = []
        for key in list(self._queues):
            kept: deque[_Queued] = deque()
            for queued in self._queues[key]:
                if queued.job.owner is owner:
                    withdrawn.append(queued.job)
                    self._lanes[key] = rules.unqueued(self._lanes[key], queued.job.size)
                else:
                    kept.append(queued)
            self._keep(key, kept)
        return withdrawn

    def _start(self, key: str, lane: Lane, job: Job, now_s: float) -> None:
        self._lanes[key] = rules.started(lane, self._limits, now_s)
        self._in_flight += 1
        job.start()

    def _pump(self, key: str, now_s: float) -> None:
        queue, lane = self._queues.get(key), self._lanes[key]
        while queue and rules.may_start(lane, self._limits, self._room(queue[0].job), now_s):
            job = queue.popleft().job
            self._start(key, rules.unqueued(lane, job.size), job, now_s)
            lane = self._lanes[key]
        if queue is not None:
            self._keep(key, queue)
        if self._is_forgettable(lane, now_s):
            del self._lanes[key]

    def _expire(self, key: str, now_s: float) -> None:
        queue = self._queues[key]
        while queue and now_s - queue[0].since_s > self._limits.queue_wait_s:
            job = queue.popleft().job
            self._lanes[key] = rules.unqueued(self._lanes[key], job.size)
            job.step_aside()

    def _keep(self, key: str, queue: deque[_Queued]) -> None:
        if queue:
            self._queues[key] = queue
        else:
            del self._queues[key]

    def _is_forgettable(self, lane: Lane, now_s: float) -> bool:
        remembers = (self._limits.breaker_failures > 0 and lane.failures > 0) or lane.paced_s > now_s
        return lane.idle and not remembers

    def _room(self, job: Job) -> Room:
        return Room(self._max_in_flight - self._in_flight, job.budget.free, job.budget.free_bytes)


_EMPTY = Lane()
