"""The endpoint a provider delivers to: which team and source, whether it is open, sealed provider secrets. Its tokens are credentials."""

from typing import ClassVar

from kite_common.events.fact import TeamFact, UnixMs
from kite_common.events.webhooks import SealedSecret


class HookEndpoint(TeamFact):
    """One endpoint of a team, whole. Newest secret first; one with `expires_at` was rotated out and is accepted until then.

    An endpoint with a live hook token needs no record: it is open and has no secret. `active` false closes it whatever its tokens say.
    """

    kind: ClassVar[str] = "hook-endpoint"

    id: str
    source: str
    active: bool = True
    secrets: tuple[SealedSecret, ...] = ()
    created_at: UnixMs
    updated_at: UnixMs

    @property
    def key(self) -> str:
        return endpoint_key(self.team_id, self.source)


def endpoint_key(team_id: str, source: str) -> str:
    """The record key of an endpoint; neither part can hold a slash."""
    return f"{team_id}/{source}"


def secret_context(team_id: str, source: str) -> bytes:
    """Associated data of an endpoint's sealed secrets: what was sealed for one endpoint opens for no other, nor for an outbound webhook."""
    return f"hook:{endpoint_key(team_id, source)}".encode()
