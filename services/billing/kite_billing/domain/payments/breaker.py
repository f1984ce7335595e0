"""Stops new payments while the facilitator seems stuck: a value, one per process. Stores nothing, knows no facilitator.

Three unclear settles in a row open it. While it is open one key at a time is settled, once a minute a new one; the first proven payment
closes it.
"""

from dataclasses import dataclass, replace
from typing import Final

_UNCLEAR_IN_A_ROW: Final = 3
# Each may hang until somebody repairs the facilitator; without any, payments that can never be proven would keep everybody out.
_NEW_EVERY_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Breaker:
    """`opened_at`: milliseconds since 1970, None while closed. `trying`: the one key that is being settled while it is open; `new_at`: when
    a new one was settled last while it was open, 0 = never."""

    streak: int = 0
    opened_at: int | None = None
    trying: str | None = None
    new_at: int = 0

    @property
    def is_open(self) -> bool:
        """Whether new payments are turned away."""
        return self.opened_at is not None

    def allows(self, key: str) -> bool:
        """Whether a settle call for this key may be ordered."""
        return not self.is_open or self.trying in (None, key)

    def wants_new(self, now: int) -> bool:
        """Whether it is time to try a new payment, although there are others whose end nobody knows."""
        return self.opened_at is not None and now >= max(self.opened_at, self.new_at) + _NEW_EVERY_MS

    def ordered(self, key: str) -> "Breaker":
        """A settle call was ordered."""
        return replace(self, trying=key) if self.is_open else self

    def tried_new(self, now: int) -> "Breaker":
        """The settle call is a new payment's first."""
        return replace(self, new_at=now) if self.is_open else self

    def unclear(self, key: str, now: int) -> "Breaker":
        """A settle call ended, and neither answer nor chain says what came of it."""
        streak = self.streak + 1
        opened_at = self.opened_at if self.is_open or streak < _UNCLEAR_IN_A_ROW else now
        return Breaker(streak, opened_at, None if self.trying == key else self.trying, self.new_at)

    def clear(self, key: str) -> "Breaker":
        """A settle call ended with an answer that makes sense."""
        return Breaker(self.streak if self.is_open else 0, self.opened_at, None if self.trying == key else self.trying, self.new_at)

    def proven(self) -> "Breaker":
        """A settled payment was found on the chain."""
        return Breaker()

    def dropped(self, key: str) -> "Breaker":
        """Nobody works on the key here any more."""
        return replace(self, trying=None) if self.trying == key else self
