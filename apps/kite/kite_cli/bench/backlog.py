"""Appends accepted messages straight to the log, as the gateway would write them, for services that are stopped. Reserves nothing."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import Final

from kite_cli.bench.load.job import Sender
from kite_cli.bench.load.requests import text_of
from kite_cli.bench.teams import running
from kite_cli.bench.whole import Kite
from kite_cli.local.environment import PARTITIONS
from kite_common.events.agent_message import AgentMessage, to_event
from kite_common.events.codec import EVENT_RECORD, RECORD_HEADER, Record, encode
from kite_common.events.envelope import CONTENT_TYPE_HEADER, TRACE_HEADER
from kite_common.events.usage import UsageRecorded
from kite_common.ids import uuid7
from kite_common.log_position import partition_of
from kite_common.plans import shipped_catalog
from kite_common.runtime.system import SystemClock, random_bits
from kite_common.stream.publisher import Publisher
from kite_common.topics import EVENTS

# What one call appends side by side: about a third of the batch a broker takes.
_PAIRS_A_CALL: Final = 200
_EVENT_HEADERS: Final = (
    (RECORD_HEADER, EVENT_RECORD), CONTENT_TYPE_HEADER, (TRACE_HEADER, b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)  # fmt: skip


async def append_backlog(kite: Kite, senders: Sequence[Sender], pairs: int, body_bytes: int, told: Callable[[int], None]) -> None:
    """Append `pairs` events with their usage, evenly over the teams; `told` hears how many are acknowledged.

    Raises an ExceptionGroup of Unavailable or OutcomeOpen if the log does not take them.
    """
    message = AgentMessage("planner", "builder", text_of(body_bytes))
    shares: dict[int, list[str]] = defaultdict(list)
    for team_id, _ in zip(cycle(sender.team_id for sender in senders), range(pairs), strict=False):
        shares[partition_of(team_id.encode(), PARTITIONS)].append(team_id)
    publisher, done = Publisher(kite.kafka, EVENTS.name, PARTITIONS), 0

    async def fill(partition: int, team_ids: Sequence[str]) -> None:
        nonlocal done
        rest = iter(team_ids)
        while some := list(islice(rest, _PAIRS_A_CALL)):
            await publisher.publish(partition, list(_records(some, message)))
            done += len(some)
            told(done)

    async with running(publisher), asyncio.TaskGroup() as tasks:
        for partition, team_ids in shares.items():
            tasks.create_task(fill(partition, team_ids))


def _records(team_ids: Sequence[str], message: AgentMessage) -> Iterator[Record]:
    price = next(plan.price_atomic_per_event for plan in shipped_catalog().plans if plan.name == "growth")
    now_ms = SystemClock().unix_ms()
    for team_id in team_ids:
        event_id = uuid7(now_ms, random_bits(74))
        yield Record(team_id.encode(), to_event(message, event_id, now_ms), _EVENT_HEADERS)
        yield encode(UsageRecorded(
            team_id=team_id, event_id=event_id, usage_kind="message", price_atomic=price, subscription_id="bench", reserved_at=now_ms
        ))  # fmt: skip
