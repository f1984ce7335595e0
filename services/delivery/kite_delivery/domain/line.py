"""Who waits for one endpoint, and who is next: the longest waiting whose order nobody else of is under way. Starts nothing.

Deliveries with the same order key (first attempts to one recipient) go one after the other: two POSTs at once may arrive in either
order. Those of different keys, and those without one, do not wait for each other.
"""

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class Line(Generic[T]):
    """A waiting line. Of each key at most one is under way or free to start; the others stand behind it, in the order they came."""

    def __init__(self) -> None:
        self._numbers = count()
        self._free: list[tuple[int, float, T, str | None]] = []
        self._behind: dict[str, deque[tuple[int, float, T, str | None]]] = {}

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nothing with a key is under way."""
        return not self._free and not self._behind

    def has_turn(self, order: str | None) -> bool:
        """Whether one that comes now would be next: nobody who could start waits, and nobody of its key is before it."""
        return not self._free and (order is None or order not in self._behind)

    def begin(self, order: str | None) -> None:
        """One that had its turn is under way without having waited."""
        if order is not None:
            self._behind[order] = deque()

    def add(self, one: T, order: str | None, since_s: float) -> None:
        """It waits from `since_s` on, which never goes back."""
        entry = (next(self._numbers), since_s, one, order)
        if order is not None and order in self._behind:
            self._behind[order].append(entry)
            return
        self.begin(order)
        heapq.heappush(self._free, entry)

    def first(self) -> T | None:
        """Who is next; None if everybody waits for one of the same key, or nobody waits."""
        return self._free[0][2] if self._free else None

    def take(self) -> T:
        """The next one starts. Raises IndexError if there is none."""
        return heapq.heappop(self._free)[2]

    def done(self, order: str | None) -> None:
        """One that was under way is over: the next of its key is free to start."""
        if order is None:
            return
        if behind := self._behind[order]:
            heapq.heappush(self._free, behind.popleft())
        else:
            del self._behind[order]

    def oldest_s(self) -> float | None:
        """Since when the longest waiting one waits."""
        firsts = [behind[0][1] for behind in self._behind.values() if behind]
        return min([*firsts, self._free[0][1]] if self._free else firsts, default=None)

    def remove(self, is_meant: Callable[[T, float], bool]) -> list[T]:
        """Take out all that are meant, in the order they came. `is_meant` gets one of them and since when it waits."""
        entries = sorted([*self._free, *(entry for behind in self._behind.values() for entry in behind)], key=lambda entry: entry[0])
        free_orders = {order for _, _, _, order in self._free}
        under_way = [order for order in self._behind if order not in free_orders]
        self._free, self._behind, removed = [], {order: deque() for order in under_way}, []
        for entry in entries:
            _, since_s, one, order = entry
            if is_meant(one, since_s):
                removed.append(one)
            elif order is not None and order in self._behind:
                self._behind[order].append(entry)
            else:
                self.begin(order)
                heapq.heappush(self._free, entry)
        return removed
