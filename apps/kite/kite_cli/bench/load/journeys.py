"""From a message's 202, as its sender sees it, to its webhook or to its page of GET /events. Decides nothing about either."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from kite_cli.bench.load.client import Connection, Pool, ask, now_s
from kite_cli.bench.load.job import Job, Outcome, Sender
from kite_cli.bench.load.loops import OpenLoop, Tally, outcome_of
from kite_cli.bench.load.receiver import Arrivals
from kite_cli.bench.load.requests import messages, request
from kite_cli.bench.load.window import Say, measuring
from kite_cli.local.readiness import until
from kite_common.crypto import new_webhook_secret
from kite_common.runtime.system import random_bytes

_CONFIG_PATH = "/api/v1/webhook-config"
_EVENTS_PATH = "/api/v1/events"
_LOOK_S = 0.02


class RunFailed(Exception):
    """The run cannot be made: what was asked of Kite before or beside it was refused."""


@dataclass(eq=False, slots=True)
class Accepted:
    """When the 202 of each counted message was seen, by event id. `counts(i)` says whether message number i counts."""

    counts: Callable[[int], bool]
    at_s: dict[str, float] = field(default_factory=dict)

    def answered(self, number: int, status: int, body: bytes) -> None:
        """An answer of the loop."""
        if status == 202 and self.counts(number):
            self.at_s[orjson.loads(body)["id"]] = now_s()


async def delivered(job: Job, pool: Pool, say: Say) -> Outcome:
    """202 to the arrival of the webhook's POST. Sets the webhook of every team, and takes it away again. Raises RunFailed."""
    arrivals = Arrivals()
    async with arrivals.listening() as url:
        for sender in job.senders:
            await _told(pool, request("PUT", _CONFIG_PATH, sender, {"url": url, "secret": new_webhook_secret(random_bytes(32))}))
        try:
            return await _send_and_watch(job, pool, say, arrivals.at_s, every=1)
        finally:
            for sender in job.senders:
                await _told(pool, request("DELETE", _CONFIG_PATH, sender))


async def replayable(job: Job, pool: Pool, say: Say) -> Outcome:
    """202 to the answer of GET /events that has the event, for the first team's messages: one reader asks for its news without a pause."""
    seen_s: dict[str, float] = {}
    reading = asyncio.create_task(_read(pool.idle.popleft(), job.senders[0], seen_s))
    try:
        return await _send_and_watch(job, pool, say, seen_s, every=len(job.senders))
    finally:
        reading.cancel()
        done, _ = await asyncio.wait({reading})
        for one in done:
            if not one.cancelled():
                one.result()


async def _send_and_watch(job: Job, pool: Pool, say: Say, seen_s: Mapping[str, float], every: int) -> Outcome:
    """Send, and wait until every `every`th accepted message of the window is in `seen_s`."""
    async with measuring(job, say) as (due_s, tally):
        accepted = Accepted(lambda number: number % every == 0 and tally.window.holds(due_s[number]))
        await OpenLoop(pool, messages(job.senders, job.body_bytes), due_s, tally, accepted.answered).run(job.patience_s)
        await _all_seen(accepted.at_s, seen_s, job.patience_s)
        return _outcome(accepted.at_s, seen_s, tally)


async def _read(connection: Connection, reader: Sender, seen_s: dict[str, float]) -> None:
    cursor: str | None = None
    while True:
        news = {"limit": 1000} | ({} if cursor is None else {"since": cursor})
        status, body = await ask(connection, request("GET", _EVENTS_PATH, reader, **news))
        if status != 200:
            raise RunFailed(f"GET {_EVENTS_PATH} answers {status}")
        now, page = now_s(), orjson.loads(body)
        for row in page["events"]:
            seen_s.setdefault(row["event_id"], now)
        cursor = _cursor_after(page, cursor)


def _cursor_after(page: Mapping[str, Any], before: str | None) -> str | None:
    """An empty page has no cursor: then the reader stays where it is."""
    found: str | None = page["next_cursor"]
    return before if found is None else found


async def _told(pool: Pool, call: bytes) -> None:
    connection = pool.idle.popleft()
    status, body = await ask(connection, call)
    pool.give_back(connection)
    if status not in {200, 204}:
        raise RunFailed(f"{call.split(b'?', 1)[0].decode()} answers {status}: {body[:200].decode('utf-8', 'replace')}")


async def _all_seen(accepted: Mapping[str, float], seen: Mapping[str, float], patience_s: float) -> None:
    async def all_seen() -> bool:
        return accepted.keys() <= seen.keys()

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await until(all_seen, _LOOK_S)


def _outcome(accepted: Mapping[str, float], seen: Mapping[str, float], tally: Tally) -> Outcome:
    """Latencies may be below zero: an event is in the log, where everybody may read it, before its 202 has reached the sender."""
    values_ms = [(seen[event_id] - at_s) * 1000 for event_id, at_s in accepted.items() if event_id in seen]
    per_s = tally.outcome().per_s
    return outcome_of(values_ms, tally.statuses, per_s, tally.lateness_ms, unseen=len(accepted) - len(values_ms))
