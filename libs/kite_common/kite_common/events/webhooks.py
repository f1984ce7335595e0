"""The outbound webhook config of a team: where, which types, sealed secrets."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from kite_common.events.fact import TeamFact, UnixMs

# How requests are signed: `v1` with the shared secrets, `v1a` with the team's Ed25519 keys as well.
SignatureScheme = Literal["v1", "v1a"]

# `batch`: first attempts are joined into one request where several come within `batch_max_wait_ms`.
DeliveryMode = Literal["structured", "batch"]


class SealedSecret(BaseModel):
    """One signing secret, sealed with AES-256-GCM (`kite_common.crypto.seal`, associated data = `secret_context`)."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    sealed: str
    expires_at: UnixMs | None = None


class WebhookConfigured(TeamFact):
    """The one config of a team, whole; `active` false after DELETE or a 410. Newest secret first."""

    kind: ClassVar[str] = "webhook-config"

    id: str
    url: str
    event_types: tuple[str, ...] = ()
    secrets: tuple[SealedSecret, ...]
    signature: SignatureScheme = "v1"
    mode: DeliveryMode = "structured"
    batch_max_events: int = 16
    batch_max_wait_ms: int = 200
    active: bool = True
    created_at: UnixMs
    updated_at: UnixMs


def secret_context(team_id: str, config_id: str) -> bytes:
    """Associated data of a config's sealed secrets: what was sealed for one team and config opens for no other.

    Whoever seals (gateway) and whoever unseals (delivery) takes it from here. A config id is a UUID of 36 characters, so
    where one id ends and the other begins is never in doubt.
    """
    return (team_id + config_id).encode()
