"""What a team may read now, asked of Redis in one round trip: account, wallet and token bucket. Decides nothing, writes no account."""

import asyncio
from importlib import resources
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kite_common.errors import Unavailable
from kite_common.ids import TeamId
from kite_common.log_position import partition_of
from kite_common.projection import keys
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.system import pause
from kite_replay.domain.allowance import Allowance, rate_limit
from kite_replay.domain.price import Standing, tariff_of

_EVERY_S: Final = 1.0
_ANSWER_S: Final = 5.0
# A team that is `past_due` cannot send, but what it has stays readable (wire contract, 11.2).
UNSUBSCRIBED: Final = frozenset({keys.NO_SUBSCRIPTION, "cancelled"})


class RedisAllowances:
    """Takes one request from the team's bucket and tells what is left; a Component that closes its client at the end.

    `partitions`: how many every team topic has. `team_rate_limit` holds for every team if given; `rate_unsubscribed` for teams without an
    active subscription (None = no limit).
    `fallback_atomic` is the price of a row for teams without a subscription (None: they may not read).
    """

    name = "redis"

    def __init__(
        self, redis: Redis, partitions: int, *, team_rate_limit: int | None, rate_unsubscribed: int | None,
        fallback_atomic: int | None = None,
    ) -> None:  # fmt: skip
        self._redis, self._partitions, self._fallback_atomic = redis, partitions, fallback_atomic
        script = resources.files(__package__).joinpath("allowance.lua").read_text(encoding="utf-8")
        self._script = redis.register_script(script)
        self._readiness = Readiness(ready=False, reason="not asked yet")
        self._arguments = ["" if team_rate_limit is None else team_rate_limit, rate_unsubscribed or 0]

    async def run(self, stop: asyncio.Event) -> None:
        """Look once a second whether Redis answers, until stopped; then close the connections."""
        try:
            while True:
                await self._look()
                if await pause(_EVERY_S, stop):
                    return
        finally:
            await self._redis.aclose()

    def readiness(self) -> Readiness:
        """Ready while Redis answers: without it nobody may read."""
        return self._readiness

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._redis.time()
        except (RedisError, OSError, TimeoutError):
            self._readiness = Readiness(ready=False, reason="no answer")
        else:
            self._readiness = READY

    async def take(self, team_id: TeamId) -> Allowance:
        """Count one request of this team. Raises Unavailable if Redis is away or does not know the team (it was wiped).

        Also while Redis is not the server process that billing wrote the accounts to.
        """
        names = [keys.account(team_id), keys.bucket(team_id), keys.reserved(team_id), keys.PROJECTED]
        try:
            found = await self._script(keys=names, args=[*self._arguments, partition_of(team_id.encode(), self._partitions)])
        except (RedisError, OSError) as error:
            raise Unavailable("Redis is away") from error
        if found[0] is None:
            raise Unavailable("the account is not projected")
        status, provider, row_atomic, balance, reserved, per_minute, level, allowed = found
        tariff = tariff_of(standing_of(text_of(status), text_of(provider)), row_atomic, balance - reserved, self._fallback_atomic)
        return Allowance(rate_limit(per_minute, level, allowed=bool(allowed)), tariff)


def standing_of(status: str, provider: str) -> Standing:
    """How a projected account stands towards paid pages."""
    if status in UNSUBSCRIBED:
        return "no_subscription"
    return "x402" if provider == "x402" else "clerk"


def text_of(value: bytes | str) -> str:
    """A reply of Redis as text, whatever the client was told to do."""
    return value.decode() if isinstance(value, bytes) else value
