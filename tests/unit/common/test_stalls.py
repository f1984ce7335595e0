"""What stands still outside of consumers: a loop that does not come round, writes nobody acknowledges, an event loop that is blocked."""

import asyncio
import time

import pytest

from kite_common.runtime.alerts import ALERTS
from kite_common.runtime.loop_watch import LoopWatch
from kite_common.runtime.metrics import METRICS, Metrics
from kite_common.runtime.pulse import LATE_AFTER_S, Pulse
from kite_common.stream.publisher import _Acknowledgements
from kite_common.testing.eventually import eventually


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Log:
    def __init__(self, told: list[dict[str, object]]) -> None:
        self.told = told

    def error(self, _event: str, **fields: object) -> None:
        self.told.append(fields)


def is_late(pulse: Pulse) -> str | None:
    return pulse.late


def test_a_loop_that_does_not_come_round_is_named_with_its_age_and_forgotten_when_it_ends() -> None:
    clock, metrics = Clock(), Metrics()
    pulse = Pulse("projection", metrics, partition=3, now_s=clock)
    clock.now_s += LATE_AFTER_S
    assert not is_late(pulse)
    clock.now_s += 1
    assert is_late(pulse) == f"projection has not come round for {LATE_AFTER_S + 1:.0f} s"
    assert metrics.value("kite_loop_age_seconds", loop="projection", partition="3") == LATE_AFTER_S + 1
    pulse.beat()
    assert (is_late(pulse), metrics.value("kite_loop_age_seconds", loop="projection", partition="3")) == (None, 0)
    pulse.end()
    assert "kite_loop_age_seconds{" not in bytes(metrics.exposition().body).decode()


def test_writes_that_no_partition_acknowledges_are_told_and_those_of_one_of_many_are_shown() -> None:
    clock = Clock()
    acknowledgements = _Acknowledgements(clock)

    def problem() -> str | None:
        return acknowledgements.problem

    def try_for(seconds: int, *acknowledging: int) -> None:
        for _ in range(seconds):
            clock.now_s += 1
            for partition in (0, 1):
                acknowledgements.written(partition)
            for partition in acknowledging:
                acknowledgements.acknowledged(partition)

    try_for(30, 0)
    assert problem() is None
    assert (acknowledgements.stalled_s(0), acknowledgements.stalled_s(1)) == (0, 29)
    try_for(30)
    assert problem() == "writes to partition 1 are not acknowledged for 59 s"
    try_for(1, 0, 1)
    assert (problem(), acknowledgements.stalled_s(1)) == (None, 0)


def test_nothing_that_was_ever_acknowledged_is_told_within_30_s_too() -> None:
    clock = Clock()
    acknowledgements = _Acknowledgements(clock)
    for _ in range(30):
        acknowledgements.written(5)
        clock.now_s += 1
    assert acknowledgements.problem == "writes to partition 5 are not acknowledged for 30 s"


async def test_a_blocked_event_loop_is_told_once_with_the_place_that_blocks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr("kite_common.runtime.loop_watch.log", Log(told))
    metrics, stop = Metrics(), asyncio.Event()
    watch = LoopWatch(metrics, blocked_s=0.2)
    running = asyncio.create_task(watch.run(stop))
    await asyncio.sleep(0)
    _compute(1.0)
    await eventually(lambda: metrics.value("kite_event_loop_late_seconds") > 0, what="it has beaten again")
    stop.set()
    await running
    assert metrics.value("kite_event_loop_blocked_total") == 1
    [line] = told
    assert "_compute" in str(line["at"])


def _compute(seconds: float) -> None:
    time.sleep(seconds)


def test_every_alert_is_over_a_metric_that_exists_and_has_a_name_of_its_own() -> None:
    names = {metric.name for metric in METRICS}
    assert [alert.name for alert in ALERTS if alert.metric not in names or alert.metric not in alert.when] == []
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)
    assert all(alert.means and alert.do for alert in ALERTS)


@pytest.mark.parametrize("condition", [
    "kite_component_ready", "kite_consumer_stalled_seconds", "kite_consumer_look_age_seconds", "kite_loop_age_seconds",
    "kite_event_loop_blocked_total", "kite_table_silent_seconds", "kite_publish_stalled_seconds", "kite_billing_stream_time_age_seconds",
])  # fmt: skip
def test_each_kind_of_standing_still_has_an_alert(condition: str) -> None:
    assert condition in {alert.metric for alert in ALERTS}
