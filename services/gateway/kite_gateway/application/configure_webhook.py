"""The team's outbound webhook config: read, replace, deactivate. Knows no HTTP.

Writes of one team happen one after another in this process, and each starts from everything stored before it; two gateways that write
at the same moment leave the later one's config. A moment it is: what was read longer ago is not written over any more, also by a process
that stood still.
"""

import asyncio
from typing import Final
from weakref import WeakValueDictionary

from kite_common.clock import Clock
from kite_common.events.webhooks import WebhookConfigured
from kite_common.ids import TeamId
from kite_gateway.application.ports import Ids, SecretSeal, WebhookConfigs
from kite_gateway.domain.webhook_config import WantedConfig, configured, deactivated, identity

# From before the current config is read to the hand-over of the new one.
_HAND_OVER_MS: Final = 5_000


class ConfigureWebhook:
    """The three use cases around one config."""

    def __init__(self, configs: WebhookConfigs, seal: SecretSeal, clock: Clock, ids: Ids) -> None:
        self._configs, self._seal, self._clock, self._ids = configs, seal, clock, ids
        # Locks exist only while somebody holds or awaits them.
        self._locks: WeakValueDictionary[TeamId, asyncio.Lock] = WeakValueDictionary()

    async def read(self, team_id: TeamId) -> WebhookConfigured | None:
        """The active config, None if there is none. Raises Unavailable."""
        current = await self._configs.current(team_id)
        return current if current is not None and current.active else None

    async def replace(self, team_id: TeamId, wanted: WantedConfig) -> WebhookConfigured | None:
        """Create or replace the config, durable on return; None if the server cannot seal secrets. Raises Unavailable, OutcomeOpen."""
        async with self._lock(team_id):
            now_ms = self._clock.unix_ms()
            current = await self._configs.current(team_id)
            new_id = self._ids.webhook_config_id(now_ms)
            sealed = self._seal.seal(wanted.secret, team_id, identity(current, new_id))
            if sealed is None:
                return None
            config = configured(current, wanted, team_id, new_id, sealed, now_ms)
            await self._configs.store(config, not_after_ms=now_ms + _HAND_OVER_MS)
            return config

    async def deactivate(self, team_id: TeamId) -> bool:
        """End the active config, durable on return; False if there is none. Raises Unavailable, OutcomeOpen."""
        async with self._lock(team_id):
            now_ms = self._clock.unix_ms()
            current = await self._configs.current(team_id)
            if current is None or not current.active:
                return False
            await self._configs.store(deactivated(current, now_ms), not_after_ms=now_ms + _HAND_OVER_MS)
            return True

    def _lock(self, team_id: TeamId) -> asyncio.Lock:
        lock = self._locks.get(team_id)
        if lock is None:
            lock = self._locks[team_id] = asyncio.Lock()
        return lock
