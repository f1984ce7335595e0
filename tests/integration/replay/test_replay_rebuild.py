"""The archive is made anew while messages come and readers walk: whatever dies on the way, every page stays what it was."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from kite_replay.adapters.rebuild import CLOSED, FILLED, OPENING
from support.kite import Kite, Team, kite, send
from support.kitectl import Ended, Kitectl

_KILLED = -9


class Reader:
    """Follows a team's events by cursor, as a client that repeats what was answered 503."""

    def __init__(self, client: httpx.AsyncClient, team: Team) -> None:
        self._client, self._team = client, team
        self.rows: list[dict[str, Any]] = []
        # The cursor each row was found behind.
        self.cursors: list[str | None] = [None]
        self.statuses: Counter[int] = Counter()

    async def look(self) -> bool:
        """Read one page; whether there was anything new."""
        since = self.cursors[-1]
        query: dict[str, str | int] = {"team_id": self._team.id, "limit": 50}
        if since is not None:
            query["since"] = since
        try:
            answer = await self._client.get("/api/v1/events", params=query, headers=self._team.headers)
        except httpx.TransportError:
            return False
        self.statuses[answer.status_code] += 1
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code != 200 or not answer.json()["events"]:
            return False
        self.rows += answer.json()["events"]
        self.cursors.append(answer.json()["next_cursor"])
        return True

    async def follow(self) -> None:
        while True:
            if not await self.look():
                await asyncio.sleep(0.1)

    async def until(self, ids: set[str]) -> None:
        """Read on until all of these are found."""
        while not ids <= {row["event_id"] for row in self.rows}:
            if not await self.look():
                await asyncio.sleep(0.1)


@pytest.mark.timeout(400)
async def test_a_rebuild_that_dies_at_every_step_changes_nothing_that_readers_see(tmp_path: Path) -> None:
    async with (
        kite(tmp_path / "rebuilt", ("gateway", "billing", "replay")) as running,
        httpx.AsyncClient(base_url=running.url, timeout=30) as client,
    ):
        [team] = await running.teams(1)
        sent: set[str] = set()
        await _send(client, team, sent, 60, "before")
        reader = Reader(client, team)
        async with asyncio.timeout(60):
            await reader.until(sent)
        kitectl, done = Kitectl(tmp_path / "rebuilt"), asyncio.Event()
        sending = asyncio.create_task(_keep_sending(client, team, sent, done))
        following = asyncio.create_task(reader.follow())
        for point in (FILLED, CLOSED, OPENING):
            assert (await kitectl("rebuild", "archive", KITE_FAULT_POINT=point)).code == _KILLED
        rebuilt = await kitectl("rebuild", "archive", "--json")
        done.set()
        await sending
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        _say(rebuilt)
        async with asyncio.timeout(90):
            await reader.until(sent)
        fresh = Reader(client, team)
        async with asyncio.timeout(60):
            await fresh.until(sent)
        # The same rows with the same times in the same order, each once, although the one has read from two archives.
        assert fresh.rows == reader.rows
        assert len(reader.rows) == len(sent) > 60
        await _old_cursors_stay(client, team, reader)
        assert await _counted(running) == dict.fromkeys(sent, 1)


def _say(rebuilt: Ended) -> None:
    assert rebuilt.code == 0, rebuilt.err
    assert rebuilt.document["generation"] == 1
    assert rebuilt.document["old"].endswith("clickhouse")


async def _send(client: httpx.AsyncClient, team: Team, sent: set[str], count: int, name: str) -> None:
    ids = await asyncio.gather(*(send(client, team, f"{name} {number}", key=f"{name}-{number}") for number in range(count)))
    sent.update(one for one in ids if one is not None)


async def _keep_sending(client: httpx.AsyncClient, team: Team, sent: set[str], done: asyncio.Event) -> None:
    number = 0
    while not done.is_set():
        number += 1
        await _send(client, team, sent, 3, f"while-{number}")
        await asyncio.sleep(0.3)


async def _old_cursors_stay(client: httpx.AsyncClient, team: Team, reader: Reader) -> None:
    """What stood behind each cursor that was handed out stands there still."""
    for cursor in reader.cursors[1:-1]:
        answer = await client.get(
            "/api/v1/events", params={"team_id": team.id, "limit": 1, "since": cursor or ""}, headers=team.headers
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        [row] = answer.json()["events"]
        place = next(index for index, one in enumerate(reader.rows) if f"{one['created_at']}:{one['event_id']}" == cursor)
        assert row == reader.rows[place + 1]


async def _counted(running: Kite) -> dict[str, int]:
    return dict(await running.archive_rows())
