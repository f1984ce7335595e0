"""Many deliveries at once: lanes, order, bounds, draining, and what a crash leaves to be read again."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kite_common.clock import FrozenClock
from kite_common.ids import EventId, TeamId, WebhookConfigId
from kite_common.testing.eventually import eventually
from kite_delivery.application.budget import Budget
from kite_delivery.application.deliver_message import DeliverMessage
from kite_delivery.application.lanes import Lanes
from kite_delivery.application.partition_work import PartitionWork
from kite_delivery.domain.breaker import BreakerLimits
from kite_delivery.domain.delivery import Batching, Delivery
from kite_delivery.domain.lane import LaneLimits
from kite_delivery.domain.outcome import Answer, Reply
from kite_delivery.domain.request import OutboundRequest
from kite_delivery.domain.retry import RetryPolicy
from kite_delivery.testing import FakeEndpoints, FakeLog, FakeSender, SilentObserver, a_delivery, an_endpoint

SLOW, QUICK = "team_slow", "team_quick"


class HangingSender(FakeSender):
    """Requests to the slow team's address hang until `let_go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()
        self.failing = False
        self.failing_at = "nowhere"

    async def send(self, request: OutboundRequest) -> Reply:
        self.sent.append(request)
        if "slow" in request.url:
            await self.let_go.wait()
        await asyncio.sleep(0)
        return Answer(500 if self.failing or self.failing_at in request.url else 200)

    def ids_of(self, team: str) -> list[str]:
        return [dict(request.headers)["webhook-id"] for request in self.sent if dict(request.headers)["X-Kite-Team-Id"] == team]


class Scene:
    def __init__(self, limits: LaneLimits | None = None, *, capacity: int = 1000, max_held: int = 10_000) -> None:
        self.now_s = 0.0
        self.sender, self.log = HangingSender(), FakeLog()
        self.endpoints = FakeEndpoints(
            an_endpoint(SLOW, "slow-config", "https://slow.example.com"), an_endpoint(QUICK, "quick-config", "https://quick.example.com")
        )
        self.deliver = DeliverMessage(
            self.endpoints, self.sender, self.log, self.log, SilentObserver(), policy=RetryPolicy(),
            clock=FrozenClock(datetime(2026, 4, 30, tzinfo=UTC)), jitter=lambda: 0.0, trace=lambda _parent: "t",
        )  # fmt: skip
        self.budget = Budget(max_held, 1 << 20)
        self.changes: list[tuple[str, str]] = []
        limits = limits or LaneLimits(concurrency=2, queue=3)
        self.lanes = Lanes(limits, 1000, lambda: self.now_s, lambda key, change: self.changes.append((key, change)))
        self.work = PartitionWork(self.deliver, self.lanes, self.budget, capacity=capacity)

    async def take(self, *teams: str, start: int = 0) -> None:
        for offset, team in enumerate(teams, start):
            await self.work.begin(offset)
            await self.work.accept(offset, event(team, offset))
        self.work.flush()

    async def until_handled(self, position: int) -> None:
        await eventually(lambda: self.work.position == position, every_s=0.001, what=f"everything below {position} is handled")


def event(team: str, offset: int) -> Delivery:
    return a_delivery(team, EventId(f"event-{offset:04d}"), partition=3, offset=offset)


async def test_everything_handled_is_delivered_in_the_order_of_the_log() -> None:
    scene = Scene(LaneLimits(concurrency=4, queue=100))
    await scene.take(*[QUICK] * 50)
    await scene.until_handled(50)
    assert scene.sender.ids_of(QUICK) == [f"event-{offset:04d}" for offset in range(50)]
    assert scene.log.statuses == ["delivered"] * 50
    assert (scene.lanes.open, scene.lanes.in_flight, scene.budget.free) == (0, 0, 10_000)


async def test_a_hanging_endpoint_holds_up_no_other_and_what_it_cannot_take_is_parked_untried() -> None:
    scene = Scene()
    await scene.take(*[SLOW] * 20, *[QUICK] * 5)
    await eventually(lambda: scene.log.statuses == ["delivered"] * 5, every_s=0.001, what="the quick team has all its events")
    await eventually(lambda: len(scene.log.parked) == 15, every_s=0.001, what="what the lane cannot take is parked")
    assert {parked.attempts for parked in scene.log.parked} == {0}
    assert len(scene.sender.ids_of(SLOW)) == 2
    assert scene.work.position is None
    assert scene.work.open == 5
    scene.sender.let_go.set()
    await scene.until_handled(25)


