"""WebhookConfigs over their compacted topic, and the sealing of signing secrets. Secrets are plain only on the way into `seal`."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from kite_common.crypto import NONCE_BYTES, seal
from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.codec import decode_as, encode
from kite_common.events.webhooks import WebhookConfigured
from kite_common.ids import TeamId, WebhookConfigId
from kite_common.runtime.component import Readiness
from kite_common.stream.group import Input
from kite_gateway.adapters.message_log import Publishes
from kite_gateway.adapters.place import Place


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

    def __init__(self, table: FollowedConfigs, publisher: Publishes, place_of: Callable[[TeamId], Place], timeout_s: float) -> None:
        self._table, self._publisher, self._place_of, self._timeout_s = table, publisher, place_of, timeout_s

    async def current(self, team_id: TeamId) -> WebhookConfigured | None:
        """Includes what other gateways stored before the call. Raises Unavailable."""
        if not self._table.readiness().ready:
            raise Unavailable("the webhook configs are not all known yet")
        try:
            await self._table.refreshed(self._place_of(team_id).partition, timeout_s=self._timeout_s)
        except TimeoutError as error:
            raise Unavailable("the webhook configs cannot be read now") from error
        return self._table.get(team_id)

    async def store(self, config: WebhookConfigured, *, not_after_ms: int) -> None:
        """Durable and visible here on return. Raises Unavailable (nothing written, also later) or OutcomeOpen."""
        partition = self._place_of(TeamId(config.team_id)).partition
        offset = await self._publisher.publish(partition, (encode(config),), not_after_ms=not_after_ms)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._table.reached(partition, offset)
        except TimeoutError as error:
            # It is stored, but this process cannot show it yet: the caller must not be told the old state is current.
            raise OutcomeOpen("the config is stored and not yet visible") from error


class CipherSeal:
    """SecretSeal under the first of the keys; the associated data are team id and config id, one after the other."""

    def __init__(self, keys: Sequence[bytes], random_bytes: Callable[[int], bytes]) -> None:
        self._keys, self._random_bytes = keys, random_bytes

    def seal(self, secret: str, team_id: TeamId, config_id: WebhookConfigId) -> str | None:
        """None if no key is configured."""
        if not self._keys:
            return None
        return seal(self._keys[0], secret.encode(), (team_id + config_id).encode(), self._random_bytes(NONCE_BYTES))
