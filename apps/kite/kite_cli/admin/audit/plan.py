"""Before anything is read: wait until the services have caught up, then say from where to where each topic is read. Pure but for reading.

The order in which ends are asked for makes it safe beside services that go on working: first how far each service was, then where what it
had written by then ends, then where its inputs end. So whatever is missing of an input before a service's position is really missing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kite_cli.admin.audit.bounds import Span
from kite_cli.admin.audit.log_reader import LogReader
from kite_cli.admin.audit.partition import DELIVERY_GROUP, RETRIES_GROUP
from kite_common.topics import (
    ACCOUNTS,
    COMMANDS,
    DEAD_LETTERS,
    DELIVERIES,
    EVENTS,
    LEDGER,
    PAYMENT_STATES,
    PAYMENTS,
    RETRIES,
    Topic,
)

BILLING_GROUP: Final = "kite-billing"
PAYMENTS_GROUP: Final = "kite-payments"
ARCHIVE_GROUP: Final = "kite-archiver"
# Who has to have read what before a drained Kite is one. Retry topics wait for their time and are no lag.
_READERS: Final[Mapping[str, tuple[Topic, ...]]] = {
    BILLING_GROUP: (EVENTS, COMMANDS),
    PAYMENTS_GROUP: (PAYMENTS,),
    DELIVERY_GROUP: (EVENTS,),
    ARCHIVE_GROUP: (EVENTS, LEDGER, DELIVERIES),
}
_STATES: Final = (ACCOUNTS, PAYMENT_STATES)
_OUTPUTS: Final = (LEDGER, DELIVERIES, DEAD_LETTERS, *RETRIES)
_INPUTS: Final = (COMMANDS, EVENTS)
# Only these are cut by `--since`: all others are needed whole, or are small.
_CUT: Final = (EVENTS, LEDGER, DELIVERIES)
_AGAIN_S: Final = 0.5
# Nobody works on it any more.
_STILL_S: Final = 15.0
# A gap of so few offsets may be markers of transactions alone, which no group ever commits.
_PERHAPS_MARKERS: Final = 50
# A transaction's end reaches its topics one after the other.
_SETTLE_S: Final = 0.3

Offsets = Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Bounds:
    """`spans` by topic and partition; what each group (named without a prefix) had committed before and after the ends of the state topics
    were asked for."""

    spans: Mapping[tuple[str, int], Span]
    before: Mapping[str, Offsets]
    after: Mapping[str, Offsets]


async def wait_until_drained(
    log: LogReader, prefix: str, partitions: Sequence[int], within_s: float, told: Callable[[int], None]
) -> dict[str, int]:
    """Wait until every service has read everything, at most `within_s`, or until none moves on. What each has not read yet, by name."""
    began = moved = time.monotonic()
    least: int | None = None
    while True:
        lag = await _lag(log, prefix, partitions)
        total = sum(lag.values())
        told(total)
        if least is None or total < least:
            least, moved = total, time.monotonic()
        now = time.monotonic()
        if not total or now - began >= within_s or now - moved >= _STILL_S:
            return {name: count for name, count in lag.items() if count}
        await asyncio.sleep(_AGAIN_S)


async def bounds(log: LogReader, prefix: str, partitions: Sequence[int], since_ms: int | None) -> Bounds:
    """Where everything begins and ends at this moment."""
    before = await _committed(log, prefix)
    ends = await log.ends(_names(_STATES, prefix), partitions)
    after = await _committed(log, prefix)
    await asyncio.sleep(_SETTLE_S)
    ends |= await log.ends(_names(_OUTPUTS, prefix), partitions)
    ends |= await log.ends(_names(_INPUTS, prefix), partitions)
    whole = [topic for topic in (*_STATES, *_OUTPUTS, *_INPUTS) if topic not in _CUT]
    firsts = await log.firsts(_names(whole, prefix), partitions) | await log.firsts(_names(_CUT, prefix), partitions, since_ms)
    return Bounds({place: Span(min(firsts[place], end), end) for place, end in ends.items()}, before, after)


async def _lag(log: LogReader, prefix: str, partitions: Sequence[int]) -> dict[str, int]:
    groups = {prefix + group: _names(topics, prefix) for group, topics in _READERS.items()}
    topics = sorted({topic for names in groups.values() for topic in names})
    ends, firsts, committed = await log.ends(topics, partitions), await log.firsts(topics, partitions), await log.committed(groups)
    lag: dict[str, int] = {}
    for group, topic in ((group, topic) for group, names in groups.items() for topic in names):
        spans = {
            number: Span(max(firsts[topic, number], committed[group].get((topic, number), 0)), ends[topic, number]) for number in partitions
        }
        name = f"records of {topic} not read by {group}"
        lag[name] = sum([await log.remaining(topic, number, span, _PERHAPS_MARKERS) for number, span in spans.items() if span.size])
    return lag


async def _committed(log: LogReader, prefix: str) -> dict[str, Offsets]:
    """By group, without the prefix: whoever looks one up knows it by its name."""
    read = {**_READERS, RETRIES_GROUP: RETRIES}
    committed = await log.committed({prefix + group: _names(topics, prefix) for group, topics in read.items()})
    return {group: committed[prefix + group] for group in read}


def _names(topics: Sequence[Topic], prefix: str) -> list[str]:
    return [prefix + topic.name for topic in topics]