async def test_the_position_stays_below_what_is_open() -> None:
    scene = Scene()
    await scene.take(QUICK, SLOW, QUICK)
    await eventually(lambda: scene.log.statuses == ["delivered"] * 2, every_s=0.001, what="both quick ones are delivered")
    assert scene.work.position == 1


async def test_an_offset_is_not_handled_before_its_record_is_durable() -> None:
    scene = Scene()
    scene.log.broken = RuntimeError("the process dies here")
    await scene.take(QUICK)
    await eventually(lambda: scene.work.open == 1 and len(scene.sender.sent) == 1, every_s=0.001, what="it is sent")
    with pytest.raises(RuntimeError, match="dies here"):
        await eventually_raises(scene.work)
    assert scene.work.position is None


async def test_events_without_an_endpoint_are_recorded_in_groups() -> None:
    scene = Scene()
    scene.endpoints.by_team.clear()
    await scene.take(*[QUICK] * 200)
    await scene.until_handled(200)
    assert scene.log.statuses == ["no_endpoint"] * 200


async def test_ends_that_fill_the_window_are_recorded_instead_of_waited_for() -> None:
    scene = Scene(capacity=3)
    scene.endpoints.by_team.clear()
    async with asyncio.timeout(5):
        await scene.take(*[QUICK] * 20)
    await scene.until_handled(20)


async def test_reading_waits_while_memory_is_used_up() -> None:
    scene = Scene(LaneLimits(concurrency=16, queue=16), max_held=2)
    reading = asyncio.create_task(scene.take(SLOW, SLOW, SLOW, SLOW))
    await eventually(lambda: len(scene.sender.ids_of(SLOW)) == 2, every_s=0.001, what="two are held")
    assert not reading.done()
    scene.sender.let_go.set()
    await reading
    await scene.until_handled(4)


async def test_who_waits_too_long_for_a_turn_steps_aside() -> None:
    scene = Scene()
    await scene.take(*[SLOW] * 4)
    scene.now_s = 5.1
    scene.lanes.sweep()
    await eventually(lambda: len(scene.log.parked) == 2, every_s=0.001, what="the waiting are parked")
    assert [parked.event_id for parked in scene.log.parked] == ["event-0002", "event-0003"]


async def test_draining_lets_the_running_finish_and_parks_the_rest() -> None:
    scene = Scene()
    await scene.take(*[SLOW] * 4)
    await eventually(lambda: len(scene.sender.sent) == 2, every_s=0.001, what="two are under way")
    draining = asyncio.create_task(scene.work.drain(2))
    await eventually(lambda: len(scene.log.parked) == 2, every_s=0.001, what="the waiting are parked")
    assert {parked.due_at for parked in scene.log.parked} == {event(SLOW, 2).due_ms}
    scene.sender.let_go.set()
    await draining
    assert scene.work.position == 4
    assert scene.log.statuses == ["delivered"] * 2


async def test_draining_parks_what_does_not_finish_in_time_with_its_attempts_unchanged() -> None:
    scene = Scene()
    await scene.take(SLOW, QUICK)
    await scene.work.drain(0.05)
    assert [(parked.event_id, parked.attempts) for parked in scene.log.parked] == [("event-0000", 0)]
    assert scene.work.position == 2
    assert (scene.lanes.open, scene.lanes.in_flight, scene.budget.free) == (0, 0, 10_000)


async def test_an_abandoned_partition_holds_no_lane_and_no_memory_and_finishes_nothing() -> None:
    scene = Scene()
    await scene.take(*[SLOW] * 5)
    scene.work.abandon()
    await eventually(lambda: scene.lanes.open == 0, every_s=0.001, what="the lane is free")
    assert (scene.lanes.in_flight, scene.budget.free, scene.work.position) == (0, 10_000, None)
    assert scene.log.facts == []


