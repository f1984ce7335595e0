"""The teams of a run: one steady one on each partition, whose ways are measured, and one for each thing that can go wrong around it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kite_cli.admin.hooks import create_hook
from kite_cli.admin.teams import TeamOrder, create_team
from kite_cli.chaos.load.caller import Team
from kite_cli.chaos.load.receivers import Manner
from kite_cli.chaos.stack import ChaosKite
from kite_cli.target import LogTarget
from kite_common.ids import TeamId, new_team_id
from kite_common.log_position import partition_of
from kite_common.plans import Catalog, shipped_catalog
from kite_common.runtime.system import random_bytes

PLAN: Final = "growth"
_RICH: Final = 10_000_000_000
# What the buyer of pages can spend on messages before its wallet is empty.
BUYERS_EVENTS: Final = 12
_SOURCE: Final = "chaos"
_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Cast:
    """Who takes part. `steady` by partition; `others` by the manner of their receiver; `changing` changes plan and webhook, `buyer` has an
    empty wallet, `depositor` is paid into."""

    steady: tuple[Team, ...]
    others: dict[Manner, Team]
    changing: Team
    buyer: Team
    depositor: Team
    opened: dict[str, int]

    @property
    def all(self) -> tuple[Team, ...]:
        """Every team."""
        return (*self.steady, *self.others.values(), self.changing, self.buyer, self.depositor)

    @property
    def sure(self) -> frozenset[str]:
        """Teams whose webhook is always there and takes everything in the end."""
        uncertain = {self.others["gone"].id, self.buyer.id, self.depositor.id}
        return frozenset(team.id for team in self.all) - uncertain


async def open_cast(kite: ChaosKite) -> Cast:
    """Open all teams. Raises CommandFailed."""
    log, catalog = kite.log, shipped_catalog()
    price = price_of(catalog)
    manners: tuple[Manner, ...] = ("fails", "hangs", "busy", "gone")
    wishes: list[tuple[int | None, int]] = [(partition, _RICH) for partition in range(log.partitions)]
    wishes += [(None, _RICH)] * (len(manners) + 1) + [(None, BUYERS_EVENTS * price), (None, _RICH)]
    places = asyncio.Semaphore(_AT_ONCE)

    async def opened(partition: int | None, balance: int) -> Team:
        async with places:
            return await _open(log, catalog, partition, balance)

    teams = await asyncio.gather(*(opened(partition, balance) for partition, balance in wishes))
    steady, rest = teams[: log.partitions], teams[log.partitions :]
    return Cast(
        tuple(steady), dict(zip(manners, rest, strict=False)), rest[-3], rest[-2], rest[-1],
        {team.id: balance for team, (_, balance) in zip(teams, wishes, strict=True)},
    )  # fmt: skip


def price_of(catalog: Catalog) -> int:
    """What an event costs on the plan of all teams."""
    plan = catalog.by_name(PLAN)
    assert plan is not None  # noqa: S101 - the plan comes with Kite
    return plan.price_atomic_per_event


async def _open(log: LogTarget, catalog: Catalog, partition: int | None, balance: int) -> Team:
    made = await create_team(log, TeamOrder(PLAN, "x402", balance, team_id=_team_id(partition, log.partitions)), catalog)
    hook = await create_hook(log, catalog, TeamId(made.team_id), _SOURCE, None)
    return Team(made.team_id, made.key.text, _partition(made.team_id, log.partitions), f"{hook.endpoint}/{hook.token}")


def _team_id(partition: int | None, partitions: int) -> str:
    while True:
        team_id = new_team_id(random_bytes(16))
        if partition in (None, _partition(team_id, partitions)):
            return team_id


def _partition(team_id: str, partitions: int) -> int:
    return partition_of(team_id.encode(), partitions)


def partitions_of(teams: Sequence[Team]) -> dict[str, int]:
    """The partition of each team, by its id."""
    return {team.id: team.partition for team in teams}
