"""Where a team lives: its partition, and its keys in Redis. Computed once a team, because both stand on the hot path."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from kite_common.ids import TeamId
from kite_common.log_position import partition_of
from kite_common.projection import keys

# Teams remembered in one process, a few hundred bytes each; the least recently used go first.
_REMEMBERED: Final = 20_000


@dataclass(frozen=True, slots=True)
class Place:
    """`admission`: the four keys admission works on, in the order of admit.lua."""

    partition: int
    record_key: bytes
    admission: tuple[str, str, str, str]


def places(partitions: int) -> Callable[[TeamId], Place]:
    """The function from team to place for topics of that many partitions."""

    @lru_cache(maxsize=_REMEMBERED)
    def place_of(team_id: TeamId) -> Place:
        key = team_id.encode()
        names = (keys.account(team_id), keys.reservations(team_id), keys.reserved(team_id), keys.bucket(team_id))
        return Place(partition_of(key, partitions), key, names)

    return place_of
