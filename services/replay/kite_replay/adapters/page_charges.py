"""PageCharges over Redis: a page's amount is held beside what messages hold, under keys of its own. Returns facts, refuses nothing.

The keys are the contract of kite_common.projection.keys: billing frees what is held here when the usage is in the ledger, or when it has
lapsed. Both scripts may run twice for one call and do their work once.
"""

from importlib import resources
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kite_common.errors import Unavailable
from kite_common.log_position import partition_of
from kite_common.projection import keys
from kite_common.runtime.observe import get_logger
from kite_replay.adapters.allowances import standing_of, text_of
from kite_replay.domain.charge import PageUsage, WalletFacts

log = get_logger("kite.replay.redis")

_RESERVED: Final = 1


class RedisPageCharges:
    """The client belongs to the caller. `partitions`: how many every team topic has."""

    def __init__(self, redis: Redis, partitions: int) -> None:
        self._partitions = partitions
        folder = resources.files(__package__)
        self._reserve = redis.register_script(folder.joinpath("reserve_page.lua").read_text(encoding="utf-8"))
        self._release = redis.register_script(folder.joinpath("release_page.lua").read_text(encoding="utf-8"))

    async def reserve(self, usage: PageUsage) -> WalletFacts:
        """One round trip. Raises Unavailable if Redis is away (what it may hold then, lapses) or does not know the team."""
        team_id = usage.team_id
        names = [keys.account(team_id), keys.replays(team_id), keys.reserved(team_id), keys.PROJECTED]
        partition = partition_of(team_id.encode(), self._partitions)
        try:
            found: list[Any] = await self._reserve(keys=names, args=[usage.usage_id, usage.rows, partition])
        except (RedisError, OSError) as error:
            raise Unavailable("Redis is away") from error
        if found[0] is None:
            raise Unavailable("the account is not projected")
        status, provider, subscription, amount, _, reserved, at_ms = found
        return WalletFacts(standing_of(text_of(status), text_of(provider)), text_of(subscription), amount, reserved == _RESERVED, at_ms)

    async def release(self, usage: PageUsage) -> None:
        """Nothing happens if Redis is away: what is held lapses with stream time."""
        try:
            await self._release(keys=[keys.replays(usage.team_id), keys.reserved(usage.team_id)], args=[usage.usage_id])
        except (RedisError, OSError) as error:
            log.warning("page.not_released", team_id=usage.team_id, usage_id=usage.usage_id, reason=type(error).__name__)
