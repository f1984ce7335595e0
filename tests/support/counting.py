"""A processor that counts, and a process that runs it: each input "<key>" makes one output "<key> <its number among that key's inputs>"."""

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence

from kite_common.events.codec import Record
from kite_common.runtime.metrics import Metrics
from kite_common.stream.group import GroupConsumer, Input
from kite_common.stream.kafka import Kafka
from kite_common.stream.transaction import Position, Step, TransactionalOwner


class Counting:
    """State: how many inputs a key had."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.positions: dict[int, list[Position]] = {}
        self.states: dict[int, Mapping[str, int]] = {}

    def decode_state(self, record: Input) -> tuple[str, int]:
        return (record.key or b"").decode(), int(record.value or b"0")

    def encode_state(self, key: str, state: int) -> Record:
        return Record(key.encode(), str(state).encode(), ())

    def step(self, partition: int, inputs: Sequence[Input], states: Mapping[str, int], applied: int) -> Step[int]:
        changed: dict[str, int] = {}
        records: list[tuple[str, Record]] = []
        for one in inputs:
            key = (one.key or b"").decode()
            changed[key] = changed.get(key, states.get(key, 0)) + 1
            records.append((self.output, Record(key.encode(), f"{key} {changed[key]}".encode(), ())))
        return Step(changed, records)

    def restored(self, partition: int, states: Mapping[str, int], position: Position) -> None:
        self.states[partition] = states
        self.positions.setdefault(partition, []).append(position)

    def committed(self, partition: int, step: Step[int], position: Position) -> None:
        self.positions[partition].append(position)

    def released(self, partition: int) -> None:
        self.states.pop(partition, None)


def consumer(
    kafka: Kafka, group: str, topics: Sequence[str], state: str, counting: Counting, instance: str = "a", metrics: Metrics | None = None
) -> GroupConsumer:
    """A group member that counts."""
    return GroupConsumer(kafka, group, topics, instance, TransactionalOwner(kafka, group, topics, state, counting), metrics)


async def main(bootstrap: str, group: str, topic: str, state: str, output: str, instance: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await consumer(Kafka(bootstrap), group, [topic], state, Counting(output), instance).run(stop)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
