"""Records of the log as checks see them: their header and their JSON, nothing validated. Pure."""

from typing import Any, Protocol

import orjson

from kite_common.events.codec import RECORD_HEADER


class LogRecord(Protocol):
    """What is needed of a consumed record; `timestamp` is its append time in milliseconds."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Any: ...


def kind_of(record: LogRecord) -> bytes:
    """The content of the header `kite-record`; empty if there is none."""
    # All writers put it first.
    for name, content in record.headers:
        if name == RECORD_HEADER:
            return bytes(content)
    return b""


def fields_of(record: LogRecord) -> dict[str, Any]:
    """The record's JSON object, empty if it is none. Models are not built: they would take most of the time, and writers have them."""
    try:
        fields = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def team_of(record: LogRecord) -> str:
    """The team a record stands under."""
    return (record.key or b"").decode("utf-8", "replace")


class Place:
    """A partition of a topic, for naming positions."""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic, self.partition = topic, partition
        self._prefix = f"{topic}-{partition}@"

    def at(self, offset: int) -> str:
        """`topic-partition@offset`."""
        return f"{self._prefix}{offset}"
