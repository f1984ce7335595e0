"""Which server process of Redis answers: its run id, drawn anew at each start. Another id may mean an older copy of the data.

Every start has another id, and so has every replica: a restart from a backup, a failover that lost the last writes, and a restart that lost
nothing look the same. The last one cannot be told from the others by anything that Redis says of itself.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import Redis

from kite_common.projection import keys

_RUN_ID: Final = re.compile(r"^run_id:([0-9a-f]+)\r?$", re.MULTILINE)


def server_id(reply: Any) -> str:
    """The id in an answer to `INFO server`, parsed by the client or not. Raises ValueError if there is none."""
    if isinstance(reply, Mapping):
        return str(reply["run_id"])
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    found = _RUN_ID.search(text)
    if found is None:
        raise ValueError("Redis does not tell its run_id")
    return found[1]


async def declare_quiet(redis: Redis) -> None:
    """Say that nothing is on its way into the log that was admitted before this server process was started.

    Only who has seen all gateways end before that, and has the log served by brokers that were started after, may say so. It holds for
    this server process alone. Raises RedisError.
    """
    await redis.set(keys.QUIET, server_id(await redis.info("server")))
