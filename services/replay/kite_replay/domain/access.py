"""Who may read a team: the order of refusals of the wire contract (2.1, 2.3). Looks no key up."""

from dataclasses import dataclass

from kite_common.auth import Needed, allows
from kite_common.errors import ApiError
from kite_common.ids import TeamId


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a good API key: its one team, what it may do there, and which events it may see (`scopes`, 8.3)."""

    team_id: TeamId
    permissions: tuple[str, ...]
    scopes: tuple[str, ...]


def refusal(principal: Principal | None, team_id: str | None, needed: Needed) -> ApiError | None:
    """Why this key may not do this for that team, None if it may. `principal` None = no key, or not a good one.

    A foreign team and a team that does not exist are the same refusal.
    """
    if principal is None:
        return ApiError("unauthorized", headers={"WWW-Authenticate": "Bearer"})
    if not team_id:
        return ApiError("missing_team_id")
    if team_id != principal.team_id:
        return ApiError("forbidden")
    return None if allows(principal.permissions, needed) else ApiError("insufficient_permissions")
