"""Identifiers: distinct types, parsing, derivation from inputs. Draws no ids: random bits and times are arguments."""

import base64
import hashlib
import re
import uuid
from collections.abc import Sequence
from typing import Final, NewType

from kite_common.errors import Malformed

TeamId = NewType("TeamId", str)
EventId = NewType("EventId", str)
DeliveryId = NewType("DeliveryId", str)
WebhookConfigId = NewType("WebhookConfigId", str)
LedgerEntryId = NewType("LedgerEntryId", str)
CommandId = NewType("CommandId", str)
KeyPrefix = NewType("KeyPrefix", str)

# Root of all derived ids, so that equal inputs give equal ids in every process and version.
_KITE_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "getkite.sh")
_LEDGER_NAMESPACE: Final = uuid.uuid5(_KITE_NAMESPACE, "ledger")
_DELIVERY_NAMESPACE: Final = uuid.uuid5(_KITE_NAMESPACE, "delivery")
_SUBSCRIPTION_NAMESPACE: Final = uuid.uuid5(_KITE_NAMESPACE, "subscription")
_ENDPOINT_NAMESPACE: Final = uuid.uuid5(_KITE_NAMESPACE, "endpoint")
_NOTICE_NAMESPACE: Final = uuid.uuid5(_KITE_NAMESPACE, "notice")

# Where transfers nobody has claimed yet are credited; no text of a caller is ever parsed to it.
UNATTRIBUTED: Final = TeamId("_unattributed")

_TEAM_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_-]{0,127}")
_SOURCE: Final = re.compile(r"(?!kite$)[a-z0-9][a-z0-9-]{0,63}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def parse_team_id(text: str) -> TeamId:
    """A team id as it stands in URLs: `team_...`, `clerk-user:user_abc`; 1 to 128 of `[A-Za-z0-9:_-]`.

    Raises Malformed for anything else.
    """
    if not _TEAM_ID.fullmatch(text):
        raise Malformed("not a team id")
    return TeamId(text)


def is_source(text: str) -> bool:
    """Whether `text` may name an endpoint of a team: 1 to 64 of `[a-z0-9-]`, not beginning with a hyphen, and not `kite`."""
    return _SOURCE.fullmatch(text) is not None


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its 36 character form."""
    return _UUID.fullmatch(text) is not None


def credential_key(prefix: str, secret_hash: str) -> str:
    """The key of a credential's record: the prefix, and 16 digits of the hash of its text.

    Under the prefix alone two texts drawn with the same 8 digits, which some pair of 80,000 has, would be one record: the later one would
    end the other.
    """
    return f"{prefix}.{secret_hash[:16]}"


def uuid7(unix_ms: int, random_bits: int) -> EventId:
    """The UUID version 7 of a time and 74 random bits (RFC 9562, section 5.7), as its 36 character text.

    `unix_ms` is milliseconds since 1970, below 2^48; of `random_bits` the lowest 74 are used.
    """
    rand_a, rand_b = (random_bits >> 62) & 0xFFF, random_bits & 0x3FFF_FFFF_FFFF_FFFF
    h = f"{(unix_ms << 80) | 0x7000 << 64 | rand_a << 64 | 0x8000_0000_0000_0000 | rand_b:032x}"
    return EventId(f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}")


def time_of(event_id: str) -> int | None:
    """When a UUID version 7 was made, milliseconds since 1970; None for every other text."""
    try:
        found = uuid.UUID(event_id)
    except ValueError:
        return None
    return found.int >> 80 if found.version == 7 else None


def new_team_id(random_bytes: bytes) -> TeamId:
    """`team_` and 26 lower-case base32 characters of 16 bytes (drawn, or derived from a payment key)."""
    return TeamId("team_" + base64.b32encode(random_bytes[:16]).decode().rstrip("=").lower())


def ledger_entry_of_event(event_id: EventId) -> LedgerEntryId:
    """The ledger entry an accepted event leads to: the same fact however often the event is read."""
    return LedgerEntryId(_uuid5(_LEDGER_NAMESPACE, "event:" + event_id))


def ledger_entry_of_command(command_id: CommandId) -> LedgerEntryId:
    """The ledger entry of a credit, debit or reversal that was ordered by a command."""
    return LedgerEntryId(_uuid5(_LEDGER_NAMESPACE, "command:" + command_id))


def ledger_entry_of_debt(command_id: CommandId) -> LedgerEntryId:
    """The ledger entry by which a credit pays what an earlier reversal could not take."""
    return LedgerEntryId(_uuid5(_LEDGER_NAMESPACE, "debt:" + command_id))


def subscription_change(team_id: TeamId, subscription_id: str, revision: int, plan_id: str, provider: str) -> CommandId:
    """The command that makes a subscription another one: the same for every repeat from the same state."""
    return CommandId(_uuid5(_SUBSCRIPTION_NAMESPACE, f"change:{team_id}:{subscription_id}:{revision}:{plan_id}:{provider}"))


def delivery_of(event_id: EventId, config_id: WebhookConfigId | None) -> DeliveryId:
    """The delivery of an event to one webhook config (None: the fact that there was no endpoint)."""
    return DeliveryId(_uuid5(_DELIVERY_NAMESPACE, f"{event_id}:{config_id or ''}"))


def batch_of(event_ids: Sequence[EventId]) -> str:
    """The id of a request that carries these events, in this order; of a single one its own."""
    return event_ids[0] if len(event_ids) == 1 else _uuid5(_DELIVERY_NAMESPACE, "batch:" + ",".join(event_ids))


def redrive_of(delivery_id: DeliveryId, redrives: int) -> CommandId:
    """The order of a delivery's redrive number `redrives`, from 1: the same for every repeat of the request."""
    return CommandId(_uuid5(_DELIVERY_NAMESPACE, f"redrive:{delivery_id}:{redrives}"))


def subscription_of(command_id: CommandId) -> str:
    """The subscription that a command creates."""
    return _uuid5(_SUBSCRIPTION_NAMESPACE, command_id)


def notice_of(team_id: TeamId, cause: str) -> EventId:
    """The event id of a notice Kite puts into a team's stream, once per cause."""
    return EventId(_uuid5(_NOTICE_NAMESPACE, f"{team_id}:{cause}"))


def endpoint_of(team_id: TeamId, source: str) -> str:
    """The endpoint a provider delivers to: the same whoever names it first, and however often it is closed and opened."""
    return _uuid5(_ENDPOINT_NAMESPACE, f"{team_id}/{source}")


def _uuid5(namespace: uuid.UUID, name: str) -> str:
    """RFC 9562, section 5.5, without building a UUID object: this stands on billing's hot path."""
    digest = hashlib.sha1(namespace.bytes + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"
