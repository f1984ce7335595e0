"""Closed loop and open loop over a pool of connections. Knows neither what is sent nor what an answer means."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kite_cli.bench.load.alarm import Alarm
from kite_cli.bench.load.client import Connection, Pool, now_s
from kite_cli.bench.load.job import Outcome
from kite_cli.bench.spread import percentile

NO_ANSWER = -1
# The number of the request, the status and the body of its answer.
Told = Callable[[int, int, bytes], None]


@dataclass(frozen=True, slots=True)
class Window:
    """The time that counts: [begin, end) in seconds of time.monotonic()."""

    begin_s: float
    end_s: float

    def holds(self, at_s: float) -> bool:
        """Whether a request that was due then counts."""
        return self.begin_s <= at_s < self.end_s


@dataclass(eq=False, slots=True)
class Tally:
    """What a window saw. A request counts if it was due in the window, whenever its answer comes."""

    window: Window
    latencies_ms: list[float] = field(default_factory=list)
    lateness_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    accepted_inside: int = 0
    is_closed: bool = False

    def close(self, unanswered: int) -> None:
        """Nothing is waited for any longer: so many requests have no answer, and what still comes for them does not count."""
        self.statuses[NO_ANSWER] += unanswered
        self.is_closed = True

    def answered(self, due_s: float, status: int) -> None:
        """An answer came just now."""
        if self.is_closed:
            return
        now = now_s()
        if status == 202 and self.window.holds(now):
            self.accepted_inside += 1
        if self.window.holds(due_s):
            self.statuses[status] += 1
            self.latencies_ms.append((now - due_s) * 1000)

    def outcome(self) -> Outcome:
        """All of it in figures."""
        return outcome_of(
            self.latencies_ms, self.statuses, self.accepted_inside / (self.window.end_s - self.window.begin_s), self.lateness_ms
        )


def outcome_of(
    values_ms: Sequence[float], statuses: Counter[int], per_s: float, lateness_ms: Sequence[float] = (), unseen: int = 0
) -> Outcome:
    """An outcome whose latencies are `values_ms`, in any order."""
    ordered, late = sorted(values_ms), sorted(lateness_ms)
    p50, p95, p99, longest = (percentile(ordered, share) for share in (0.5, 0.95, 0.99, 1.0))
    return Outcome(
        count=len(ordered), per_s=per_s, p50_ms=p50, p95_ms=p95, p99_ms=p99, longest_ms=longest,
        statuses={str(status): count for status, count in sorted(statuses.items()) if count},
        late_p99_ms=percentile(late, 0.99) if late else 0.0, unseen=unseen,
    )  # fmt: skip


def _ignore(_number: int, _status: int, _body: bytes) -> None:
    """For those who only count."""


async def closed_loop(pool: Pool, requests: Sequence[bytes], tally: Tally, patience_s: float, told: Told = _ignore) -> None:
    """Every connection sends its next request as soon as it has an answer, until the window ends. `told` hears each answer."""
    sent, under_way, finished = 0, 0, asyncio.Event()

    def send_next() -> None:
        nonlocal sent, under_way
        while pool.idle:
            due = now_s()
            if due >= tally.window.end_s:
                break
            connection, request = pool.idle.popleft(), requests[sent % len(requests)]
            receiving = _receiving(connection, sent, due)
            sent += 1
            under_way += 1
            connection.send(request, receiving)
        if under_way == 0 and now_s() >= tally.window.end_s:
            finished.set()

    def _receiving(connection: Connection, number: int, due_s: float) -> Callable[[int, bytes], None]:
        def answered(status: int, body: bytes) -> None:
            nonlocal under_way
            under_way -= 1
            tally.answered(due_s, status)
            told(number, status, body)
            pool.give_back(connection)
            send_next()

        return answered

    pool.freed = send_next
    send_next()
    await _finish(finished, tally.window.end_s + patience_s)
    tally.close(under_way)


class OpenLoop:
    """Sends request number i at `due_s[i]` (rising), over whatever connection is free then, or as soon as one is.

    `answered(i, status, body)` is called for each answer. Latency counts from the due time: a request that has to wait for a connection,
    because earlier ones are not answered yet, has waited.
    """

    def __init__(
        self, pool: Pool, requests: Sequence[bytes], due_s: Sequence[float], tally: Tally, answered: Told = _ignore
    ) -> None:  # fmt: skip
        self._pool, self._requests, self._due_s, self._tally, self._told = pool, requests, due_s, tally, answered
        self._next, self._under_way = 0, 0
        self._waiting: deque[int] = deque()
        self._finished = asyncio.Event()
        self._alarm = Alarm(self._ring)

    async def run(self, patience_s: float) -> None:
        """Send all, wait for the answers, but no longer than `patience_s` after the last was due."""
        self._pool.freed = self._hand_out
        try:
            self._ring()
            await _finish(self._finished, (self._due_s[-1] if self._due_s else now_s()) + patience_s)
        finally:
            self._alarm.close()
        self._tally.close(self._under_way + len(self._waiting))

    def _ring(self) -> None:
        now, due_s = now_s(), self._due_s
        while self._next < len(due_s) and due_s[self._next] <= now:
            self._waiting.append(self._next)
            if self._pool.idle:
                self._tally.lateness_ms.append((now - due_s[self._next]) * 1000)
            self._next += 1
        self._hand_out()
        if self._next < len(due_s):
            self._alarm.set(due_s[self._next])

    def _hand_out(self) -> None:
        while self._waiting and self._pool.idle:
            number, connection = self._waiting.popleft(), self._pool.idle.popleft()
            self._under_way += 1
            connection.send(self._requests[number % len(self._requests)], self._receiving(number, connection))
        if self._next == len(self._due_s) and not self._waiting and not self._under_way:
            self._finished.set()

    def _receiving(self, number: int, connection: Connection) -> Callable[[int, bytes], None]:
        def answered(status: int, body: bytes) -> None:
            self._under_way -= 1
            self._tally.answered(self._due_s[number], status)
            self._told(number, status, body)
            self._pool.give_back(connection)
            self._hand_out()

        return answered


async def _finish(finished: asyncio.Event, until_s: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, until_s - now_s())):
            await finished.wait()
    except TimeoutError:
        return
