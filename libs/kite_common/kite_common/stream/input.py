"""One record as read from a topic. Decodes nothing."""

from typing import Any, NamedTuple


class Input(NamedTuple):
    """`timestamp_ms` is when the broker appended it (LogAppendTime), milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def input_of(record: Any) -> Input:
    """The client library's record as ours."""
    return Input(record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
