"""API keys in process, fed by their topic: hashes, never a secret. A revocation holds from the moment its record arrives."""

import hashlib
from collections import OrderedDict
from typing import Final, Protocol

from kite_common.auth import Peppers, is_live, parse_api_key, verify
from kite_common.errors import Malformed, Unavailable
from kite_common.events.codec import decode_as
from kite_common.events.credentials import CredentialIssued
from kite_common.ids import KeyPrefix, TeamId
from kite_common.runtime.component import Readiness
from kite_common.stream.group import Input
from kite_gateway.domain.access import Principal

# Keys whose check is remembered, some 300 bytes each.
_REMEMBERED: Final = 10_000


def decode_credential(record: Input) -> CredentialIssued | None:
    """The credential a record of the topic holds, None if it was removed. Raises Malformed: then it is to open nothing."""
    return None if record.value is None else decode_as(CredentialIssued, record.value)


class IssuedCredentials(Protocol):
    """The followed topic of credentials: `kite_common.stream.table.Table`."""

    def get(self, key: str) -> CredentialIssued | None:
        """The newest state of the credential with this key (`kite_common.auth.lookup_key`)."""
        ...

    def readiness(self) -> Readiness:
        """Ready once the whole topic has been read, and while the brokers answer."""
        ...


class TableCredentials:
    """Credentials over the followed topic.

    A verified text is remembered by its digest together with the record it was verified against, so it is not hashed under the
    pepper again; when the topic brings another record for that credential, the memory no longer counts.
    """

    def __init__(self, issued: IssuedCredentials, peppers: Peppers) -> None:
        self._issued, self._peppers = issued, peppers
        self._verified: OrderedDict[bytes, tuple[CredentialIssued, Principal]] = OrderedDict()

    def identify(self, key_text: str, now_ms: int) -> Principal | None:
        """The holder of a good key, None for any other text. Raises Unavailable while not all keys are known."""
        # Not what is remembered either: whoever hears nothing does not hear of a revocation.
        if not self._issued.readiness().ready:
            raise Unavailable("the API keys are not all known now")
        digest = hashlib.sha256(key_text.encode("utf-8", "surrogatepass")).digest()
        known = self._verified.get(digest)
        if known is not None and self._issued.get(known[0].key) is known[0] and is_live(known[0], now_ms):
            self._verified.move_to_end(digest)
            return known[1]
        return self._verify(key_text, digest, now_ms)

    def _verify(self, key_text: str, digest: bytes, now_ms: int) -> Principal | None:
        self._verified.pop(digest, None)
        try:
            parsed = parse_api_key(key_text)
        except Malformed:
            return None
        issued, pepper = self._peppers.find(parsed, self._issued.get)
        if issued is not None and issued.credential != "api_key":
            issued = None
        if not verify(issued, key_text, pepper, now_ms) or issued is None:
            return None
        principal = Principal(TeamId(issued.team_id), KeyPrefix(issued.prefix), issued.permissions)
        self._verified[digest] = (issued, principal)
        if len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return principal
