"""Exactly once from inputs to state and outputs, on a real broker, with owners that are killed, frozen and replaced."""

import asyncio
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import SystemClock
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.testing.eventually import eventually
from support import counting
from support.counting import Counting, consumer
from support.log import PARTITIONS, new_topic, read_all, record, running


@dataclass(frozen=True)
class Topics:
    group: str
    input: str
    commands: str
    state: str
    output: str


@pytest.fixture
async def topics(kafka: Kafka) -> Topics:
    state = await new_topic(kafka, "compact")
    return Topics(f"group-{uuid.uuid4().hex[:8]}", await new_topic(kafka), await new_topic(kafka), state, await new_topic(kafka))


async def outputs(kafka: Kafka, topics: Topics) -> list[str]:
    return [value for _, _, _, value in await read_all(kafka, topics.output)]


async def test_inputs_of_several_topics_make_outputs_and_state_and_the_next_owner_goes_on(kafka: Kafka, topics: Topics) -> None:
    events, commands = Publisher(kafka, topics.input, PARTITIONS), Publisher(kafka, topics.commands, PARTITIONS)
    inputs = (topics.input, topics.commands)
    first, second = Counting(topics.output), Counting(topics.output)
    async with running(events, commands):
        async with running(consumer(kafka, topics.group, inputs, topics.state, first)):
            for _ in range(3):
                await events.publish(0, [record("a"), record("b")])
            await commands.publish(0, [record("a")])
            await eventually(lambda: dict(first.states.get(0, {})) == {"a": 4, "b": 3}, what="all is counted")
        async with running(consumer(kafka, topics.group, inputs, topics.state, second)):
            assert dict(second.states[0]) == {"a": 4, "b": 3}
            await commands.publish(0, [record("a")])
            await eventually(lambda: second.states[0]["a"] == 5, what="counting goes on")
    assert Counter(await outputs(kafka, topics)) == Counter(["a 1", "a 2", "a 3", "a 4", "a 5", "b 1", "b 2", "b 3"])
    applied = [position.applied for position in (*first.positions[0], *second.positions[0])]
    assert applied == sorted(applied)
    assert applied[-1] == 8


async def test_stream_time_follows_the_records_and_the_clock_when_nothing_comes(kafka: Kafka, topics: Topics) -> None:
    publisher, clock = Publisher(kafka, topics.input, PARTITIONS), SystemClock()
    processor = Counting(topics.output)
    began = clock.unix_ms()
    async with running(publisher, consumer(kafka, topics.group, (topics.input,), topics.state, processor)):
        await eventually(lambda: processor.positions[0][-1].stream_time_ms >= began, what="an empty topic has a stream time")
        await publisher.publish(0, [record("a")])
        written = clock.unix_ms()
        await eventually(lambda: processor.positions[0][-1].stream_time_ms >= written, what="it moves on after a record")
    assert processor.states == {}
    times = [position.stream_time_ms for position in processor.positions[0]]
    assert times == sorted(times)


async def test_an_owner_whose_state_is_not_whole_does_not_begin(kafka: Kafka, topics: Topics) -> None:
    publisher = Publisher(kafka, topics.input, PARTITIONS)
    async with running(publisher):
        await publisher.publish(0, [record("a")])
        processor = Counting(topics.output)
        async with running(consumer(kafka, topics.group, (topics.input,), topics.state, processor)):
            await eventually(lambda: processor.states[0].get("a") == 1, what="it is counted")
        lost, other, metrics = await new_topic(kafka, "compact"), Counting(topics.output), Metrics()
        member = consumer(kafka, topics.group, (topics.input,), lost, other, metrics=metrics)

        def attempts() -> float:
            return metrics.value("kite_consumer_restarts_total", group=topics.group, reason="StateMismatch")

        async with running(member, ready=False):
            await eventually(lambda: member.readiness().reason == "partition 0 fails: StateMismatch", within_s=20, what="it is not ready")
            await publisher.publish(0, [record("a")])
            before = attempts()
            # The second of them has begun when the record was there.
            await eventually(lambda: attempts() >= before + 2, within_s=30, what="it has tried to begin with a record to read")
            assert 0 not in other.states
    assert await outputs(kafka, topics) == ["a 1"]


