"""Readiness by progress against lag, with a clock that is set by hand."""

from dataclasses import dataclass, field

import pytest

from kite_common.runtime.metrics import Metrics
from kite_common.stream.progress import Progress, Written

TOPIC = "events"


@dataclass
class Offsets:
    handed: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    asleep: dict[str, float] = field(default_factory=dict)
    begun: bool = False


class Scene:
    """One partition, looked at when told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.metrics = Metrics()
        self.progress = Progress("group", self.metrics, lambda: self.now)
        self.offsets = Offsets()

    def look(self, end: int, position: int | None = None, after_s: float = 0.0, written: Written | None = None) -> None:
        self.now += after_s
        positions = {} if position is None else {(TOPIC, 3): position}
        told = {} if written is None else {(TOPIC, 3): written}
        self.progress.seen({3: self.offsets}, [TOPIC], {(TOPIC, 3): end}, positions, told)

    @property
    def reason(self) -> str:
        readiness = self.progress.readiness()
        assert readiness.ready == (not readiness.reason)
        return readiness.reason

    def gauge(self, name: str) -> float:
        self.progress.readiness()
        return self.metrics.value(name, group="group", topic=TOPIC, partition="3")


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    scene.progress.assigned([3])
    scene.offsets.begun = True
    scene.look(end=0, position=0)
    return scene


def test_before_it_is_a_member_and_until_its_owners_have_begun_it_is_not_ready() -> None:
    scene = Scene()
    assert scene.reason == "not a member yet"
    scene.progress.assigned([3])
    scene.look(end=0)
    assert scene.reason == "partition 3 is starting"
    scene.offsets.begun = True
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
    scene.progress.seen({}, [TOPIC], {}, {})
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


def test_reading_on_behind_a_record_that_never_ends_is_no_progress(scene: Scene) -> None:
    scene.offsets.done[TOPIC] = 5
    for second in range(30):
        scene.offsets.handed[TOPIC] = 6 + second
        scene.look(end=6 + second, position=6 + second, after_s=1)
    assert scene.reason == "no progress in events-3"
    scene.offsets.done[TOPIC] = 6
    scene.look(end=36, position=36, after_s=1)
    assert scene.reason == ""


def test_an_owner_that_begins_again_and_again_before_the_same_record_does_not_move_on(scene: Scene) -> None:
    for _ in range(4):
        scene.offsets.handed[TOPIC] = scene.offsets.done[TOPIC] = 5
        scene.look(end=9, position=5, after_s=1)
        scene.offsets.handed[TOPIC] = 9
        scene.look(end=9, position=9, after_s=9)
    assert scene.reason == "no progress in events-3"


def test_an_owner_that_hangs_before_it_reads_again_is_starting(scene: Scene) -> None:
    scene.progress.failed(3, "TimeoutError")
    scene.offsets.begun = False
    scene.progress.begins(3)
    scene.look(end=9, after_s=10)
    assert scene.reason == ""
    scene.look(end=9, after_s=11)
    assert scene.reason == "partition 3 fails: TimeoutError"
    scene.look(end=9, after_s=20)
    assert scene.reason == "partition 3 is starting"
    scene.offsets.begun = True
    scene.look(end=9, position=9, after_s=1)
    assert scene.reason == ""


def test_a_topic_that_sleeps_until_its_head_is_due_has_lag_and_nothing_to_do_and_is_late_after_that(scene: Scene) -> None:
    scene.offsets.handed[TOPIC] = scene.offsets.done[TOPIC] = 5
    scene.offsets.asleep[TOPIC] = scene.now + 3_600
    for _ in range(60):
        scene.look(end=9, position=5, after_s=60)
    assert scene.reason == ""
    assert scene.gauge("kite_consumer_lag") == 4
    scene.look(end=9, position=5, after_s=1)
    scene.look(end=9, position=5, after_s=21)
    assert scene.reason == "no progress in events-3"
    del scene.offsets.asleep[TOPIC]
    scene.offsets.handed[TOPIC] = scene.offsets.done[TOPIC] = 9
    scene.look(end=9, position=9, after_s=1)
    assert scene.reason == ""


def test_a_pause_for_no_reason_that_was_told_is_standing_still(scene: Scene) -> None:
    """The archiver pauses while ClickHouse is away: what is appended meanwhile is lag."""
    scene.offsets.handed[TOPIC] = scene.offsets.done[TOPIC] = 5
    scene.look(end=5, position=5, after_s=1)
    scene.look(end=8, position=5, after_s=1)
    scene.look(end=8, position=5, after_s=21)
    assert scene.reason == "no progress in events-3"
    assert scene.gauge("kite_consumer_lag") == 3


def test_looks_that_do_not_come_back_leave_neither_readiness_nor_numbers_standing(scene: Scene) -> None:
    scene.look(end=8, position=5, after_s=1)
    scene.look(end=8, position=5, after_s=1)
    scene.now += 21
    assert scene.reason == "no progress in events-3"
    assert scene.gauge("kite_consumer_stalled_seconds") == 21
    scene.look(end=8, position=8)
    assert scene.reason == ""
    scene.now += 21
    assert scene.reason == "the brokers have not answered"
    assert scene.metrics.value("kite_consumer_look_age_seconds", group="group") == 21


def test_what_an_open_transaction_hides_is_told_although_it_is_no_lag(scene: Scene) -> None:
    for second in range(1, 24):
        scene.look(end=5, position=5, after_s=1, written=Written(5, 9 + second, told=second))
    assert scene.reason == "an open transaction hides what follows in events-3"
    assert scene.gauge("kite_consumer_stalled_seconds") > 20
    scene.look(end=40, position=40, after_s=1, written=Written(40, 40, told=24))
    assert scene.reason == ""
    assert scene.gauge("kite_consumer_stalled_seconds") == 0


def test_transactions_that_follow_on_each_other_and_old_answers_are_no_such_thing(scene: Scene) -> None:
    for second in range(1, 50):
        scene.look(end=second, position=second, after_s=1, written=Written(second, second + 1, told=second))
    for _ in range(50):
        scene.look(end=50, position=50, after_s=1, written=Written(49, 50, told=49))
    assert scene.reason == ""
