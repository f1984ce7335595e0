"""Readers that walk GET /events by its cursors while others write, and remember every row and what each page cost."""

import time
from typing import Any, Final

from kite_cli.chaos.load.caller import Caller, Team
from kite_cli.chaos.memory import Memory, Walk

EVENTS: Final = "/api/v1/events"
_PAGE: Final = 100


class Reader:
    """One reader of one team."""

    def __init__(self, team: Team, caller: Caller, memory: Memory) -> None:
        self._team, self._caller, self._memory = team, caller, memory
        self._cursor: str | None = None
        self._walk = Walk(team.id)
        memory.walks.append(self._walk)

    async def read(self) -> None:
        """Read the next page."""
        page = await page_of(self._caller, self._team, self._cursor, _PAGE)
        now = time.monotonic()
        rows = rows_of(page)
        for event_id, _, _ in rows:
            self._memory.read_s.setdefault(event_id, now)
        self._walk.rows += rows
        self._walk.charged_atomic += int(page["amount_charged_atomic"])
        self._cursor = page["next_cursor"]


async def page_of(caller: Caller, team: Team, cursor: str | None, limit: int) -> dict[str, Any]:
    """A page after a cursor. Raises GaveUp."""
    query = {"limit": limit} | ({"since": cursor} if cursor else {})
    body: dict[str, Any] = (await caller.ask("GET", EVENTS, team=team, query=query)).body
    return body


async def walked(caller: Caller, team: Team) -> list[tuple[str, int, str]]:
    """Everything, from the beginning. Raises GaveUp."""
    rows: list[tuple[str, int, str]] = []
    cursor: str | None = None
    while True:
        page = await page_of(caller, team, cursor, 1_000)
        rows += rows_of(page)
        cursor = page["next_cursor"]
        if not page["has_more"]:
            return rows


def rows_of(page: dict[str, Any]) -> list[tuple[str, int, str]]:
    """(event id, kiteseq, created_at) of each row."""
    return [(str(row["event_id"]), int(row["event"]["kiteseq"]), str(row["created_at"])) for row in page["events"]]
