"""The attempt log as a user reads it, redrives of one and of many, the test event; and deliveries as lines of text.

A redrive of many is a walk of pages, newest event first. When it began, and after each page its cursor, is kept in a file of the data
folder, so that the same command, started again, goes on there; what it had ordered without having kept it is on record since the beginning,
and passed over.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import orjson

from kite_cli.failure import CommandFailed
from kite_cli.gateway_client import ApiRefused, gateway_client
from kite_cli.output import printable
from kite_cli.private_file import read_private, write_private
from kite_cli.target import ApiTarget

_PAGE: Final = 100
_VERDICT_EVERY_S: Final = 0.5
_FINAL: Final = ("delivered", "dead", "cancelled", "filtered", "no_endpoint", "blocked")


@dataclass(frozen=True, slots=True)
class Redriven:
    """How far a redrive of many has come. `cursor` is None at the end."""

    redriven: int
    expired: int
    cursor: str | None
    resumed: bool = False


async def read_deliveries(target: ApiTarget, wanted: Mapping[str, str | None], limit: int) -> AsyncIterator[dict[str, Any]]:
    """Deliveries of the attempt log, newest event first, at most `limit`. Raises CommandFailed."""
    async with gateway_client(target) as gateway:
        cursor, left = None, limit
        while left > 0:
            query = _given({**wanted, "cursor": cursor}) | {"limit": min(left, _PAGE)}
            page = await _in_turn(partial(gateway.deliveries, query))
            for one in page["deliveries"]:
                yield one
            left, cursor = left - len(page["deliveries"]), page["next_cursor"]
            if cursor is None:
                return


async def redrive_one(target: ApiTarget, delivery_id: str) -> dict[str, Any]:
    """Order another round of a delivery; the answer. Raises CommandFailed, also if it changes at this moment."""
    async with gateway_client(target) as gateway:
        # Repeats that the client makes by itself must not be another round.
        ordered = await _in_turn(partial(gateway.redrive, quote(delivery_id, safe=""), await gateway.time()))
    if ordered["status"] != "pending":
        raise CommandFailed(
            f"nothing more is ordered: the delivery has changed within this second, it is {printable(ordered['status'])}",
            "See `kitectl deliveries show`; repeat the command if you want another round.",
        )
    return ordered


async def redrive_many(
    target: ApiTarget, wanted: Mapping[str, str | None], rate_per_s: int, kept: Path, *, afresh: bool = False
) -> AsyncIterator[Redriven]:
    """Order another round of all that is wanted, at most so many a second (0: no limit); one step a page, the last without a cursor.

    Without `until` it ends with what began before now. Goes on where an earlier run with the same wishes stopped. Raises CommandFailed.
    """
    file = kept / f"redrive-{_digest(target, wanted)}.json"
    began = None if afresh else read_private(file)
    loop = asyncio.get_running_loop()
    async with gateway_client(target) as gateway:
        state: dict[str, Any] = began or _begun(wanted, await gateway.time())
        # Before anything is ordered: what is on record since then was delivered for this walk, and is not delivered for it again.
        write_private(file, state)
        while True:
            query = _given({**wanted, **{name: state.get(name) for name in ("until", "updated_before", "cursor")}}) | {"limit": _PAGE}
            started_s = loop.time()
            page = await _in_turn(partial(gateway.redrive_page, query))
            state |= {
                "redriven": state["redriven"] + page["redriven"], "expired": state["expired"] + page["expired"],
                "cursor": page["next_cursor"],
            }  # fmt: skip
            step = Redriven(state["redriven"], state["expired"], state["cursor"], began is not None)
            if step.cursor is None:
                file.unlink(missing_ok=True)
                yield step
                return
            write_private(file, state)
            yield step
            if rate_per_s:
                await asyncio.sleep(max(0.0, page["redriven"] / rate_per_s - (loop.time() - started_s)))


def _begun(wanted: Mapping[str, str | None], now: str) -> dict[str, Any]:
    return {"until": wanted.get("until") or now, "updated_before": now, "redriven": 0, "expired": 0}


async def send_test(target: ApiTarget, within_s: float) -> dict[str, Any]:
    """Queue a test event and wait for its verdict: the delivery. Raises CommandFailed if there is none within the time."""
    async with gateway_client(target) as gateway:
        queued = await _in_turn(gateway.test_webhook)
        deadline_s = asyncio.get_running_loop().time() + within_s
        while asyncio.get_running_loop().time() < deadline_s:
            found = (await _in_turn(partial(gateway.deliveries, {"event_id": queued["event_id"]})))["deliveries"]
            if found and found[0]["status"] in _FINAL:
                delivery: dict[str, Any] = found[0]
                return delivery
            await asyncio.sleep(_VERDICT_EVERY_S)
    raise CommandFailed(
        f"there is no verdict on the test event within {within_s:g} s",
        f"Look later: kitectl deliveries show {printable(queued['event_id'])}",
    )


def delivery_line(one: Mapping[str, Any]) -> str:
    """A delivery for people, on one line whatever is in it."""
    last = one["attempts"][-1] if one["attempts"] else None
    came = "" if last is None else f"  {last['response_status'] or last['error']}"
    why = f"  {one['reason']}" if one["reason"] else ""
    following = f"  next {one['next_attempt_at']}" if one["next_attempt_at"] else ""
    return printable(
        f"{one['created_at']}  {one['id']}  {one['status']:<11}  {one['attempt_count']:>2} attempts{came}{why}{following}"
        f"  {one['event_type']}"
    )


def attempt_line(one: Mapping[str, Any]) -> str:
    """An attempt for people."""
    told = one["response_excerpt"] or one["error"] or ""
    return printable(
        f"  {one['attempt']:>3}  {one['started_at']}  {one['duration_ms']:>6} ms  {one['response_status'] or '-':>3}  {told}"
    ).rstrip()


async def _in_turn(call: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """The answer, however often the team's rate limit says to wait."""
    while True:
        try:
            return await call()
        except ApiRefused as error:
            if error.error != "rate_limit_exceeded" or error.retry_after_s is None:
                raise
            await asyncio.sleep(error.retry_after_s)


def _given(wanted: Mapping[str, str | None]) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if value is not None}


def _digest(target: ApiTarget, wanted: Mapping[str, str | None]) -> str:
    """Names the walk: equal wishes at the same place are the same walk."""
    named = orjson.dumps([target.url, target.team.team_id, sorted(_given(wanted).items())])
    return hashlib.sha256(named).hexdigest()[:16]
