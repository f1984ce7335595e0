"""Whether ClickHouse answers, and has all its parts: what readiness and the metric say."""

import asyncio

import pytest

from kite_common.errors import ApiError, KiteError, Unavailable
from kite_common.runtime.metrics import Metrics
from kite_common.testing.eventually import eventually
from kite_replay.adapters.clickhouse.watch import ClickHouseWatch

Answer = int | KiteError


class Asked:
    """Gives these answers, the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.count = 0

    async def __call__(self) -> int:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.count += 1
        if isinstance(answer, KiteError):
            raise answer
        return answer


async def watched(ask: Asked, metrics: Metrics, *, late_s: float = 60.0) -> ClickHouseWatch:
    """A watch that has had its answers."""
    watch, stop, wanted = ClickHouseWatch(ask, metrics, every_s=0.001, late_s=late_s), asyncio.Event(), len(ask.answers)
    running = asyncio.create_task(watch.run(stop))
    await eventually(lambda: ask.count >= wanted, what="all answers")
    stop.set()
    await running
    return watch


@pytest.mark.parametrize(
    ("answers", "is_ready"),
    [
        ((0,), True),
        ((Unavailable("away"),), False),
        ((Unavailable("away"), 0), True),
        ((0, Unavailable("away")), False),
        ((0, ApiError("overloaded")), True),
    ],
)
async def test_it_is_ready_while_it_answers(answers: tuple[Answer, ...], is_ready: bool) -> None:
    assert (await watched(Asked(*answers), Metrics())).readiness().ready is is_ready


async def test_one_that_says_nothing_at_all_is_not_ready() -> None:
    watch = await watched(Asked(ApiError("overloaded")), Metrics(), late_s=0.0)
    assert "does not answer" in watch.readiness().reason


async def test_broken_parts_are_told_of_until_they_are_gone() -> None:
    metrics = Metrics()
    watch = await watched(Asked(0, 2), metrics)
    assert metrics.value("kite_archive_broken_parts") == 2
    assert watch.readiness().ready, "what is there is served"
    await watched(Asked(2, 0), metrics)
    assert metrics.value("kite_archive_broken_parts") == 0
