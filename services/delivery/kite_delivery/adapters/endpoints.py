"""Endpoints over the table of kite.webhooks. Secrets are unsealed in memory only, for as long as their config stands; never logged.

Delivery writes kite.webhooks in one single case, a receiver that answered 410: the one exception to "one writer per topic". It does so as
gateways do (`kite_common.stream.exclusive`): looks in its turn whether the config is still the one it saw, and writes only if nobody else
did in between. So it never switches off what a PUT or a rotation has stored meanwhile.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from kite_common.crypto import SigningKey, team_signing_key, unseal
from kite_common.errors import Malformed, OutcomeOpen, Unavailable
from kite_common.events.codec import decode_as, encode
from kite_common.events.webhooks import WebhookConfigured, secret_context
from kite_common.ids import TeamId, WebhookConfigId
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import jitter
from kite_common.stream.exclusive import ExclusiveWriter, ShutOut
from kite_delivery.domain.delivery import Batching, Endpoint

log = get_logger("kite.delivery")

_AGAIN_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class ConfigAt:
    """A config and when the log took it, milliseconds since 1970."""

    config: WebhookConfigured
    appended_ms: int

    @property
    def endpoint(self) -> Endpoint:
        """What the domain needs of it, without secrets.

        An update keeps `created_at`, and only the last record of a team survives compaction: so an active config counts from
        its creation, or from its record if that is earlier than the writer's clock says.
        """
        config = self.config
        return Endpoint(
            team_id=TeamId(config.team_id),
            config_id=WebhookConfigId(config.id),
            url=config.url,
            event_types=config.event_types,
            active=config.active,
            active_since_ms=self.appended_ms if config.created_at == config.updated_at else min(self.appended_ms, config.created_at),
            changed_ms=self.appended_ms,
            updated_at=config.updated_at,
            signature=config.signature,
            batching=Batching(config.batch_max_events, config.batch_max_wait_ms) if config.mode == "batch" else None,
        )


class AppendedRecord(Protocol):
    """What is needed of `kite_common.stream.group.Input`."""

    @property
    def value(self) -> bytes | None: ...
    @property
    def timestamp_ms(self) -> int: ...


class ConfigTable(Protocol):
    """What is needed of `kite_common.stream.table.Table`."""

    def get(self, key: str) -> ConfigAt | None: ...
    async def own(self, partition: int) -> None: ...
    async def release(self, partition: int) -> None: ...
    async def refreshed(self, partition: int | None = None) -> None: ...


def decode_config(record: AppendedRecord) -> ConfigAt | None:
    """The table's value of a record; None for a deleted one. Raises Malformed: then the config stays what it was as far as known here."""
    return None if record.value is None else ConfigAt(decode_as(WebhookConfigured, record.value), record.timestamp_ms)


