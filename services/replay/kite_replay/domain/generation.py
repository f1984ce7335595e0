"""Which of several archives is read and written, while one is made anew beside another. Reads no clock, looks nothing up.

An archive that was rebuilt takes over in two steps. `closing`: every process lets go of the old one and waits; meanwhile the new one gets
everything that the old one may have served. `opened`: they go on with the new one. A rebuild that dies in between is given up after a
while, and they go on with the old one, which lacks nothing.
"""

from dataclasses import dataclass
from typing import Final

# Only within the first may a rebuild open what it has closed; after the second everybody goes on with what was before. The time between
# is for clocks that differ and for a process that stood still.
OPENS_WITHIN_MS: Final = 60_000
GIVEN_UP_AFTER_MS: Final = 120_000


@dataclass(frozen=True, slots=True)
class Generation:
    """The last step of the last change: to generation `number`, from `before`, at `at_ms`. Number 0 is where the address points."""

    number: int
    before: int
    opened: bool
    at_ms: int


def serving(last: Generation | None, now_ms: int) -> int | None:
    """The generation to read and write now; None: to wait, one is being closed."""
    if last is None:
        return 0
    if last.opened:
        return last.number
    return None if now_ms < last.at_ms + GIVEN_UP_AFTER_MS else last.before


def next_number(last: Generation | None) -> int:
    """The generation that a rebuild makes: one that was begun and never opened goes on."""
    if last is None:
        return 1
    return last.number + 1 if last.opened else last.number


def closing(last: Generation | None, now_ms: int) -> Generation:
    """The first step to the next generation: behind the last one, whatever the clock says, or nobody would see it."""
    before = 0 if last is None else last.number if last.opened else last.before
    return Generation(next_number(last), before, opened=False, at_ms=now_ms if last is None else max(now_ms, last.at_ms + 1))


def opening(closed: Generation, now_ms: int) -> Generation | None:
    """The second step; None if it comes too late: others may have given it up."""
    if now_ms >= closed.at_ms + OPENS_WITHIN_MS:
        return None
    return Generation(closed.number, closed.before, opened=True, at_ms=max(now_ms, closed.at_ms + 1))
