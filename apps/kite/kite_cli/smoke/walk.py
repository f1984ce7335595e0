"""Walks one message through a running Kite and looks for it at each stage, side by side. Judges nothing: journey.py does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from aiokafka.errors import KafkaError

from kite_cli.failure import CommandFailed
from kite_cli.gateway_client import GatewayClient, gateway_client
from kite_cli.output import usdc
from kite_cli.smoke.journey import Journey, Stage
from kite_cli.smoke.ledger_tail import LedgerTail, ledger_tail
from kite_cli.smoke.receiver import Receiver, receiving
from kite_cli.target import ApiTarget, LogTarget
from kite_common.clock import rfc3339, to_unix_ms
from kite_common.crypto import new_webhook_secret, verify_standard_webhook
from kite_common.ids import uuid7
from kite_common.runtime.system import SystemClock, random_bits, random_bytes

_SEEN_WITHIN_S: Final = 20.0
# The plan starter allows 300 requests a minute: this leaves room for a look that lasts to its end.
_POLL_S: Final = 0.1
_PAGE: Final = 100
# The log's time is the broker's, the answer's the gateway's: clocks may differ by this much.
_CLOCKS_DIFFER: Final = timedelta(seconds=5)


async def walk(api: ApiTarget, log: LogTarget) -> Journey:
    """Send one message as this team and wait for it at each stage. Raises CommandFailed if it is not even accepted."""
    secret = new_webhook_secret(random_bytes(32))
    async with (
        receiving() as receiver,
        ledger_tail(log, api.team.team_id) as ledger,
        gateway_client(api) as gateway,
        _configured(gateway, receiver, secret),
    ):
        return await _send_and_look(api, gateway, receiver, ledger, secret)


@asynccontextmanager
async def _configured(gateway: GatewayClient, receiver: Receiver, secret: str) -> AsyncIterator[None]:
    """The team's webhook is the receiver while inside. Raises CommandFailed for a team that has one: its secret could not be put back."""
    former = await gateway.webhook_config()
    if former is not None and not str(former["url"]).endswith("/kite-smoke"):
        raise CommandFailed(
            "this team has a webhook config, which smoke would replace and could not put back (no answer tells its secret)",
            "Let smoke have a team of its own: `kitectl team create`, then KITE_TEAM_ID and KITE_API_KEY of that one.",
        )
    await gateway.put_webhook_config(receiver.url, secret)
    try:
        yield
    finally:
        await gateway.delete_webhook_config()


async def _send_and_look(api: ApiTarget, gateway: GatewayClient, receiver: Receiver, ledger: LedgerTail, secret: str) -> Journey:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    key = uuid7(SystemClock().unix_ms(), random_bits(74))
    answer = await gateway.send({"from": "kitectl-smoke", "to": "kitectl-smoke", "body": "is everything there?"}, key)
    accepted = Stage("accepted", _ms(loop.time() - began_s), f"202, event {answer['id']}")
    event_id = str(answer["id"])
    others = await asyncio.gather(
        _stage("billed", began_s, _billed(ledger, event_id)),
        _stage("delivered", began_s, _delivered(receiver, event_id, secret)),
        _stage("replayable", began_s, _replayable(gateway, answer)),
    )
    return Journey(event_id, api.team.team_id, (accepted, *others))


async def _stage(name: str, began_s: float, look: Awaitable[tuple[str, float]]) -> Stage:
    """The stage `look` finds: what was seen, and the loop time of it."""
    try:
        async with asyncio.timeout(_SEEN_WITHIN_S):
            seen, at_s = await look
    except TimeoutError:
        return Stage(name, None, f"not within {_SEEN_WITHIN_S:.0f} s")
    except (CommandFailed, KafkaError) as error:
        return Stage(name, None, error.what if isinstance(error, CommandFailed) else type(error).__name__)
    return Stage(name, _ms(at_s - began_s), seen)


async def _billed(ledger: LedgerTail, event_id: str) -> tuple[str, float]:
    entry, at_s = await ledger.entry_of(event_id)
    return f"ledger entry {entry.id}: {usdc(entry.amount_atomic)}, {usdc(entry.balance_after_atomic)} left", at_s


async def _delivered(receiver: Receiver, event_id: str, secret: str) -> tuple[str, float]:
    post = await receiver.first(event_id)
    now_s = SystemClock().unix_ms() // 1000
    if not verify_standard_webhook([secret], post.webhook_id, post.timestamp, post.body, post.signature, now_s=now_s):
        raise CommandFailed("a POST came whose signature is wrong", "")
    return f"POST of {len(post.body)} bytes, signature verified", post.at_s


async def _replayable(gateway: GatewayClient, answer: dict[str, Any]) -> tuple[str, float]:
    received = datetime.fromisoformat(answer["created_at"]) - _CLOCKS_DIFFER
    since = rfc3339(to_unix_ms(received))
    while True:
        page = await gateway.events(since, _PAGE)
        row = next((row for row in page["events"] if row["event_id"] == answer["id"]), None)
        if row is not None:
            return f"GET /api/v1/events, kiteseq {row['event']['kiteseq']}", asyncio.get_running_loop().time()
        since = page["next_cursor"] or since
        await asyncio.sleep(_POLL_S)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