async def test_a_short_wait_is_spent_in_memory_and_a_drain_parks_it() -> None:
    scene = Scene()
    for offset, wait_s in enumerate((0.01, 60.0)):
        await scene.work.begin(offset)
        await scene.work.accept_after(wait_s, offset, event(QUICK, offset))
    await scene.until_handled(1)
    await scene.work.drain(5)
    assert [parked.event_id for parked in scene.log.parked] == ["event-0001"]
    assert scene.work.position == 2


async def test_a_config_that_goes_while_a_delivery_waits_for_its_turn_cancels_it() -> None:
    scene = Scene(LaneLimits(concurrency=1, queue=5))
    await scene.take(SLOW, SLOW)
    await eventually(lambda: len(scene.sender.sent) == 1, every_s=0.001, what="one is under way")
    del scene.endpoints.by_team[TeamId(SLOW)]
    scene.sender.let_go.set()
    await scene.until_handled(2)
    assert scene.log.statuses == ["delivered", "no_endpoint"]


async def test_after_a_defect_nothing_more_begins() -> None:
    scene = Scene(capacity=1)
    scene.log.broken = RuntimeError("a defect")
    await scene.take(QUICK)
    with pytest.raises(RuntimeError, match="a defect"):
        await scene.work.begin(1)


async def test_a_delivery_that_is_not_due_by_far_is_parked_again() -> None:
    scene = Scene()
    await scene.work.begin(0)
    await scene.work.put_back(0, event(QUICK, 0))
    await scene.until_handled(1)
    assert len(scene.log.parked) == 1


async def test_other_work_of_an_offset_finishes_it() -> None:
    scene = Scene()
    ran = asyncio.Event()

    async def bury() -> None:
        ran.set()

    await scene.work.begin(0)
    scene.work.run(0, bury)
    await scene.until_handled(1)
    assert ran.is_set()


async def test_a_wait_in_memory_ends_when_the_config_is_gone() -> None:
    scene = Scene()
    scene.endpoints.by_team.clear()
    await scene.work.begin(0)
    await scene.work.accept_after(0.001, 0, event(QUICK, 0))
    await scene.until_handled(1)
    assert scene.log.statuses == ["no_endpoint"]


async def test_memory_that_is_used_up_does_not_hold_back_ends() -> None:
    scene = Scene(max_held=1)
    await scene.work.begin(0)
    await scene.work.accept(0, event("team_unknown", 0))
    for offset in (1, 2):
        await scene.work.begin(offset)
        reading = asyncio.create_task(scene.work.accept(offset, event(SLOW, offset)))
        await asyncio.sleep(0)
    await scene.until_handled(1)
    assert scene.log.statuses == ["no_endpoint"]
    scene.sender.let_go.set()
    await reading
    await scene.until_handled(3)


async def test_draining_one_partition_leaves_the_waiting_of_another_alone() -> None:
    scene = Scene(LaneLimits(concurrency=1, queue=5))
    other = PartitionWork(scene.deliver, scene.lanes, scene.budget, capacity=10)
    for work in (scene.work, other):
        for offset in (0, 1):
            await work.begin(offset)
            await work.accept(offset, event(SLOW, offset))
    await scene.work.drain(0.01)
    assert (scene.work.position, other.open) == (2, 2)
    scene.sender.let_go.set()
    await eventually(lambda: other.position == 2, every_s=0.001, what="the other partition goes on")


async def test_a_rate_holds_starts_back_and_the_sweep_lets_them_go() -> None:
    scene = Scene(LaneLimits(rate_per_s=10, burst=1, queue=5))
    await scene.take(QUICK, QUICK)
    await scene.until_handled(1)
    assert scene.work.position == 1
    scene.now_s = 0.11
    scene.lanes.sweep()
    await scene.until_handled(2)
    scene.now_s = 6.0
    scene.lanes.sweep()
    assert scene.lanes.open == 0


def parked_event(team: str, offset: int, size: int) -> Delivery:
    """An event that has met its endpoint and comes back from a tier, not quite due."""
    return replace(event(team, offset), body=b"x" * size, config_id=WebhookConfigId(f"{team[5:]}-config"), attempts=1)


