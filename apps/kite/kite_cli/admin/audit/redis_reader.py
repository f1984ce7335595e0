"""Reads what Redis holds of teams, many in one round trip. Changes nothing."""

from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kite_cli.admin.audit.projection import Projected
from kite_common.errors import Unavailable
from kite_common.ids import TeamId
from kite_common.projection import keys

_TIMEOUT_S: Final = 10.0


class RedisReader:
    """`async with`. Raises Unavailable if Redis does not answer."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)

    async def __aenter__(self) -> "RedisReader":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    async def projected(self, teams: Sequence[str]) -> list[Projected]:
        """What stands of each of these teams; each team's parts are of one moment."""
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                for team in map(TeamId, teams):
                    pipe.hgetall(keys.account(team))
                    pipe.hgetall(keys.reserved(team))
                    pipe.zrange(keys.reservations(team), 0, -1)
                    pipe.zrange(keys.replays(team), 0, -1)
                found = await pipe.execute()
        except (RedisError, OSError) as error:
            # Without the address: it may carry a password.
            raise Unavailable(f"Redis does not answer: {type(error).__name__}") from error
        parts = [found[at : at + 4] for at in range(0, len(found), 4)]
        return [Projected(account, reserved, [*events, *pages]) for account, reserved, events, pages in parts]
