"""Hooks over two followed topics: endpoints with sealed secrets, and hook tokens as hashes. Secrets are unsealed in memory only."""

from collections.abc import Sequence
from typing import Protocol

from kite_common.auth import Peppers, hash_matches, is_live, parse_hook_token
from kite_common.crypto import unseal
from kite_common.errors import Malformed, Unavailable
from kite_common.events.codec import decode_as
from kite_common.events.credentials import CredentialIssued
from kite_common.events.hooks import HookEndpoint, endpoint_key, secret_context
from kite_common.ids import TeamId
from kite_common.runtime.component import Readiness
from kite_common.runtime.observe import get_logger
from kite_common.stream.group import Input
from kite_gateway.adapters.credentials import IssuedCredentials
from kite_gateway.domain.hooks.credentials import Endpoint, KnownHook, TokenState

log = get_logger("kite.gateway.hooks")


def decode_endpoint(record: Input) -> HookEndpoint | None:
    """The endpoint a record of the topic holds, None if it was removed. Raises Malformed."""
    return None if record.value is None else decode_as(HookEndpoint, record.value)


class FollowedEndpoints(Protocol):
    """The followed topic of endpoints: `kite_common.stream.table.Table`."""

    def get(self, key: str) -> HookEndpoint | None:
        """The newest state of the endpoint with this key."""
        ...

    def readiness(self) -> Readiness:
        """Ready once the whole topic has been read."""
        ...


class TableHooks:
    """`cipher_keys` unseal providers' secrets; without the right one an endpoint that has a secret lets nobody in."""

    def __init__(self, endpoints: FollowedEndpoints, issued: IssuedCredentials, peppers: Peppers, cipher_keys: Sequence[bytes]) -> None:
        self._endpoints, self._issued, self._peppers, self._cipher_keys = endpoints, issued, peppers, cipher_keys

    def find(self, team_id: TeamId, source: str, token: str | None, now_ms: int) -> KnownHook:
        """A token that is live opens an endpoint nobody has written down: it has no secret. Raises Unavailable."""
        if not (self._endpoints.readiness().ready and self._issued.readiness().ready):
            raise Unavailable("the hooks are not all known now")
        state = "none" if token is None else self._token(team_id, source, token, now_ms)
        stored = self._endpoints.get(endpoint_key(team_id, source))
        if stored is None:
            return KnownHook(Endpoint() if state == "right" else None, state)
        return KnownHook(Endpoint(stored.active, self._secrets(stored, now_ms) if stored.active else ()), state)

    def _token(self, team_id: TeamId, source: str, text: str, now_ms: int) -> TokenState:
        try:
            issued, pepper = self._peppers.find(parse_hook_token(text), self._issued.get)
        except Malformed:
            return "wrong"
        if issued is not None and not _is_of(issued, team_id, source):
            issued = None
        if not hash_matches(issued, text, pepper) or issued is None:
            return "wrong"
        return "right" if is_live(issued, now_ms) else "stale"

    def _secrets(self, stored: HookEndpoint, now_ms: int) -> tuple[str, ...]:
        live = [one.sealed for one in stored.secrets if one.expires_at is None or now_ms < one.expires_at]
        context = secret_context(stored.team_id, stored.source)
        try:
            return tuple(unseal(self._cipher_keys, sealed, context).decode() for sealed in live)
        except Malformed as error:
            log.error(  # noqa: TRY400 - a stack tells nothing that the problem does not
                "hook.secret_unreadable", team_id=stored.team_id, source=stored.source, problem=str(error)
            )
            raise Unavailable("a provider's secret cannot be unsealed: check KITE_HOOK_SECRET_CIPHER_KEY") from error


def _is_of(issued: CredentialIssued, team_id: TeamId, source: str) -> bool:
    return issued.credential == "hook_token" and (issued.team_id, issued.source) == (team_id, source)
