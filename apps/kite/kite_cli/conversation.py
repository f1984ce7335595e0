"""Messages and events as a user of the API sends and reads them, and as one line of text each."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kite_cli.failure import CommandFailed
from kite_cli.gateway_client import ApiRefused, GatewayClient, gateway_client
from kite_cli.output import printable, usdc
from kite_cli.target import ApiTarget
from kite_common.events.agent_message import TYPE
from kite_common.ids import uuid7
from kite_common.money import UNLIMITED
from kite_common.runtime.system import SystemClock, random_bits

_PAGE: Final = 1_000
_FOLLOW_EVERY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Draft:
    """A message as it was typed."""

    from_: str
    to: str
    body: str
    thread_id: str | None = None
    reply_to_id: str | None = None

    def to_json(self) -> dict[str, str]:
        """The request body; what was not given is left out."""
        fields = {"from": self.from_, "to": self.to, "body": self.body, "thread_id": self.thread_id, "reply_to_id": self.reply_to_id}
        return {name: value for name, value in fields.items() if value is not None}


async def send_message(target: ApiTarget, draft: Draft, idempotency_key: str | None) -> dict[str, Any]:
    """Send a message; the gateway's answer. Raises CommandFailed."""
    key = idempotency_key or uuid7(SystemClock().unix_ms(), random_bits(74))
    async with gateway_client(target) as gateway:
        return await gateway.send(draft.to_json(), key)


async def read_events(
    target: ApiTarget, since: str | None, limit: int | None, *, follow: bool, filters: Mapping[str, Sequence[str]] | None = None
) -> AsyncIterator[tuple[dict[str, Any], str | None]]:
    """Rows of the archive in order, those that pass the filters, at most `limit` of them; with `follow` for ever. Raises CommandFailed.

    Beside the last row of a read that had to stop stands the cursor to go on with, beside all others None.
    """
    async with gateway_client(target) as gateway:
        left = limit
        while True:
            page = await _page(gateway, since, _PAGE if left is None else min(left, _PAGE), filters)
            rows, since = page["events"], page["next_cursor"] or since
            left = None if left is None else left - len(rows)
            for number, row in enumerate(rows, start=1):
                is_cut = left == 0 and number == len(rows) and page["has_more"]
                yield row, since if is_cut else None
            if left == 0 or (not page["has_more"] and not follow):
                return
            if not page["has_more"]:
                await asyncio.sleep(_FOLLOW_EVERY_S)


def sent_line(answer: Mapping[str, Any]) -> str:
    """An accepted message for people."""
    usage = answer["usage"]
    limit = "unlimited" if usage["events_limit"] >= UNLIMITED else f"{usage['events_limit']:,}"
    return (
        f"accepted  {answer['id']}  {printable(answer['from'])} -> {printable(answer['to'])}  "
        f"({usdc(usage['amount_charged_atomic'])}, event {usage['events_used']:,} of {limit})"
    )


def event_line(row: Mapping[str, Any]) -> str:
    """An archived event for people, on one line whatever is in it."""
    event = row["event"]
    told = _told(event["data"]) if event.get("type") == TYPE else f"{event.get('type')}  {_compact(event.get('data'))}"
    return printable(f"{row['created_at']}  {row['event_id']}  {told}")


def more_line(cursor: str) -> str:
    """Where to go on."""
    return printable(f'there are more: kitectl events --since "{cursor}"')


async def _page(
    gateway: GatewayClient, since: str | None, limit: int, filters: Mapping[str, Sequence[str]] | None
) -> dict[str, Any]:
    while True:
        try:
            return await gateway.events(since, limit, filters)
        except ApiRefused as error:
            if error.error != "rate_limit_exceeded" or error.retry_after_s is None:
                raise
            await asyncio.sleep(error.retry_after_s)


def _told(data: Any) -> str:
    if not isinstance(data, Mapping):
        raise CommandFailed("an event of the archive cannot be read", "Look at it with --json.")
    return f"{data.get('from')} -> {data.get('to')}: {data.get('body')}"


def _compact(data: object) -> str:
    return orjson.dumps(data).decode()