class TableEndpoints:
    """The configs of the partitions this process owns, for events or for retries."""

    def __init__(
        self, table: ConfigTable, writer: ExclusiveWriter, cipher_keys: Sequence[bytes], signing_roots: Sequence[bytes] = ()
    ) -> None:
        self._table, self._writer = table, writer
        self._cipher_keys, self._signing_roots = tuple(cipher_keys), tuple(signing_roots)
        self._endpoints: dict[str, tuple[ConfigAt, Endpoint]] = {}
        self._unsealed: dict[str, tuple[WebhookConfigured, tuple[tuple[str, int | None], ...]]] = {}
        self._owners: Counter[int] = Counter()
        # One a partition: a table that takes long to load keeps nobody else from coming or going.
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def owned(self, partition: int) -> AsyncIterator[None]:
        """Follow the partition's configs while inside. Two groups may own it at the same time: the last one out lets it go."""
        async with self._turns[partition]:
            if not self._owners[partition]:
                await self._table.own(partition)
            self._owners[partition] += 1
        try:
            yield
        finally:
            await self._let_go(partition)

    async def refreshed(self, partition: int) -> None:
        """Wait until every config written before this call is seen. Raises Unavailable if the log is away."""
        await self._table.refreshed(partition)

    def of(self, team_id: TeamId) -> Endpoint | None:
        """The team's config, also an inactive one."""
        held = self._table.get(team_id)
        if held is None:
            self._endpoints.pop(team_id, None)
            return None
        known = self._endpoints.get(team_id)
        if known is not None and known[0] is held:
            return known[1]
        endpoint = held.endpoint
        if not endpoint.active:
            self._unsealed.pop(team_id, None)
        self._endpoints[team_id] = (held, endpoint)
        return endpoint

    def secrets(self, endpoint: Endpoint, now_ms: int) -> tuple[str, ...]:
        """The secrets that live now, newest first. Raises Malformed if the config changed hands or its secrets cannot be opened."""
        held = self._table.get(endpoint.team_id)
        if held is None or held.config.id != endpoint.config_id:
            raise Malformed("the config is no longer there")
        known = self._unsealed.get(endpoint.team_id)
        if known is None or known[0] is not held.config:
            known = (held.config, self._unseal(held.config))
            self._unsealed[endpoint.team_id] = known
        return tuple(secret for secret, expires_at in known[1] if expires_at is None or now_ms < expires_at)

    def signing_keys(self, endpoint: Endpoint) -> Sequence[SigningKey]:
        """The team's keys for an endpoint that asks for them. Raises Malformed without one: what was asked for is not left out."""
        if endpoint.signature == "v1":
            return ()
        if not self._signing_roots:
            log.error("delivery.signing_key_missing", team_id=endpoint.team_id, webhook_config_id=endpoint.config_id)
            raise Malformed("no key for v1a is configured")
        return [team_signing_key(root, endpoint.team_id) for root in self._signing_roots]

    async def deactivate(self, endpoint: Endpoint, partition: int, now_ms: int) -> bool:
        """Switch the config off if it still is the one that was seen, however long the log is away.

        The attempt is on record already, so giving up here would make it again. A try whose outcome is open is looked at by the next one.
        """
        while True:
            try:
                return await self._switched_off(endpoint, partition, now_ms)
            except (Unavailable, ShutOut, OutcomeOpen, TimeoutError) as error:
                log.warning("delivery.endpoint_not_yet_deactivated", partition=partition, reason=type(error).__name__)
                await asyncio.sleep(_AGAIN_S * (1 + jitter()))

    async def _switched_off(self, endpoint: Endpoint, partition: int, now_ms: int) -> bool:
        # A turn costs a transaction. A receiver that is gone answers 410 to everything under way: the first takes one.
        if self._as_seen(endpoint) is None:
            return False
        async with self._writer.turn(partition) as turn:
            await self._table.refreshed(partition)
            config = self._as_seen(endpoint)
            if config is None:
                return False
            off = config.model_copy(update={"active": False, "secrets": (), "updated_at": max(now_ms, config.updated_at + 1)})
            await turn.append(encode(off))
        log.info("delivery.endpoint_deactivated", team_id=endpoint.team_id, webhook_config_id=endpoint.config_id, reason="gone")
        return True

    def _as_seen(self, endpoint: Endpoint) -> WebhookConfigured | None:
        """The active config if it is the one that was seen. A table only moves forward: what it has passed will not come back."""
        held = self._table.get(endpoint.team_id)
        config = None if held is None else held.config
        if config is None or not config.active or (config.id, config.updated_at) != (endpoint.config_id, endpoint.updated_at):
            return None
        return config

    def _unseal(self, config: WebhookConfigured) -> tuple[tuple[str, int | None], ...]:
        context = secret_context(config.team_id, config.id)
        try:
            return tuple((unseal(self._cipher_keys, one.sealed, context).decode(), one.expires_at) for one in config.secrets)
        except Malformed as error:
            log.error(  # noqa: TRY400 - a stack tells nothing that the problem does not
                "delivery.secret_unreadable", team_id=config.team_id, webhook_config_id=config.id, problem=str(error)
            )
            raise

    async def _let_go(self, partition: int) -> None:
        async with self._turns[partition]:
            self._owners[partition] -= 1
            if not self._owners[partition]:
                del self._owners[partition]
                await self._table.release(partition)
                self._forget_released()

    def _forget_released(self) -> None:
        """Drop what was unsealed for teams whose configs are no longer followed."""
        for team_id in [team_id for team_id in self._endpoints if self._table.get(team_id) is None]:
            del self._endpoints[team_id]
            self._unsealed.pop(team_id, None)
