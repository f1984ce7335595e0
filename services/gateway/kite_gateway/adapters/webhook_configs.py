"""WebhookConfigs over their compacted topic, and the sealing of signing secrets. Secrets are plain in `CipherSeal` only."""

import asyncio
import hmac
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from kite_common.crypto import NONCE_BYTES, new_webhook_secret, seal, unseal
from kite_common.errors import Malformed, OutcomeOpen, Unavailable
from kite_common.events.codec import decode_as, encode
from kite_common.events.webhooks import WebhookConfigured, secret_context
from kite_common.ids import TeamId, WebhookConfigId
from kite_common.runtime.component import Readiness
from kite_common.runtime.system import jitter
from kite_common.stream.exclusive import ExclusiveWriter, ShutOut
from kite_common.stream.group import Input
from kite_gateway.adapters.place import Place

_SECRET_BYTES: Final = 32
# At most how long a writer that was overtaken lets others go first: about as long as a turn takes.
_STAND_BACK_S: Final = 0.2


def decode_webhook_config(record: Input) -> WebhookConfigured | None:
    """The config a record of the topic holds, None if it was removed. Raises Malformed."""
    return None if record.value is None else decode_as(WebhookConfigured, record.value)


class FollowedConfigs(Protocol):
    """What is needed of `kite_common.stream.table.Table`."""

    def get(self, key: str) -> WebhookConfigured | None:
        """The newest config of this team."""
        ...

    def readiness(self) -> Readiness:
        """Ready once the whole topic has been read."""
        ...

    async def refreshed(self, partition: int | None = None, timeout_s: float = ...) -> None:
        """Return once everything appended before the call can be seen. Raises Unavailable."""
        ...

    async def reached(self, partition: int, offset: int) -> None:
        """Return once the record at this offset can be seen."""
        ...


class TableWebhookConfigs:
    """Reads from the followed topic, writes to its log. Waits at most `timeout_s` for what it needs to see."""

    def __init__(self, table: FollowedConfigs, writer: ExclusiveWriter, place_of: Callable[[TeamId], Place], timeout_s: float) -> None:
        self._table, self._writer, self._place_of, self._timeout_s = table, writer, place_of, timeout_s

    async def current(self, team_id: TeamId) -> WebhookConfigured | None:
        """Includes what other gateways stored before the call. Raises Unavailable."""
        if not self._table.readiness().ready:
            raise Unavailable("the webhook configs are not all known yet")
        try:
            await self._table.refreshed(self._place_of(team_id).partition, timeout_s=self._timeout_s)
        except TimeoutError as error:
            raise Unavailable("the webhook configs cannot be read now") from error
        return self._table.get(team_id)

    async def store(self, config: WebhookConfigured, *, instead_of: WebhookConfigured | None, not_after_ms: int) -> bool:
        """Compare and set, over all gateways. Raises Unavailable (nothing written, also later) or OutcomeOpen."""
        team_id = TeamId(config.team_id)
        partition = self._place_of(team_id).partition
        async with self._writer.turn(partition) as turn:
            if await self.current(team_id) != instead_of:
                return False
            try:
                offset = await turn.append(encode(config), not_after_ms=not_after_ms)
            except ShutOut:
                # Who came next has ended this turn's transaction, one way or the other: now it can be read which.
                if await self.current(team_id) == config:
                    return True
                await asyncio.sleep(jitter() * _STAND_BACK_S)
                return False
        await self._reached(partition, offset)
        return True

    async def _reached(self, partition: int, offset: int) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._table.reached(partition, offset)
        except TimeoutError as error:
            # It is stored, but this process cannot show it yet: the caller must not be told the old state is current.
            raise OutcomeOpen("the config is stored and not yet visible") from error


class CipherSeal:
    """SecretSeal under the first of the keys."""

    def __init__(self, keys: Sequence[bytes], random_bytes: Callable[[int], bytes]) -> None:
        self._keys, self._random_bytes = keys, random_bytes

    def seal(self, secret: str, team_id: TeamId, config_id: WebhookConfigId) -> str | None:
        """None if no key is configured."""
        if not self._keys:
            return None
        return seal(self._keys[0], secret.encode(), secret_context(team_id, config_id), self._random_bytes(NONCE_BYTES))

    def holds(self, sealed: str, secret: str, team_id: TeamId, config_id: WebhookConfigId) -> bool:
        """Compared in constant time."""
        try:
            return hmac.compare_digest(unseal(self._keys, sealed, secret_context(team_id, config_id)), secret.encode())
        except Malformed:
            return False

    def new_secret(self) -> str:
        """Of the process's random source."""
        return new_webhook_secret(self._random_bytes(_SECRET_BYTES))
