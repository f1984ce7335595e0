"""Takes away what stands in Redis for the log, so that billing projects everything anew, and watches until admission is back.

The rebuild is billing's own answer to a loss (decisions/0005): what this does is to lose the marks it stands on, all of them in one step.
Until a partition's mark is back the gateway admits nobody of it. A note in Redis says that a rebuild is under way: who repeats the
command watches that one.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.target import LogTarget
from kite_common.projection import keys

NOTE: Final = "kite:rebuild"
_BEGAN: Final = "began"
_LOOK_S: Final = 0.5
# A note is of no use once everybody has forgotten the rebuild it is about.
_NOTE_KEPT_S: Final = 86_400
# KEYS: the note, kite:projected. ARGV: lifetime of the note (s), partitions. Returns when the rebuild began (ms) and whether it was now.
_TAKE: Final = """
local began = redis.call('HGET', KEYS[1], 'began')
if began then return {began, 0} end
local time = redis.call('TIME')
began = time[1] .. string.format('%03d', math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], 'began', began)
redis.call('EXPIRE', KEYS[1], ARGV[1])
for partition = 0, tonumber(ARGV[2]) - 1 do
  redis.call('HSET', KEYS[1], partition, redis.call('HGET', KEYS[2], partition) or '0')
  redis.call('HDEL', KEYS[2], partition, partition .. ':server')
end
return {began, 1}
"""

# KEYS: the note. ARGV: when the rebuild it is about began (ms).
_END: Final = "if redis.call('HGET', KEYS[1], 'began') == ARGV[1] then redis.call('DEL', KEYS[1]) end"


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: how many partitions admit again, of how many, and for how long admission has been closed (ms)."""

    open: int
    partitions: int
    closed_ms: int
    accounts: int = 0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`begun`: by this command, not by an earlier one. `closed_ms`: from the taking away to the last partition, or to now if it was
    over already. `accounts`: how many the partitions' teams have in Redis now."""

    begun: bool
    closed_ms: int
    partitions: int
    accounts: int


async def rebuild_redis(target: LogTarget, within_s: float, told: Callable[[Seen], None]) -> Rebuilt:
    """Begin, or join what has begun, and wait until every partition admits again.

    May be ended at any moment: billing goes on by itself. Raises CommandFailed if Redis does not answer or it takes longer.
    """
    async with aclosing(Redis.from_url(target.redis_url, decode_responses=True, socket_timeout=10, socket_connect_timeout=10)) as redis:
        try:
            began_ms, is_new = await redis.eval(_TAKE, 2, NOTE, keys.PROJECTED, _NOTE_KEPT_S, target.partitions)
            seen = await _watch(redis, target, int(began_ms), within_s, told)
            accounts = await _accounts(redis)
            # Not one that another rebuild has left since.
            await redis.eval(_END, 1, NOTE, began_ms)
        except (RedisError, OSError) as error:
            advice = "See what runs with `kitectl status`, or check KITE_REDIS_URL; then repeat the command: it goes on where it is."
            raise CommandFailed(f"Redis does not answer: {type(error).__name__}", advice, EXIT_UNAVAILABLE) from error
    return Rebuilt(bool(is_new), seen.closed_ms, target.partitions, accounts)


async def _watch(redis: Any, target: LogTarget, began_ms: int, within_s: float, told: Callable[[Seen], None]) -> Seen:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        seen = await _look(redis, target.partitions, began_ms)
        told(seen)
        if seen.open == seen.partitions:
            return seen
        if loop.time() > deadline:
            advice = "See that billing runs and what its /readyz says. It goes on by itself; repeat the command to watch."
            raise CommandFailed(f"{seen.partitions - seen.open} partitions still admit nobody after {within_s:.0f} s", advice)
        await asyncio.sleep(_LOOK_S)


async def _look(redis: Any, partitions: int, began_ms: int) -> Seen:
    pipeline = redis.pipeline(transaction=False)
    pipeline.time()
    pipeline.hgetall(keys.PROJECTED)
    pipeline.hgetall(NOTE)
    (seconds, micros), projected, note = await pipeline.execute()
    is_open = [is_back(projected, note, partition) for partition in range(partitions)]
    return Seen(sum(is_open), partitions, int(seconds) * 1000 + int(micros) // 1000 - began_ms)


def is_back(projected: dict[str, str], note: dict[str, str], partition: int) -> bool:
    """Whether a partition is projected at least as far as it was when its mark was taken away."""
    mark = projected.get(str(partition))
    return mark is not None and keys.server_field(partition) in projected and int(mark) >= int(note.get(str(partition), "0"))


async def _accounts(redis: Any) -> int:
    count = 0
    async for _ in redis.scan_iter(match="kite:{*}:account", count=1_000):
        count += 1
    return count


def lines_of(rebuilt: Rebuilt) -> Sequence[str]:
    """What people are told."""
    what = "rebuilt" if rebuilt.begun else "rebuilt: a rebuild that had begun before is done"
    return (
        f"redis    {what} ({rebuilt.accounts:,} accounts, {rebuilt.partitions} partitions)",
        f"closed   admission answered 503 for {rebuilt.closed_ms / 1000:.1f} s"
        + ("" if rebuilt.begun else " at most, counted from its beginning to now"),
    )
