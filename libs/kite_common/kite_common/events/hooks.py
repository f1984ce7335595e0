"""The endpoint a provider delivers to: which team and source, whether it is open, sealed provider secrets. Its tokens are credentials."""

from collections.abc import Iterable
from typing import ClassVar, Final

from kite_common.events.credentials import CredentialIssued
from kite_common.events.fact import TeamFact, UnixMs
from kite_common.events.webhooks import SealedSecret
from kite_common.ids import TeamId, endpoint_of

# How long a secret is accepted after another has taken its place (wire contract, 5.3).
OVERLAP_MS: Final = 600_000
# Rotated-out ones kept at a time: more than anybody rotates within that time.
_MAX_SECRETS: Final = 8


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


def opened(current: HookEndpoint | None, team_id: TeamId, source: str, sealed: str | None, now_ms: int) -> HookEndpoint:
    """The endpoint after it was asked for: open, under its own id. `sealed` is a new secret, None = what it has stays.

    One that was closed has kept no secret. Another secret rotates the former out.
    """
    if current is None:
        current = HookEndpoint(team_id=team_id, id=endpoint_of(team_id, source), source=source, created_at=now_ms, updated_at=now_ms)
    secrets = current.secrets if sealed is None else _rotated(current.secrets, sealed, now_ms)
    return current.model_copy(update={"active": True, "secrets": secrets, "updated_at": now_ms})


def closed(current: HookEndpoint, now_ms: int) -> HookEndpoint:
    """The endpoint after it was deactivated: nobody delivers there, and the secrets nobody needs any more are gone."""
    return current.model_copy(update={"active": False, "secrets": (), "updated_at": now_ms})


def active_sources(endpoints: Iterable[HookEndpoint], tokens: Iterable[CredentialIssued]) -> frozenset[str]:
    """The sources of a team that are open, by its endpoints and its live hook tokens: a token alone opens one that has no record."""
    stored = {one.source: one.active for one in endpoints}
    implied = {one.source for one in tokens if one.source is not None and one.source not in stored}
    return frozenset(implied | {source for source, active in stored.items() if active})


def _rotated(secrets: tuple[SealedSecret, ...], sealed: str, now_ms: int) -> tuple[SealedSecret, ...]:
    ends = [(one, now_ms + OVERLAP_MS if one.expires_at is None else one.expires_at) for one in secrets]
    former = [SealedSecret(sealed=one.sealed, expires_at=end) for one, end in ends if end > now_ms]
    return (SealedSecret(sealed=sealed), *former)[:_MAX_SECRETS]