async def test_what_waits_for_one_endpoint_leaves_memory_for_the_waiting_and_the_first_attempts_of_all_others() -> None:
    """Of 2,048 events of 64 KiB that come back at once for one endpoint, a share waits in memory, the rest in the log."""
    scene = Scene()
    again = Budget(2_048, 32 << 20)
    work = PartitionWork(scene.deliver, scene.lanes, again, capacity=10_000)
    async with asyncio.timeout(20):
        for offset in range(2_048):
            await work.begin(offset)
            await work.accept_after(3_600, offset, parked_event(SLOW, offset, 65_536))
    await eventually(lambda: work.open * 65_536 <= (32 << 20) // 8, every_s=0.001, what="its share waits, the rest is back in a tier")
    assert (work.open > 30, len(scene.log.parked)) == (True, 2_048 - work.open)
    assert {fact.attempts for fact in scene.log.parked} == {1}
    assert again.fits(65_536)
    await work.begin(2_048)
    await work.accept_after(0.001, 2_048, parked_event(QUICK, 2_048, 65_536))
    await scene.take(QUICK)
    await eventually(lambda: scene.log.statuses == ["delivered"] * 2, every_s=0.001, what="the quick team has its retry and its event")
    await work.drain(5)
    assert (again.free, again.free_bytes, again.take_share("slow-config", 4 << 20)) == (2_048, 32 << 20, True)


async def test_an_abandoned_partition_gives_the_shares_of_what_waited_back() -> None:
    scene = Scene()
    await scene.work.begin(0)
    await scene.work.accept_after(3_600, 0, parked_event(SLOW, 0, 1 << 16))
    assert not scene.budget.take_share("slow-config", 1 << 17)
    scene.work.abandon()
    await eventually(lambda: scene.budget.take_share("slow-config", 1 << 17), every_s=0.001, what="the whole share is free")


def message(team: str, offset: int, recipient: str | None) -> Delivery:
    return replace(event(team, offset), recipient=recipient)


async def test_first_attempts_to_one_recipient_go_one_after_the_other_and_other_recipients_pass() -> None:
    scene = Scene(LaneLimits(concurrency=8, queue=20))
    for offset, recipient in enumerate(["bob", "bob", "eve", "bob", None, None, "eve"]):
        await scene.work.begin(offset)
        await scene.work.accept(offset, message(SLOW, offset, recipient))
    await eventually(lambda: len(scene.sender.sent) == 4, every_s=0.001, what="one each, and those in nobody's order, are under way")
    assert scene.sender.ids_of(SLOW) == ["event-0000", "event-0002", "event-0004", "event-0005"]
    scene.sender.let_go.set()
    await scene.until_handled(7)
    order = scene.sender.ids_of(SLOW)
    assert [one for one in order if one in ("event-0000", "event-0001", "event-0003")] == ["event-0000", "event-0001", "event-0003"]
    assert order.index("event-0002") < order.index("event-0006")
    assert (scene.lanes.open, scene.lanes.in_flight) == (0, 0)


async def test_a_retry_holds_up_no_first_attempt_to_its_recipient() -> None:
    scene = Scene(LaneLimits(concurrency=8, queue=20))
    for offset, attempts in enumerate((1, 0)):
        await scene.work.begin(offset)
        await scene.work.accept(offset, replace(message(SLOW, offset, "bob"), attempts=attempts, config_id=WebhookConfigId("slow-config")))
    await eventually(lambda: len(scene.sender.sent) == 2, every_s=0.001, what="both are under way")
    scene.sender.let_go.set()
    await scene.until_handled(2)


async def test_an_endpoint_that_only_fails_is_left_alone_and_its_success_lets_what_comes_next_through() -> None:
    limits = LaneLimits(concurrency=1, queue=20, breaker=BreakerLimits(failures=2, open_s=10, look_s=5))
    scene = Scene(limits)
    scene.sender.failing = True
    await scene.take(*[QUICK] * 5, SLOW)
    await eventually(lambda: len(scene.log.parked) == 5, every_s=0.001, what="two failed, three never were sent")
    assert len(scene.sender.ids_of(QUICK)) == 2
    assert len(scene.sender.ids_of(SLOW)) == 1
    assert sorted((parked.attempts, parked.held) for parked in scene.log.parked) == [(0, True)] * 3 + [(1, False), (1, True)]
    assert scene.changes == [("quick-config", "open")]
    scene.now_s, scene.sender.failing = 10.0, False
    await scene.take(*[QUICK] * 3, start=6)
    await eventually(lambda: len(scene.sender.ids_of(QUICK)) == 3, every_s=0.001, what="one probes, the others are held")
    await eventually(lambda: len(scene.log.parked) == 7, every_s=0.001, what="the others are held")
    await scene.take(QUICK, start=9)
    await eventually(lambda: len(scene.sender.ids_of(QUICK)) == 4, every_s=0.001, what="it is back")
    assert scene.changes == [("quick-config", "open"), ("quick-config", "closed")]
    assert scene.lanes.left_alone == 0
    scene.sender.let_go.set()
    await scene.until_handled(10)


async def test_a_new_address_is_called_though_the_old_one_was_left_alone() -> None:
    """A story: whoever repaired a webhook by giving it another url waited out the breaker of the broken one."""
    scene = Scene(LaneLimits(concurrency=1, queue=20, breaker=BreakerLimits(failures=2, open_s=1_000)))
    scene.sender.failing = True
    await scene.take(QUICK, QUICK, QUICK)
    await eventually(lambda: len(scene.log.parked) == 3, every_s=0.001, what="it is left alone")
    scene.sender.failing = False
    old = scene.endpoints.by_team[TeamId(QUICK)]
    scene.endpoints.by_team[TeamId(QUICK)] = replace(old, url="https://repaired.example.com", updated_at=old.updated_at + 1)
    await scene.take(QUICK, start=3)
    await scene.until_handled(4)
    assert scene.sender.sent[-1].url == "https://repaired.example.com"
    assert scene.log.statuses[-1] == "delivered"


async def test_what_waited_for_the_old_address_says_nothing_of_it() -> None:
    scene = Scene(LaneLimits(concurrency=1, queue=20, breaker=BreakerLimits(failures=1)))
    await scene.take(SLOW, SLOW)
    await eventually(lambda: len(scene.sender.ids_of(SLOW)) == 1, every_s=0.001, what="the first one hangs, the second one waits")
    old = scene.endpoints.by_team[TeamId(SLOW)]
    scene.endpoints.by_team[TeamId(SLOW)] = replace(old, url="https://other.example.com", updated_at=old.updated_at + 1)
    scene.sender.failing_at = "other"
    scene.sender.let_go.set()
    await scene.until_handled(2)
    assert [request.url for request in scene.sender.sent] == [old.url, "https://other.example.com"]
    assert (scene.changes, [(parked.attempts, parked.held) for parked in scene.log.parked]) == ([], [(1, False)])


async def test_a_batch_that_fails_is_one_failure_of_its_endpoint() -> None:
    """A story: one failed POST of ten events opened the breaker, which opens after ten failures in a row."""
    scene = Scene(LaneLimits(concurrency=16, queue=20, breaker=BreakerLimits(failures=2)), capacity=100)
    old = scene.endpoints.by_team[TeamId(QUICK)]
    scene.endpoints.by_team[TeamId(QUICK)] = replace(old, batching=Batching(5, 3_600_000))
    scene.sender.failing = True
    await scene.take(*[QUICK] * 5)
    await scene.until_handled(5)
    assert (len(scene.sender.sent), scene.lanes.left_alone) == (1, 0)
    await scene.take(*[QUICK] * 5, start=5)
    await scene.until_handled(10)
    assert (len(scene.sender.sent), scene.lanes.left_alone) == (2, 1)


async def test_a_breaker_that_nobody_asks_about_is_forgotten() -> None:
    scene = Scene(LaneLimits(concurrency=1, queue=20, breaker=BreakerLimits(failures=1, open_s=10, look_s=5, hold_most_s=60)))
    scene.sender.failing = True
    await scene.take(QUICK)
    await scene.until_handled(1)
    for now_s, open_lanes in ((20.0, 1), (119.0, 1), (141.0, 0)):
        scene.now_s = now_s
        scene.lanes.sweep()
        assert (scene.lanes.open, scene.lanes.left_alone) == (open_lanes, open_lanes)


async def eventually_raises(work: PartitionWork) -> None:
    while True:
        work.check()
        await asyncio.sleep(0)
