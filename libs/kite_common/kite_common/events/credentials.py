"""API keys and hook tokens as the log holds them: a hash and what it opens, never the secret."""

from typing import ClassVar, Literal

from kite_common.events.fact import TeamFact, UnixMs
from kite_common.ids import credential_key

Permission = Literal["read", "write", "admin", "*"]


class CredentialIssued(TeamFact):
    """The state of one credential, keyed by prefix and hash; issued again with `revoked_at` set it is dead.

    `secret_hash` is the hex HMAC-SHA256 of the whole text under the pepper (`kite_common.auth`). Times are milliseconds.
    """

    kind: ClassVar[str] = "credential"

    id: str
    prefix: str
    credential: Literal["api_key", "hook_token"]
    secret_hash: str
    name: str
    permissions: tuple[Permission, ...]
    scopes: tuple[str, ...] = ("*",)
    source: str | None = None
    created_at: UnixMs
    expires_at: UnixMs | None = None
    revoked_at: UnixMs | None = None

    @property
    def key(self) -> str:
        return credential_key(self.prefix, self.secret_hash)
