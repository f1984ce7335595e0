"""Cursors of GET /events: `timestamp[:event_id]`, parsed from the right (wire contract, 3.1). No look-ups, no clock.

That a cursor can't be read is told apart from one that is too old: the first raises here, the second is `retention.py`'s.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from kite_common.clock import from_unix_ms, to_unix_ms
from kite_common.errors import Malformed
from kite_common.ids import EventId, is_uuid

# Clients send what they read ("2026-04-27 12:34:56.789"), or RFC 3339. A space arrives as itself, as `%20` or as `+`: query decoding
# turns those into spaces, and a literal plus sign (sent as %2B by careful encoders of an already encoded cursor) is taken as one too.
_TIMESTAMP: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T+]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{0,9}))?Z?"
)
# No cursor is longer: 29 characters of timestamp, `Z`, colon, UUID. Longer texts are refused before any pattern runs.
_MAX_LENGTH: Final = 29 + 1 + 1 + 36


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a team's stream. With an event id: strictly after that event. Without: at or after the time.

    `created_ms` is milliseconds since 1970 UTC, from year 1 to 9999.
    """

    created_ms: int
    event_id: EventId | None = None


def parse(text: str) -> Cursor:
    """The cursor a client sent (already percent-decoded). Fractions are cut to milliseconds, ids come out in lower case.

    Raises Malformed for every other text, and nothing else.
    """
    if len(text) > _MAX_LENGTH:
        raise Malformed("not a cursor")
    timestamp, separator, tail = text.rpartition(":")
    if separator and is_uuid(tail):
        return Cursor(_unix_ms(timestamp), EventId(tail.lower()))
    return Cursor(_unix_ms(text))


def encode(cursor: Cursor) -> str:
    """The text `parse` reads as the same cursor, as clients build it themselves from a row."""
    at = timestamp(cursor.created_ms)
    return at if cursor.event_id is None else f"{at}:{cursor.event_id}"


def timestamp(created_ms: int) -> str:
    """`YYYY-MM-DD HH:MM:SS.mmm`, UTC: how rows of GET /events write `created_at` (wire contract, 2.2)."""
    # isoformat, not strftime: the year keeps four digits on every platform.
    return from_unix_ms(created_ms).replace(tzinfo=None).isoformat(" ", "milliseconds")


def _unix_ms(text: str) -> int:
    matched = _TIMESTAMP.fullmatch(text)
    if matched is None:
        raise Malformed("not a cursor")
    *fields, fraction = matched.groups()
    milliseconds = int(f"{fraction or '':0<3.3}")
    year, month, day, hour, minute, second = map(int, fields)
    try:
        at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise Malformed("not a cursor: no such time") from None
    return to_unix_ms(at) + milliseconds
