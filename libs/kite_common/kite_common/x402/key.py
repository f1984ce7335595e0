"""The key of a payment and everything that is derived from it: partition, public id, command ids, ids of what a bootstrap makes.

The key is public on the chain, so no secret is ever derived from it. Addresses and nonce are lower case in it: casing changes nothing.
"""

import base64
import hashlib
import uuid
from typing import Final

from kite_common import ids
from kite_common.events.payments import Authorization
from kite_common.ids import CommandId, EventId, LedgerEntryId, TeamId
from kite_common.log_position import partition_of
from kite_common.x402.networks import Asset

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "payments.kite")
_PAYMENT_ID_CHARS: Final = 26


def payment_key(asset: Asset, authorization: Authorization) -> str:
    """`network|asset|from|nonce`, lower case. The signature is not in it: two over the same authorization are the same payment."""
    return _key(asset, authorization.from_address, authorization.nonce)


def transfer_key(asset: Asset, payer: str, transaction: str, number: int) -> str:
    """The key of a transfer that used no authorization: `log:<transaction>:<number among its logs, from 0>` stands for the nonce.

    Not the log index, which counts through the block: after a reorganisation the same transfer would be another one.
    """
    return _key(asset, payer, f"log:{transaction}:{number}")


def partition_text(key: str) -> str:
    """What decides the partition: the key without its nonce, so that one payer has one owner."""
    return key.rpartition("|")[0]


def payment_partition(key: str, partitions: int) -> int:
    """The partition of everything about a payment key, in each of the payment topics."""
    return partition_of(partition_text(key).encode(), partitions)


def payment_id(key: str) -> str:
    """`pay_` and 26 characters: the name of a payment in answers and logs."""
    digest = hashlib.sha256(key.encode()).digest()
    return "pay_" + base64.b32encode(digest).decode().lower()[:_PAYMENT_ID_CHARS]


def command_id(key: str, seq: int) -> CommandId:
    """The id of the key's command number `seq`, from 1: credit, reversal, credit again."""
    return CommandId(f"{key}#{seq}")


def ledger_entry_of(key: str, seq: int) -> LedgerEntryId:
    """The ledger entry the key's command number `seq` leads to."""
    return LedgerEntryId(_uuid5(f"{key}#{seq}"))


def fingerprint(method: str, raw_path: bytes, raw_query: bytes, body: bytes) -> bytes:
    """SHA-256 of a request as received: each part after its length (8 bytes, big-endian), so no two requests share one.

    Headers are not in it. The query is without its `?`, empty if there is none.
    """
    digest = hashlib.sha256()
    for part in (method.upper().encode(), raw_path, raw_query, body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def idempotency_hash(identifier: str) -> str:
    """What is kept of an idempotency id: its hex SHA-256. Long ids are their sender's secret."""
    return hashlib.sha256(identifier.encode()).hexdigest()


def team_of(key: str) -> TeamId:
    """The team a bootstrap payment makes."""
    return ids.new_team_id(hashlib.sha256(b"kite:team:" + key.encode()).digest())


def subscription_of(key: str) -> str:
    """The subscription a bootstrap payment makes."""
    return _uuid5("subscription:" + key)


def endpoint_of(key: str) -> str:
    """The hook endpoint a bootstrap payment makes."""
    return _uuid5("endpoint:" + key)


def api_credential_of(key: str) -> str:
    """The id of the API key a bootstrap payment makes; its text is drawn, never derived."""
    return _uuid5("credential:api:" + key)


def hook_credential_of(key: str) -> str:
    """The id of the hook token a bootstrap payment makes; its text is drawn, never derived."""
    return _uuid5("credential:hook:" + key)


def event_of(key: str, credited_at_ms: int) -> EventId:
    """The event a top-up pays for: UUID v7 of the credit's time and bits of the key, the same for every repeat of the payment."""
    digest = hashlib.sha256(b"kite:event:" + key.encode()).digest()
    return ids.uuid7(credited_at_ms, int.from_bytes(digest, "big"))


def _key(asset: Asset, payer: str, nonce: str) -> str:
    return f"{asset.network}|{asset.address}|{payer}|{nonce}".lower()


def _uuid5(name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, name))
