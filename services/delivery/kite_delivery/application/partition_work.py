"""The deliveries of one topic partition between being read and being handled. Commits nothing; reads nothing.

An offset is finished when what became of its delivery is durable: the outcome of its attempt, its place in a retry tier, or its
end. Whatever is not finished is read again after a crash. Any defect stops the partition, loudly, instead of losing a delivery.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from kite_delivery.application.budget import Budget
from kite_delivery.application.deliver_message import DeliverMessage
from kite_delivery.application.lanes import Lanes
from kite_delivery.domain.breaker import Verdict
from kite_delivery.domain.delivery import Delivery, Endpoint
from kite_delivery.domain.facts import Attempt
from kite_delivery.domain.outcome import verdict
from kite_delivery.domain.progress import Progress
from kite_delivery.domain.route import End

# Ends are recorded in groups: for a team without an endpoint an event costs a line in a batch, not a task.
_ENDS_AT_ONCE: Final = 64
# When the time to drain is over: for writes under way to be acknowledged and for what was interrupted to be parked.
_PARKING_GRACE_S: Final = 1.0


class PartitionWork:
    """Work on one topic partition. `capacity` bounds how far handled offsets may run ahead of the oldest open one."""

    def __init__(self, deliver: DeliverMessage, lanes: Lanes, budget: Budget, *, capacity: int) -> None:
        self._deliver, self._lanes, self.budget = deliver, lanes, budget
        self._progress = Progress(capacity)
        self._held: dict[int, int] = {}
        self._ends: list[tuple[int, Delivery, End]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self._draining = asyncio.Event()
        self._abandoned = False
        self._failure: BaseException | None = None

    @property
    def position(self) -> int | None:
        """The next offset to read after a restart; None as long as nothing is handled."""
        return self._progress.position

    @property
    def open(self) -> int:
        """Offsets that have begun and are not handled."""
        return self._progress.open

    def check(self) -> None:
        """Raise what stopped the partition, if anything did."""
        if self._failure is not None:
            raise self._failure

    async def begin(self, offset: int) -> None:
        """Take note of a record that was read; waits while too much stands behind an open one. Raises as `check`."""
        while self._progress.full and self._failure is None:
            self.flush()
            self._moved.clear()
            await self._moved.wait()
        self.check()
        self._progress.begin(offset)

    def finish(self, offset: int) -> None:
        """The record is handled for good."""
        if (size := self._held.pop(offset, None)) is not None:
            self.budget.give_back(size)
        self._progress.finish(offset)
        self._moved.set()

    async def accept(self, offset: int, delivery: Delivery) -> None:
        """Deliver what stands at this offset, which has begun; waits only for memory. `flush` after the last of a batch."""
        going = self._deliver.route(delivery)
        if isinstance(going, End):
            self._ends.append((offset, delivery, going))
            if len(self._ends) >= _ENDS_AT_ONCE:
                self.flush()
        else:
            await self._hold(offset, delivery)
            self._offer(_Job(self, offset, delivery, going.endpoint))

    async def accept_after(self, wait_s: float, offset: int, delivery: Delivery) -> None:
        """As `accept`, in `wait_s` seconds; the delivery, which has met its endpoint, is held in memory meanwhile.

        What is beyond its endpoint's share of the memory is put back: it comes again after the smallest delay, due by then.
        """
        key, size = str(delivery.config_id), len(delivery.body)
        if not self.budget.take_share(key, size):
            return await self.put_back(offset, delivery)
        try:
            await self._hold(offset, delivery)
        except BaseException:
            self.budget.give_back_share(key, size)
            raise
        waiting = self._spawn(self._accept_later(wait_s, offset, delivery))
        # Also for a task that is cancelled before its first step.
        waiting.add_done_callback(lambda _task: self.budget.give_back_share(key, size))
        return None

    async def put_back(self, offset: int, delivery: Delivery) -> None:
        """Park it again as it is; waits only for memory."""
        await self._hold(offset, delivery)
        self._spawn(self._finish_after(offset, partial(self._deliver.put_back, delivery)))

    def run(self, offset: int, work: Callable[[], Awaitable[None]]) -> None:
        """Do other durable work for this offset, such as a dead letter; it is finished when the work is."""
        self._spawn(self._finish_after(offset, work))

    def flush(self) -> None:
        """Record the ends collected so far."""
        if self._ends:
            ends, self._ends = self._ends, []
            self._spawn(self._conclude(ends))

    async def drain(self, timeout_s: float) -> None:
        """Come to an end: what is being sent may finish within `timeout_s`, all the rest is parked. Takes a second more at most.

        For half of that time what waits in a lane keeps its turn: were it parked at once, later messages would overtake it.
        """
        self._draining.set()
        self.flush()
        await self._settled(timeout_s / 2)
        for job in self._lanes.withdraw(self):
            job.step_aside()
        await self._settled(timeout_s / 2)
        for task in self._sending:
            task.cancel()
        await self._settled(_PARKING_GRACE_S)
        self.abandon()

    def abandon(self) -> None:
        """Stop at once; what is not finished will be read again."""
        self._abandoned = True
        self._draining.set()
        self._lanes.withdraw(self)
        for task in self._tasks:
            task.cancel()
        for size in self._held.values():
            self.budget.give_back(size)
        self._held.clear()

    async def _hold(self, offset: int, delivery: Delivery) -> None:
        size = len(delivery.body)
        if not self.budget.fits(size):
            self.flush()
        await self.budget.take(size)
        self._held[offset] = size

    def _offer(self, job: "_Job") -> None:
        if self._draining.is_set():
            job.step_aside()
        else:
            self._lanes.offer(job.endpoint.config_id, job, job.endpoint.url)

    def start(self, job: "_Job") -> None:
        """Called by the job when its lane lets it go."""
        task = self._spawn(self._deliver_now(job))
        self._sending.add(task)
        # Also for a task that is cancelled before its first step: its lane must not stay taken.
        task.add_done_callback(lambda _task: self._leave_lane(job, "unknown"))

    def step_aside(self, job: "_Job", rest_s: float | None) -> None:
        """Called by the job when its lane has no place for it (`rest_s`: its endpoint is left alone), or we are ending: due as before."""
        if self._draining.is_set():
            parking = partial(self._deliver.put_back, job.delivery)
        elif rest_s is not None:
            parking = partial(self._deliver.hold, job.delivery, job.endpoint, rest_s)
        else:
            parking = partial(self._deliver.set_aside, job.delivery, job.endpoint)
        self._spawn(self._finish_after(job.offset, parking))

    async def _deliver_now(self, job: "_Job") -> None:
        result = await self._send(job)
        if isinstance(result, Attempt):
            await self._deliver.settle(result, partial(self._lanes.rest_s, result.endpoint.config_id))
        elif isinstance(result, End):
            await self._deliver.conclude([(job.delivery, result)])
        else:
            await self._deliver.put_back(job.delivery)
        self.finish(job.offset)

    async def _send(self, job: "_Job") -> Attempt | End | None:
        """The attempt, or None if draining interrupted it."""
        task = asyncio.current_task()
        said: Verdict = "unknown"
        try:
            result = await self._deliver.attempt(job.delivery)
            said = _said(result, job.endpoint) if isinstance(result, Attempt) else "unknown"
        except asyncio.CancelledError:
            if self._abandoned or not self._draining.is_set() or task is None:
                raise
            task.uncancel()
            return None
        else:
            return result
        finally:
            self._leave_lane(job, said)
            if task is not None:
                self._sending.discard(task)

    def _leave_lane(self, job: "_Job", said: Verdict) -> None:
        if job.in_lane:
            job.in_lane = False
            self._lanes.ended(job.endpoint.config_id, job.order, said)

    async def _accept_later(self, wait_s: float, offset: int, delivery: Delivery) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._draining.wait()
        if self._draining.is_set():
            return await self._finish_after(offset, partial(self._deliver.put_back, delivery))
        going = self._deliver.route(delivery)
        if isinstance(going, End):
            return await self._finish_after(offset, partial(self._deliver.conclude, [(delivery, going)]))
        return self._offer(_Job(self, offset, delivery, going.endpoint))

    async def _conclude(self, ends: list[tuple[int, Delivery, End]]) -> None:
        await self._deliver.conclude([(delivery, end) for _, delivery, end in ends])
        for offset, _, _ in ends:
            self.finish(offset)

    async def _finish_after(self, offset: int, work: Callable[[], Awaitable[None]]) -> None:
        await work()
        self.finish(offset)

    async def _settled(self, timeout_s: float) -> None:
        """Wait until no task is left, also of those that tasks begin; at most so long."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while self._tasks and (left_s := deadline_s - loop.time()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left_s)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
        self._moved.set()


def _said(attempt: Attempt, waited_for: Endpoint) -> Verdict:
    """What it says of the address it waited for: nothing if the config has another one since."""
    return verdict(attempt.reply) if attempt.speaks and attempt.endpoint.url == waited_for.url else "unknown"


class _Job:
    """One delivery on its way through a lane."""

    __slots__ = ("budget", "delivery", "endpoint", "in_lane", "offset", "order", "owner", "size")

    def __init__(self, work: PartitionWork, offset: int, delivery: Delivery, endpoint: Endpoint) -> None:
        self.owner, self.offset, self.delivery, self.endpoint = work, offset, delivery, endpoint
        self.budget, self.size = work.budget, len(delivery.body)
        # One event a recipient would be all that a batch could hold.
        self.order = delivery.order if endpoint.batching is None else None
        self.in_lane = False

    def start(self) -> None:
        self.in_lane = True
        self.owner.start(self)

    def step_aside(self, rest_s: float | None = None) -> None:
        self.owner.step_aside(self, rest_s)
