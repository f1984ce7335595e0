"""Fresh ids from the machine's random source."""

from kite_common.ids import EventId, WebhookConfigId, uuid7
from kite_common.runtime.system import random_bits


class RandomIds:
    """UUIDs version 7: the time and 74 random bits."""

    def event_id(self, unix_ms: int) -> EventId:
        """The id of an event received at that time."""
        return uuid7(unix_ms, random_bits(74))

    def webhook_config_id(self, unix_ms: int) -> WebhookConfigId:
        """The id of a config created at that time."""
        return WebhookConfigId(uuid7(unix_ms, random_bits(74)))
