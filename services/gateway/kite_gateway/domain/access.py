"""Who may use a bearer route: the order of refusals of the wire contract (2.1, 2.3). Looks no key up."""

from dataclasses import dataclass
from typing import Literal

from kite_common.auth import Needed, allows
from kite_common.ids import KeyPrefix, TeamId

AccessRefusal = Literal["unauthorized", "missing_team_id", "forbidden", "insufficient_permissions"]


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a good API key: the one team it belongs to and what it may do there."""

    team_id: TeamId
    prefix: KeyPrefix
    permissions: tuple[str, ...]


def check_access(principal: Principal | None, team_id: str | None, needed: Needed) -> AccessRefusal | None:
    """Why this key may not do this for that team, None if it may. `principal` None = no key, or not a good one.

    A foreign team and a team that does not exist are the same refusal.
    """
    if principal is None:
        return "unauthorized"
    if not team_id:
        return "missing_team_id"
    if team_id != principal.team_id:
        return "forbidden"
    return None if allows(principal.permissions, needed) else "insufficient_permissions"
