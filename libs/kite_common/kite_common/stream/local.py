"""What happens inside a process and stands in no log: answers of other parts, timers. Queues by partition; decides nothing.

A fact is lost with its process or its partition, so nothing may depend on one: whoever takes the partition over asks again.
"""

import asyncio
from collections import deque


class LocalQueue:
    """The facts of one partition while it is owned. `filled` is set while any wait."""

    def __init__(self) -> None:
        self._waiting: deque[object] = deque()
        self.filled = asyncio.Event()

    def put(self, fact: object) -> None:
        """Add a fact; does not block."""
        self._waiting.append(fact)
        self.filled.set()

    def take(self, most: int) -> tuple[object, ...]:
        """The oldest facts, at most so many, in order; they are not in the queue any more."""
        taken = tuple(self._waiting.popleft() for _ in range(min(most, len(self._waiting))))
        if not self._waiting:
            self.filled.clear()
        return taken


class LocalFacts:
    """The queues of a process. A partition has one from `open` to `close`; facts for others are dropped."""

    def __init__(self) -> None:
        self._queues: dict[int, LocalQueue] = {}

    def open(self, partition: int) -> LocalQueue:
        """A new queue; what waited in an old one is forgotten."""
        queue = self._queues[partition] = LocalQueue()
        return queue

    def close(self, partition: int) -> None:
        """The partition is not owned any more."""
        self._queues.pop(partition, None)

    def put(self, partition: int, fact: object) -> bool:
        """Hand a fact to the owner of the partition; False, and nothing happens, if that is not this process."""
        queue = self._queues.get(partition)
        if queue is not None:
            queue.put(fact)
        return queue is not None
