"""Where the brokers are, and the client settings all parts share. Connects to nothing."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.produce import ProduceRequest

from kite_common.errors import Malformed
from kite_common.events.codec import Record, Tombstone
from kite_common.topics import MAX_MESSAGE_BYTES

# The rest of what the topics take is for the head of the batch.
MAX_BATCH_BYTES: Final = MAX_MESSAGE_BYTES - 1024
_CLOSE_S: Final = 2.0
_REQUEST_TIMEOUT_MS: Final = 10_000
# Quick enough to come back at once after a broker's restart, slow enough not to spin while it is away.
_RETRY_BACKOFF_MS: Final = 20


@dataclass(frozen=True, slots=True)
class Kafka:
    """A cluster: `bootstrap` is "host:port" or several of them with commas, `client_id` names this process in the brokers' logs."""

    bootstrap: str
    client_id: str = "kite"

    def producer(self, **overrides: Any) -> AIOKafkaProducer:
        """A producer that is not started: idempotent, acknowledged by all replicas in sync, nothing lingers."""
        settings: dict[str, Any] = {
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 0,
            "max_batch_size": MAX_MESSAGE_BYTES,
            "max_request_size": 8 * MAX_MESSAGE_BYTES,
            "request_timeout_ms": _REQUEST_TIMEOUT_MS,
            "retry_backoff_ms": _RETRY_BACKOFF_MS,
        }
        return AIOKafkaProducer(**self._common(), **settings | overrides)

    def consumer(self, *topics: str, **overrides: Any) -> AIOKafkaConsumer:
        """A consumer that is not started: reads committed records, from the beginning where no position is known, commits nothing."""
        settings: dict[str, Any] = {
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            "max_partition_fetch_bytes": 2 * MAX_MESSAGE_BYTES,
            "request_timeout_ms": _REQUEST_TIMEOUT_MS,
            "retry_backoff_ms": 5 * _RETRY_BACKOFF_MS,
        }
        return AIOKafkaConsumer(*topics, **self._common(), **settings | overrides)

    def admin(self) -> AIOKafkaAdminClient:
        """An admin client that is not started."""
        return AIOKafkaAdminClient(**self._common(), request_timeout_ms=3 * _REQUEST_TIMEOUT_MS)

    def _common(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.bootstrap, "client_id": self.client_id}


def batch_size_of(key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...]) -> int:
    """At most how many bytes a record takes in a batch. Raises Malformed for one that no batch could hold."""
    size = 64 + len(key or b"") + len(value or b"") + sum(16 + len(name) + len(content) for name, content in headers)
    if size > MAX_BATCH_BYTES:
        raise Malformed(f"a record of {size} bytes is larger than the log takes ({MAX_BATCH_BYTES})")
    return size


def size_together(records: Sequence[Record | Tombstone]) -> int:
    """At most how many bytes these take side by side. Raises Malformed if no batch could hold all of them."""
    size = sum(batch_size_of(record.key, record.value, record.headers) for record in records)
    if size > MAX_BATCH_BYTES:
        raise Malformed(f"{len(records)} records of {size} bytes are larger together than the log takes at once ({MAX_BATCH_BYTES})")
    return size


class Appendable(Protocol):
    """What a batch takes: a record, or the end of a key."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]: ...


def appended(batch: Any, record: Appendable) -> bool:
    """Append to a batch of `AIOKafkaProducer.create_batch`; False if it is full: then the record is not in it, nor will any other be."""
    return batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers)) is not None


class SentTooLate(KafkaError):  # type: ignore[misc]  # the library is untyped
    """A batch that was not sent, and is not retried, because its time was over."""

    retriable = False


def send_only_while(producer: AIOKafkaProducer, allowed: Callable[[], bool]) -> None:
    """Ask `allowed` right before each batch goes out, also before each of the library's own retries; False fails the batch (SentTooLate).

    An idempotent producer never lets a batch expire, and its timers stand still while the process does: the library has no public place
    for this question, hence its client's `send` is replaced.
    """
    client = producer.client
    send = client.send

    async def ask_and_send(node_id: int, request: Any, **kwargs: Any) -> Any:
        if isinstance(request, ProduceRequest):
            # Connecting may take seconds; afterwards `send` writes without waiting for anything.
            await client.ready(node_id, **kwargs)
            if not allowed():
                raise SentTooLate
        return await send(node_id, request, **kwargs)

    client.send = ask_and_send


async def abandon(producer: AIOKafkaProducer) -> None:
    """Close the connections and forget the queue; nothing that was handed over is sent any more.

    `stop()` would first send what is queued, and the library has no public way to drop it: hence the private names.
    """
    producer._closed = True
    sending = producer._sender.sender_task
    if sending is not None:
        sending.cancel()
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            await producer.client.close()
    if sending is not None:
        await asyncio.wait({sending}, timeout=_CLOSE_S)
