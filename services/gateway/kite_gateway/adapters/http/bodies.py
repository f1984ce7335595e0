"""Bodies that have not arrived in full: so many at once, and who is slow makes room. Reads nothing.

A body is read before the rate limit is asked (wire contract, 2.3), so its sender pays nothing for sending it slowly. Whoever sends whole
bodies is here for a moment only; so it costs nobody anything that the one waited for longest, of whoever has most, is given up first.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Place:
    """One body that is waited for. `given_up`: it made room for another."""

    whose: str
    timeout: asyncio.Timeout = field(repr=False)
    given_up: bool = False


class Bodies:
    """At most `most` are waited for at once. `whose` names a team, or a client that has shown no key."""

    def __init__(self, most: int) -> None:
        self._most, self._waiting = most, 0
        # In the order they began, of each.
        self._of: dict[str, dict[Place, None]] = {}

    @contextmanager
    def place(self, whose: str, timeout: asyncio.Timeout) -> Iterator[Place]:
        """Wait for a body inside; whoever is given up gets the TimeoutError of `timeout`."""
        if self._waiting >= self._most:
            self._give_up_slowest()
        place = Place(whose, timeout)
        self._of.setdefault(whose, {})[place] = None
        self._waiting += 1
        try:
            yield place
        finally:
            self._leave(place)

    def _give_up_slowest(self) -> None:
        most = max(self._of.values(), key=len)
        slowest = next(iter(most))
        self._leave(slowest)
        slowest.given_up = True
        if not slowest.timeout.expired():
            slowest.timeout.reschedule(0)

    def _leave(self, place: Place) -> None:
        own = self._of.get(place.whose, {})
        if place not in own:
            return
        del own[place]
        self._waiting -= 1
        if not own:
            del self._of[place.whose]
