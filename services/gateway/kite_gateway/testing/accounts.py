"""For tests: accounts as billing would project them."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from redis.asyncio import Redis

from kite_common.ids import TeamId
from kite_common.projection import keys
from kite_common.projection.server import server_id
from kite_gateway.domain.standing import PlanTerms, Standing

WITHOUT_SUBSCRIPTION_PER_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Account:
    """A projected account, with the field names of kite_common.projection.keys.ACCOUNT_FIELDS that admission reads."""

    status: str = "active"
    provider: str = "x402"
    subscription: str = "sub"
    rate_per_min: int = 0
    price: int = 100
    month_limit: int = 1_000
    day_limit: int = 1_000
    period_start: int = 0
    period_end: int = 1 << 47
    used: int = 0
    day: int = 0
    day_used: int = 0
    balance: int = 1_000_000
    max_payload: int = 262_144
    debt: int = 0


async def project(redis: Redis, team_id: TeamId, account: Account) -> None:
    """Write an account where admission reads it, as billing projects it. The only place of the gateway's tests that does."""
    values: dict[str, str | int] = {
        "applied": 1, "plan_id": "", "plan_name": "", "charged": 0, "replay_price": 0, "max_payload": 262_144,
        "sources_limit": 10, "monthly": 0, "revision": 0, **asdict(account),
    }  # fmt: skip
    await redis.hset(keys.account(team_id), mapping={name: values[name] for name in keys.ACCOUNT_FIELDS})


async def vouch(redis: Redis, partitions: int) -> str:
    """Say, as billing does, that the accounts of all partitions stand on the server process that answers; its id."""
    server = server_id(await redis.info("server"))
    await redis.hset(keys.PROJECTED, mapping={keys.server_field(partition): server for partition in range(partitions)})
    return server


def standing(**given: Any) -> Standing:
    """A team on starter in the middle of its first period, with money and a few events in flight."""
    fields: dict[str, Any] = {
        "at_ms": 1_777_543_200_000, "events_used": 42, "events_limit": 100_000, "events_today": 7, "day_limit": 10_000,
        "projected_start": 1_777_456_800_000, "projected_end": 1_780_048_800_000, "charged_atomic": 4_200, "balance_atomic": 995_900,
        "reserved_atomic": 100, "price_atomic": 100, "debt_atomic": 0, "revision": 3, "status": "active", "provider": "x402",
        "subscription_id": "sub", "plan_id": "6b1f3c1e-0000-4000-8000-000000000002", "plan_name": "starter", "requests_per_minute": 300,
        "terms": PlanTerms(262_144, 10, 5_000_000, 10),
    }  # fmt: skip
    return Standing(**(fields | given))
