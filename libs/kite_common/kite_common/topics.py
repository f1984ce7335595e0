"""Every topic Kite uses: name, key, cleanup, retention, what is in it. Creates nothing (`kitectl topics apply` does).

All topics about a team are keyed by team id and have the same partition count, so whoever owns partition p is the only
one that changes those teams (architecture, section 2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

_DAY_MS: Final = 86_400_000
# Of brokers: how long they keep the positions of a group that does not run. As long as records: a group that comes back later finds nothing
# that it has read before.
OFFSETS_RETENTION_MINUTES: Final = 90 * 24 * 60
# Broker limit per record batch. One group commit of the gateway is at most 768 KiB; a lone pair with a 64 KiB body fits many times.
MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `retention_ms` None keeps records for ever (compaction still removes replaced ones)."""

    name: str
    key: str
    cleanup: Literal["delete", "compact"]
    retention_ms: int | None
    holds: str

    def config(self, replication: int) -> dict[str, str]:
        """The topic's settings as Kafka writes them, for `replication` copies."""
        settings = {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(-1 if self.retention_ms is None else self.retention_ms),
            "message.timestamp.type": "LogAppendTime",
            "min.insync.replicas": str(max(1, replication - 1)),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
        }
        if self.cleanup == "compact":
            # Restores read the whole topic: compact early and often, so that it stays near one record per key.
            settings |= {"segment.ms": "3600000", "max.compaction.lag.ms": "3600000", "min.cleanable.dirty.ratio": "0.2"}
        return settings


EVENTS: Final = Topic(
    "kite.events", "team_id", "delete", 90 * _DAY_MS,
    "CloudEvents (header kite-record=event) and the usage event of each (kite-record=usage), side by side in one batch",
)
COMMANDS: Final = Topic(
    "kite.commands", "team_id", "delete", 90 * _DAY_MS, "account commands, each with an id that makes a repeat harmless"
)
ACCOUNTS: Final = Topic(
    "kite.accounts", "team_id", "compact", None, "account snapshots, and per partition the marker with the input positions they stand for"
)
LEDGER: Final = Topic("kite.ledger", "team_id", "delete", None, "one entry per charged event, credit or reversal; ids derived")
CREDENTIALS: Final = Topic(
    "kite.credentials", "key prefix.16 digits of the hash", "compact", None,
    "API keys and hook tokens: hash, team, permissions; never the secret",
)
ENDPOINTS: Final = Topic(
    "kite.endpoints", "team_id/source", "compact", None,
    "endpoints that providers deliver to; their secrets sealed, their tokens in kite.credentials",
)
ERASURES: Final = Topic(
    "kite.erasures", "team_id", "compact", None, "teams that are erased, for ever: the archive takes nothing of them any more"
)
PAYMENTS: Final = Topic(
    "kite.payments", "payment key (partition: without its nonce)", "delete", 90 * _DAY_MS,
    "inbox of the payments processor: submissions, credits applied, what the chain scanner saw",
)
PAYMENT_EVENTS: Final = Topic(
    "kite.payments.events", "payment key (partition: without its nonce)", "delete", 400 * _DAY_MS,
    "every step of every payment, no signatures",
)
PAYMENT_STATES: Final = Topic(
    "kite.payments.state", "payment key (partition: without its nonce)", "compact", None,
    "the record of each payment key after its newest step, and per partition the marker with the input positions they stand for",
)
WEBHOOKS: Final = Topic("kite.webhooks", "team_id", "compact", None, "outbound webhook configs; secrets sealed")
DELIVERIES: Final = Topic("kite.deliveries", "team_id", "delete", 90 * _DAY_MS, "every attempt and every final outcome of a delivery")
DELIVERY_COMMANDS: Final = Topic(
    "kite.deliveries.commands", "team_id", "delete", 90 * _DAY_MS, "orders to deliver an event again, or a test event; with its bytes"
)
DEAD_LETTERS: Final = Topic(
    "kite.dead-letters", "team_id", "delete", None, "what could not be processed or delivered: reason, origin position, original bytes"
)
RETRY_TIERS: Final = 6
RETRIES: Final = tuple(
    Topic(f"kite.deliveries.retry.{tier}", "team_id", "delete", 90 * _DAY_MS, f"deliveries parked in delay tier {tier}")
    for tier in range(1, RETRY_TIERS + 1)
)

ALL: Final = (
    EVENTS, COMMANDS, ACCOUNTS, LEDGER, CREDENTIALS, ENDPOINTS, ERASURES, PAYMENTS, PAYMENT_EVENTS, PAYMENT_STATES, WEBHOOKS,
    DELIVERIES, DELIVERY_COMMANDS, DEAD_LETTERS, *RETRIES,
)  # fmt: skip
BY_NAME: Final[Mapping[str, Topic]] = {topic.name: topic for topic in ALL}
