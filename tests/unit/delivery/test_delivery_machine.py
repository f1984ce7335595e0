"""Deliveries that are read, sent, answered, parked, committed, drained, killed and taken over, in any order: each ends, none is lost.

The machine holds a partition of events and one of parked deliveries, two processes that may both believe they own them, and decides what
receivers answer and when. A process that dies leaves its requests on the way.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kite_common.clock import FrozenClock
from kite_common.events.deliveries import DeadLetter, DeliveryAttempted, DeliveryConcluded, DeliveryParked
from kite_common.ids import EventId, TeamId
from kite_delivery.application.budget import Budget
from kite_delivery.application.deliver_message import DeliverMessage
from kite_delivery.application.lanes import Lanes
from kite_delivery.application.partition_work import PartitionWork
from kite_delivery.domain import facts
from kite_delivery.domain.delivery import Delivery
from kite_delivery.domain.lane import LaneLimits
from kite_delivery.domain.outcome import Answer, Reply
from kite_delivery.domain.request import OutboundRequest
from kite_delivery.domain.retry import RetryPolicy
from kite_delivery.testing import FakeEndpoints, FakeLog, SilentObserver, a_delivery, an_endpoint
from support.machine import HandLoop

TEAMS = ("team_a", "team_b", "team_without")
IN_FLIGHT = 3
# How far reading may run ahead of what is open, and how much is held: whichever is smaller is met first.
BOUNDS = ((6, 3), (3, 6))
# What undoes the work of other rules must not happen most of the time.
RARELY = st.integers(0, 3)
POLICY = RetryPolicy(waits_s=(5, 300), jitter=0.0)
FINAL = ("delivered", "dead", "no_endpoint", "cancelled", "inactive", "filtered", "blocked")


@dataclass
class Request:
    """A POST on its way."""

    event_id: str
    body: bytes
    reply: "asyncio.Future[Reply]"


@dataclass
class HeldSender:
    """Requests wait until the machine answers them."""

    waiting: list[Request]
    sent: list[tuple[str, bytes]] = field(default_factory=list)

    async def send(self, request: OutboundRequest) -> Reply:
        headers = dict(request.headers)
        held = Request(headers["webhook-id"], request.body, asyncio.get_running_loop().create_future())
        self.waiting.append(held)
        self.sent.append((held.event_id, held.body))
        return await held.reply


class DeadLog(FakeLog):
    """One log of facts for all processes; a process that has died writes nothing more."""

    def __init__(self, written: list[object]) -> None:
        super().__init__()
        self.facts = written  # type: ignore[assignment]  # the same list for all of them


class Process:
    """Everything one process holds. `events` and `parked` are its works while it owns them."""

    def __init__(self, world: "Deliveries") -> None:
        self.waiting: list[Request] = []
        self.log = DeadLog(world.facts)
        capacity, max_held = world.bounds
        self.budget = Budget(max_held, 1 << 20)
        deliver = DeliverMessage(
            world.endpoints, HeldSender(self.waiting, world.sent), self.log, self.log, SilentObserver(), policy=POLICY, clock=world.clock,
            jitter=lambda: 0.0, trace=lambda _parent: "t",
        )  # fmt: skip
        limits = LaneLimits(concurrency=2, queue=2, queue_wait_s=5.0)
        self.lanes = Lanes(limits, IN_FLIGHT, world.loop.time)
        self.new_work = partial(PartitionWork, deliver, self.lanes, self.budget, capacity=capacity)
        self.works: dict[str, PartitionWork] = {}
        self.next: dict[str, int] = {}
        self.reading: dict[str, asyncio.Task[None]] = {}


TOPICS = st.sampled_from(("events", "parked"))
OWNERS = st.integers(0, 1)


class Deliveries(RuleBasedStateMachine):
    """Two processes, a log of events, a log of what is parked."""

    def __init__(self) -> None:
        super().__init__()
        self.loop, self.clock = HandLoop(), FrozenClock(datetime(2026, 4, 30, tzinfo=UTC))
        self.endpoints = FakeEndpoints(*(an_endpoint(team, f"{team}-config", f"https://{team[5:]}.example.com") for team in TEAMS[:2]))
        self.facts: list[object] = []
        self.sent: list[tuple[str, bytes]] = []
        self.events: list[Delivery] = []
        self.committed = {"events": 0, "parked": 0}
        self.repeats = False
        self.bounds = BOUNDS[0]
        self.processes = [Process(self) for _ in range(2)]

    @initialize(bounds=st.sampled_from(BOUNDS))
    def bound(self, bounds: tuple[int, int]) -> None:
        """How much a process takes on."""
        self.bounds = bounds
        self.processes = [Process(self) for _ in range(2)]

    @property
    def parked(self) -> list[DeliveryParked]:
        return [fact for fact in self.facts if isinstance(fact, DeliveryParked)]

    def record(self, topic: str, offset: int) -> Delivery:
        return self.events[offset] if topic == "events" else facts.unparked(self.parked[offset], 3)

    def length(self, topic: str) -> int:
        return len(self.events if topic == "events" else self.parked)

    @rule(teams=st.lists(st.sampled_from(TEAMS), min_size=1, max_size=4))
    def append(self, teams: list[str]) -> None:
        """Events are accepted."""
        for team in teams:
            offset, now_ms = len(self.events), self.clock.unix_ms()
            body = b'{"id":"%d","kiteseq":%d}' % (offset, (offset << 10) | 3)
            self.events.append(a_delivery(team, EventId(f"event-{offset:04d}"), body=body, partition=3, offset=offset, appended_ms=now_ms))

    @rule(owner=OWNERS, topic=TOPICS, luck=RARELY)
    def own(self, owner: int, topic: str, luck: int) -> None:
        """A process is given a partition, from the committed position on; the other one may not know that it has lost it."""
        if luck:
            return
        process = self.processes[owner]
        # Also for who has it already and begins again: what it had not committed is done twice.
        self.repeats = self.repeats or any(topic in one.works for one in self.processes)
        self.let_go(process, topic)
        process.works[topic], process.next[topic] = process.new_work(), self.committed[topic]

    @rule(owner=OWNERS, topic=TOPICS, most=st.integers(1, 4))
    def read(self, owner: int, topic: str, most: int) -> None:
        """The next records are taken, unless those before still wait for room."""
        if not any(topic in one.works for one in self.processes):
            self.own(owner, topic, 0)
        process = self.processes[owner]
        if topic not in process.works or (topic in process.reading and not process.reading[topic].done()):
            return
        first = process.next[topic]
        offsets = range(first, min(self.length(topic), first + most))
        process.next[topic] = first + len(offsets)
        process.reading[topic] = self.loop.start(self.take(process.works[topic], topic, offsets))

    async def take(self, work: PartitionWork, topic: str, offsets: range) -> None:
        for offset in offsets:
            await work.begin(offset)
            delivery = self.record(topic, offset)
            wait_s = (delivery.due_ms - self.clock.unix_ms()) / 1000
            if topic == "events" or wait_s <= 0:
                await work.accept(offset, delivery)
            elif wait_s < POLICY.waits_s[0]:
                await work.accept_after(wait_s, offset, delivery)
            else:
                await work.put_back(offset, delivery)
        work.flush()

    @precondition(lambda self: any(process.waiting for process in self.processes))
    @rule(which=st.integers(0, 9), status=st.sampled_from((200, 500, 429, 404, 410)))
    def answer(self, which: int, status: int) -> None:
        """A receiver answers, in any order."""
        waiting = [(process, one) for process in self.processes for one in process.waiting]
        process, request = waiting[which % len(waiting)]
        process.waiting.remove(request)
        if not request.reply.done():
            request.reply.set_result(Answer(status))
            self.loop.settle()

    @rule(owner=OWNERS, topic=TOPICS)
    def commit(self, owner: int, topic: str) -> None:
        """What is handled is committed; positions of one who has lost the partition are refused by the brokers only if they know better."""
        work = self.processes[owner].works.get(topic)
        if work is not None and work.position is not None:
            self.committed[topic] = max(self.committed[topic], work.position)

    @rule(seconds=st.sampled_from((1, 4, 6, 400)))
    def pass_time(self, seconds: int) -> None:
        """Time goes on; lanes are swept as always."""
        for _ in range(min(seconds, 12)):
            self.clock.advance(timedelta(seconds=seconds / min(seconds, 12)))
            self.loop.advance(seconds / min(seconds, 12), step_s=seconds)
            for process in self.processes:
                process.lanes.sweep()
            self.loop.settle()

    @rule(owner=OWNERS, topic=TOPICS, luck=RARELY)
    def drain(self, owner: int, topic: str, luck: int) -> None:
        """The partition is taken away in order: what is on its way is parked, and committed."""
        process = self.processes[owner]
        work = process.works.get(topic)
        if work is None or luck:
            return
        self.stop_reading(process, topic)
        draining = self.loop.start(work.drain(2.0))
        self.loop.advance(4.0)
        assert draining.done(), "draining has a bound"
        draining.result()
        self.commit(owner, topic)
        # What was interrupted may have been received: it is attempted again.
        self.repeats = True
        self.let_go(process, topic)

    @rule(owner=OWNERS, luck=RARELY)
    def kill(self, owner: int, luck: int) -> None:
        """The process is gone. What it had sent may have been received; it records nothing of it."""
        if luck:
            return
        process = self.processes[owner]
        process.log.broken = asyncio.CancelledError()  # type: ignore[assignment]  # the end of a task, not an error it could report
        for topic in list(process.works):
            self.let_go(process, topic)
        self.repeats = True
        self.processes[owner] = Process(self)

    @precondition(lambda self: any(one.active for one in self.endpoints.by_team.values()))
    @rule(team=st.sampled_from(TEAMS[:2]), luck=RARELY)
    def switch_off(self, team: str, luck: int) -> None:
        """A team ends its webhook."""
        endpoint = self.endpoints.by_team[TeamId(team)]
        if endpoint.active and not luck:
            self.loop.run_until_complete(self.endpoints.deactivate(endpoint, 3, self.clock.unix_ms()))

    def stop_reading(self, process: Process, topic: str) -> None:
        reading = process.reading.pop(topic, None)
        if reading is not None:
            reading.cancel()
            self.loop.settle()

    def let_go(self, process: Process, topic: str) -> None:
        self.stop_reading(process, topic)
        work = process.works.pop(topic, None)
        if work is not None:
            work.abandon()
            self.loop.settle()

    def followers(self, event_id: str) -> list[DeliveryAttempted | DeliveryConcluded]:
        return [one for one in self.facts if isinstance(one, DeliveryAttempted | DeliveryConcluded) and one.event_id == event_id]

    @invariant()
    def nothing_is_committed_before_it_is_handled(self) -> None:
        ended = {one.event_id for one in self.facts if isinstance(one, DeliveryAttempted | DeliveryConcluded) and one.status in FINAL}
        waiting = {one.event_id for one in self.parked[self.committed["parked"] :]}
        for delivery in self.events[: self.committed["events"]]:
            assert delivery.event_id in ended | waiting, f"{delivery.event_id} is lost"

    @invariant()
    def memory_is_bounded(self) -> None:
        for process in self.processes:
            assert 0 <= process.budget._held <= self.bounds[1]
            assert 0 <= process.lanes.in_flight <= IN_FLIGHT
            assert all(work.open <= self.bounds[0] for work in process.works.values())

    @invariant()
    def who_owns_nothing_holds_nothing(self) -> None:
        for process in self.processes:
            if not process.works:
                assert (process.budget._held, process.lanes.in_flight, process.budget._shares) == (0, 0, {})

    @invariant()
    def no_work_was_stopped_by_a_defect(self) -> None:
        for process in self.processes:
            for work in process.works.values():
                work.check()
            for reading in process.reading.values():
                assert not reading.done() or reading.cancelled() or reading.exception() is None

    @invariant()
    def all_attempts_of_an_event_are_the_same_delivery(self) -> None:
        bodies = {str(one.event_id): one.body for one in self.events}
        assert all(bodies[event_id] == body for event_id, body in self.sent)
        ids = defaultdict(set)
        for one in self.facts:
            if isinstance(one, DeliveryAttempted | DeliveryParked):
                ids[one.event_id].add(one.delivery_id)
        assert all(len(some) == 1 for some in ids.values())

    def teardown(self) -> None:
        try:
            self.comes_to_an_end()
        finally:
            self.loop.end()

    def comes_to_an_end(self) -> None:
        """Left alone with receivers that answer, everything comes to its end."""
        for _ in range(300):
            for owner, process in enumerate(self.processes):
                for topic in self.committed:
                    self.read(owner, topic, 4)
                while process.waiting:
                    self.answer(0, 200)
                for topic in self.committed:
                    self.commit(owner, topic)
            if all(self.committed[topic] == self.length(topic) for topic in self.committed):
                break
            self.pass_time(6)
        for delivery in self.events:
            self.check_chain(delivery)

    def check_chain(self, delivery: Delivery) -> None:
        """Exactly one end, unless a crash made somebody do again what had been done; a dead one has its letter."""
        chain = self.followers(delivery.event_id)
        ends = [one for one in chain if one.status in FINAL]
        assert ends, f"{delivery.event_id} never ended"
        if not self.repeats:
            attempts = [one.attempt for one in chain if isinstance(one, DeliveryAttempted)]
            assert len(ends) == 1, chain
            assert attempts == list(range(1, len(attempts) + 1)), chain
        letters = [one for one in self.facts if isinstance(one, DeadLetter) and one.offset == delivery.kiteseq >> 10]
        assert bool(letters) == any(one.status == "dead" for one in ends)


Deliveries.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestDeliveries = Deliveries.TestCase
