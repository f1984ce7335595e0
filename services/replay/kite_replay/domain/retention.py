"""Which part of the archive is promised to be readable. `now` is an argument.

Three edges, oldest last, so that none can be crossed between an answer and its use:

    edge             now - retention: what `oldest_cursor` names; everything younger is there
    refusal          edge - GRACE_MS: cursors before it are expired; between the two they still work, and nothing is missing behind them
    deletion         edge - KEPT_LONGER_DAYS: ClickHouse drops rows only here
"""

from dataclasses import dataclass
from typing import Final

_DAY_MS: Final = 86_400_000
# How long an `oldest_cursor` stays usable after it was handed out; also covers clocks that differ between machines.
GRACE_MS: Final = 3_600_000
KEPT_LONGER_DAYS: Final = 1


@dataclass(frozen=True, slots=True)
class Retention:
    """How many whole days events stay readable."""

    days: int

    def edge_ms(self, now_ms: int) -> int:
        """Start of the retained time: the timestamp a client whose cursor has expired goes on from."""
        return now_ms - self.days * _DAY_MS

    def oldest_readable_ms(self, now_ms: int) -> int:
        """Cursors before this are expired, and no older row is shown."""
        return self.edge_ms(now_ms) - GRACE_MS

    def kept_days(self) -> int:
        """After how many days the archive may delete a row."""
        return self.days + KEPT_LONGER_DAYS
