"""API keys in process, fed by their topic: hashes, never a secret. A revocation holds from the moment its record arrives."""

from typing import Protocol

from kite_common.auth import Peppers, parse_api_key, verify
from kite_common.errors import Malformed, Unavailable
from kite_common.events.codec import decode_as
from kite_common.events.credentials import CredentialIssued
from kite_common.ids import TeamId
from kite_common.runtime.component import Readiness
from kite_common.stream.input import Input
from kite_replay.domain.access import Principal


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
    """Credentials over the followed topic. A check takes about 5 us, so nothing is remembered."""

    def __init__(self, issued: IssuedCredentials, peppers: Peppers) -> None:
        self._issued, self._peppers = issued, peppers

    def identify(self, key_text: str, now_ms: int) -> Principal | None:
        """The holder of a key that is good at `now_ms`, None for any other text. Raises Unavailable until all keys are known."""
        if not self._issued.readiness().ready:
            raise Unavailable("the API keys are not all known now")
        try:
            parsed = parse_api_key(key_text)
        except Malformed:
            return None
        issued, pepper = self._peppers.find(parsed, self._issued.get)
        if issued is not None and issued.credential != "api_key":
            issued = None
        if not verify(issued, key_text, pepper, now_ms) or issued is None:
            return None
        return Principal(TeamId(issued.team_id), issued.permissions, issued.scopes)
