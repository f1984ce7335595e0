"""The team's outbound webhook config: read, replace, rotate its secret, deactivate. Knows no HTTP.

Each change is decided on everything stored before it and stored only if that still is the newest: whoever was overtaken, by a request to
any gateway or while its own process stood still, reads and decides again. So changes are one after another, and none undoes another that
it did not see. Writes of one team take turns in this process, which spares them most of that.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal
from weakref import WeakValueDictionary

from kite_common.clock import Clock
from kite_common.events.webhooks import WebhookConfigured
from kite_common.ids import TeamId, WebhookConfigId
from kite_gateway.application.ports import Ids, SecretSeal, WebhookConfigs
from kite_gateway.domain.webhook_config import WantedConfig, WantedRotation, configured, deactivated, identity, rotated, rotated_again

# From before the current config is read to the hand-over of the new one, however often that was begun anew.
_HAND_OVER_MS: Final = 5_000

Refusal = Literal["no_config", "no_key"]
Decision = Callable[[WebhookConfigured | None, int], WebhookConfigured | Refusal]


@dataclass(frozen=True, slots=True)
class Rotated:
    """The config after a rotation, and the secret if the server made it."""

    config: WebhookConfigured
    secret: str | None = field(repr=False)


class ConfigureWebhook:
    """The use cases around one config."""

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
        new_id = self._ids.webhook_config_id(self._clock.unix_ms())

        def decide(current: WebhookConfigured | None, now_ms: int) -> WebhookConfigured | Refusal:
            sealed = self._seal.seal(wanted.secret, team_id, identity(current, new_id))
            return "no_key" if sealed is None else configured(current, wanted, team_id, new_id, sealed, now_ms)

        config = await self._change(team_id, decide)
        return config if isinstance(config, WebhookConfigured) else None

    async def rotate(self, team_id: TeamId, wanted: WantedRotation) -> Rotated | Refusal:
        """Put a new secret before the newest one, durable on return. Raises Unavailable, OutcomeOpen.

        A secret that is the newest one already changes nothing, so a given one may be sent again when no answer came.
        """
        secret = wanted.secret if wanted.secret is not None else self._seal.new_secret()

        def decide(current: WebhookConfigured | None, now_ms: int) -> WebhookConfigured | Refusal:
            if current is None or not current.active:
                return "no_config"
            config_id = WebhookConfigId(current.id)
            sealed = self._seal.seal(secret, team_id, config_id)
            if sealed is None:
                return "no_key"
            if self._seal.holds(current.secrets[0].sealed, secret, team_id, config_id):
                return rotated_again(current, wanted.overlap_s, now_ms)
            return rotated(current, sealed, wanted.overlap_s, now_ms)

        config = await self._change(team_id, decide)
        return Rotated(config, None if wanted.secret is not None else secret) if isinstance(config, WebhookConfigured) else config

    async def deactivate(self, team_id: TeamId) -> bool:
        """End the active config, durable on return; False if there is none. Raises Unavailable, OutcomeOpen."""

        def decide(current: WebhookConfigured | None, now_ms: int) -> WebhookConfigured | Refusal:
            return deactivated(current, now_ms) if current is not None and current.active else "no_config"

        return isinstance(await self._change(team_id, decide), WebhookConfigured)

    async def _change(self, team_id: TeamId, decide: Decision) -> WebhookConfigured | Refusal:
        """What was decided on the newest config, stored; a decision that changes nothing is not."""
        async with self._lock(team_id):
            not_after_ms = self._clock.unix_ms() + _HAND_OVER_MS
            while True:
                current = await self._configs.current(team_id)
                decided = decide(current, self._clock.unix_ms())
                if isinstance(decided, str) or decided == current:
                    return decided
                if await self._configs.store(decided, instead_of=current, not_after_ms=not_after_ms):
                    return decided

    def _lock(self, team_id: TeamId) -> asyncio.Lock:
        lock = self._locks.get(team_id)
        if lock is None:
            lock = self._locks[team_id] = asyncio.Lock()
        return lock
