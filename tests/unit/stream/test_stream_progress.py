"""Readiness by progress against lag, with a clock that is set by hand."""

from dataclasses import dataclass, field

import pytest

from kite_common.runtime.metrics import Metrics
from kite_common.stream.progress import Progress

TOPIC = "events"


@dataclass
class Offsets:
    handed: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    resumed: set[str] = field(default_factory=set)


class Scene:
    """One partition, looked at when told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.metrics = Metrics()
        self.progress = Progress("group", self.metrics, lambda: self.now)
        self.offsets = Offsets()

    def look(self, end: int, position: int | None = None, after_s: float = 0.0) -> None:
        self.now += after_s
        positions = {} if position is None else {(TOPIC, 3): position}
        self.progress.seen({3: self.offsets}, [TOPIC], {(TOPIC, 3): end}, positions)

    @property
    def reason(self) -> str:
        readiness = self.progress.readiness()
        assert readiness.ready == (not readiness.reason)
        return readiness.reason

    def gauge(self, name: str) -> float:
        return self.metrics.value(name, group="group", topic=TOPIC, partition="3")


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.progress.assigned([3])
    scene.offsets.resumed.add(TOPIC)
    scene.look(end=0, position=0)
    return scene


def test_before_it_is_a_member_and_until_its_owners_have_begun_it_is_not_ready() -> None:
    scene = Scene()
    assert scene.reason == "not a member yet"
    scene.progress.assigned([3])
    scene.look(end=0)
    assert scene.reason == "partition 3 is starting"
    scene.offsets.resumed.add(TOPIC)
    scene.look(end=0, position=0)
    assert scene.reason == ""


def test_a_member_without_partitions_is_ready() -> None:
    scene = Scene()
    scene.progress.assigned([])
    scene.progress.seen({}, [TOPIC], {}, {})
    assert scene.reason == ""


def test_lag_alone_is_no_reason_but_lag_without_progress_is(scene: Scene) -> None:
    for second in range(100):
        scene.look(end=1_000, position=second, after_s=1)
    assert scene.reason == ""
    assert scene.gauge("kite_consumer_lag") == 1_000 - 99
    scene.look(end=1_000, position=99, after_s=1)
    scene.look(end=1_000, position=99, after_s=21)
    assert scene.reason == "no progress in events-3"
    assert scene.gauge("kite_consumer_stalled_seconds") == 21
    scene.look(end=1_000, position=100, after_s=1)
    assert scene.reason == ""
    assert scene.gauge("kite_consumer_stalled_seconds") == 0


def test_records_that_were_taken_and_are_not_done_count_although_nothing_is_left_to_read(scene: Scene) -> None:
    scene.offsets.handed[TOPIC], scene.offsets.done[TOPIC] = 10, 4
    scene.look(end=10, position=10, after_s=1)
    assert scene.gauge("kite_consumer_lag") == 6
    scene.look(end=10, position=10, after_s=1)
    scene.look(end=10, position=10, after_s=21)
    assert scene.reason == "no progress in events-3"
    scene.offsets.done[TOPIC] = 10
    scene.look(end=10, position=10, after_s=1)
    assert scene.reason == ""


def test_the_marker_of_a_transaction_behind_the_last_record_is_not_lag(scene: Scene) -> None:
    scene.offsets.handed[TOPIC] = scene.offsets.done[TOPIC] = 10
    scene.look(end=11, position=11, after_s=60)
    scene.look(end=11, position=11, after_s=60)
    assert scene.reason == ""
    assert scene.gauge("kite_consumer_lag") == 0


def test_a_topic_its_owner_has_paused_has_nothing_to_do(scene: Scene) -> None:
    scene.look(end=1_000, after_s=60)
    scene.look(end=1_000, after_s=60)
    assert scene.reason == ""


def test_brokers_away_are_forgiven_for_a_while(scene: Scene) -> None:
    scene.progress.away("NoBrokersAvailable")
    assert scene.reason == ""
    scene.now += 21
    assert scene.reason == "NoBrokersAvailable"
    scene.look(end=0, position=0)
    assert scene.reason == ""


def test_an_owner_that_does_not_begin_again_is_told_after_a_while(scene: Scene) -> None:
    scene.progress.revoked([3])
    scene.progress.assigned([3])
    assert scene.reason == ""
    scene.now += 21
    assert scene.reason == "partition 3 is starting"


def test_what_is_not_ours_any_more_is_not_looked_at(scene: Scene) -> None:
    scene.look(end=10, position=0)
    scene.progress.revoked([3])
    scene.progress.assigned([])
    scene.now += 60
    assert scene.reason == ""
    assert scene.gauge("kite_consumer_lag") == 0


def test_between_partitions_taken_away_and_given_again_it_is_joining(scene: Scene) -> None:
    scene.progress.revoked([3])
    scene.progress.seen({}, [TOPIC], {}, {})
    assert scene.reason == ""
    scene.now += 21
    scene.progress.seen({}, [TOPIC], {}, {})
    assert scene.reason == "joining the group"
    scene.progress.assigned([])
    assert scene.reason == ""


def test_an_owner_that_raises_again_and_again_is_named_with_its_reason(scene: Scene) -> None:
    scene.progress.failed(3, "StateMismatch")
    assert scene.reason == ""
    for _ in range(5):
        scene.look(end=10, position=scene.offsets.done.get(TOPIC, 0), after_s=5)
        scene.progress.failed(3, "StateMismatch")
    assert scene.reason == "partition 3 fails: StateMismatch"
    scene.look(end=0, position=0, after_s=31)
    assert scene.reason == ""


def test_an_owner_that_fails_before_it_has_ever_begun_says_why() -> None:
    scene = Scene()
    scene.progress.assigned([3])
    scene.progress.failed(3, "LogTruncated")
    scene.look(end=0)
    assert scene.reason == "partition 3 fails: LogTruncated"