class Worker:
    """A process that counts, restarted when told."""

    def __init__(self, kafka: Kafka, topics: Topics, instance: str, log: Path) -> None:
        self._command = (
            sys.executable, counting.__file__, kafka.bootstrap, topics.group, topics.input, topics.state, topics.output, instance,
        )  # fmt: skip
        self._log = log

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)

    async def send(self, number: signal.Signals, *, wait: bool = True) -> None:
        os.kill(self.process.pid, number)
        if wait:
            await self.process.wait()

    def owns_a_partition(self) -> bool:
        """Whether the newest that it has said is that it owns one."""
        said = [line for line in self._log.read_text().splitlines() if "owner_ready" in line or "group.revoked" in line]
        return bool(said) and "owner_ready" in said[-1]


@pytest.fixture
async def workers(kafka: Kafka, topics: Topics, tmp_path: Path) -> AsyncIterator[list[Worker]]:
    """Two that share the partitions; whatever a test does to them, none is left."""
    workers = [Worker(kafka, topics, instance, tmp_path / f"{instance}.log") for instance in ("a", "b")]
    for worker in workers:
        await worker.start()
    yield workers
    for worker in workers:
        if worker.process.returncode is None:
            await worker.send(signal.SIGKILL)


async def test_owners_killed_again_and_again_count_every_input_once(kafka: Kafka, topics: Topics, workers: list[Worker]) -> None:
    publisher = Publisher(kafka, topics.input, PARTITIONS)
    sent: Counter[str] = Counter()
    async with running(publisher):
        for number in range(1200):
            key = f"key-{number % 7}"
            await publisher.publish(number % 7 % PARTITIONS, [record(key)])
            sent[key] += 1
            await asyncio.sleep(0.004)
            if number % 150 == 149:
                victim = workers[number // 150 % 2]
                await victim.send(signal.SIGKILL)
                await victim.start()

        async def all_counted() -> bool:
            return len(await outputs(kafka, topics)) >= 1200

        await eventually(all_counted, within_s=60, every_s=0.5, what="all inputs are counted")
        for worker in workers:
            await worker.send(signal.SIGTERM)
    expected = Counter({f"{key} {number}": 1 for key, count in sent.items() for number in range(1, count + 1)})
    assert Counter(await outputs(kafka, topics)) == expected


async def test_an_owner_frozen_longer_than_its_session_cannot_write_when_it_wakes(
    kafka: Kafka, topics: Topics, workers: list[Worker]
) -> None:
    publisher = Publisher(kafka, topics.input, PARTITIONS)

    async def counted(least: int) -> bool:
        return len(await outputs(kafka, topics)) >= least

    async with running(publisher):
        await eventually(lambda: all(worker.owns_a_partition() for worker in workers), within_s=30, what="each has a partition")
        for _ in range(20):
            await publisher.publish(0, [record("a")])
            await publisher.publish(1, [record("b")])
        await eventually(lambda: counted(40), within_s=30, every_s=0.5, what="both partitions are counted")
        await workers[0].send(signal.SIGSTOP, wait=False)
        for _ in range(20):
            await publisher.publish(0, [record("a")])
            await publisher.publish(1, [record("b")])
        await eventually(lambda: counted(80), within_s=40, every_s=0.5, what="the other one has taken over")
        await workers[0].send(signal.SIGCONT)
        assert workers[0].process.returncode == 1, "a process that was frozen ends itself"
        await publisher.publish(0, [record("a")])
        await eventually(lambda: counted(81), within_s=30, every_s=0.5, what="counting goes on")
        await workers[1].send(signal.SIGTERM)
    assert Counter(await outputs(kafka, topics)) == Counter(
        [f"a {number}" for number in range(1, 42)] + [f"b {number}" for number in range(1, 41)]
    )
