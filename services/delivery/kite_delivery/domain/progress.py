"""How far a partition is handled: the highest offset below which nothing is open. Commits nothing."""

from collections import deque


class Progress:
    """Offsets begin in log order and are finished in any order; the position moves over those finished without a gap.

    Log order may leave offsets out (markers of transactions, records of another kind): only what has begun counts.
    `capacity` bounds the offsets it remembers; what is finished but stands behind an open one counts, too.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._begun: deque[int] = deque()
        self._finished: set[int] = set()
        self._position: int | None = None
        self._last = -1

    @property
    def position(self) -> int | None:
        """The next offset to read after a restart: everything before it is handled. None as long as nothing is."""
        return self._position

    @property
    def full(self) -> bool:
        """Whether nothing more may begin until the oldest open offset is finished."""
        return len(self._begun) >= self._capacity

    @property
    def open(self) -> int:
        """How many offsets have begun and are not finished."""
        return len(self._begun) - len(self._finished)

    def begin(self, offset: int) -> None:
        """Take note of an offset before work on it starts. Raises ValueError unless it is above all before, and there is room."""
        if offset <= self._last:
            raise ValueError(f"offset {offset} after {self._last}")
        if self.full:
            raise ValueError("no room for another offset")
        self._last = offset
        self._begun.append(offset)

    def finish(self, offset: int) -> None:
        """Take note that an offset is handled for good. Raises ValueError if it is not open."""
        if offset in self._finished or offset > self._last or not self._begun or offset < self._begun[0]:
            raise ValueError(f"offset {offset} is not open")
        self._finished.add(offset)
        while self._begun and self._begun[0] in self._finished:
            done = self._begun.popleft()
            self._finished.remove(done)
            self._position = done + 1
