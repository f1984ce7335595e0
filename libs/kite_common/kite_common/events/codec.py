"""Payload <-> record (key, headers, value). Sans-IO: imports no client, so bytes can be tested without a broker."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson
from pydantic import ValidationError

from kite_common.errors import Malformed
from kite_common.events.fact import Fact
from kite_common.events.registry import LATEST, UPCASTERS

# Tells apart what shares a topic: `event` = a CloudEvent, else the `kind` of a Fact (architecture, section 2).
RECORD_HEADER: Final = "kite-record"
EVENT_RECORD: Final = b"event"

Headers = Iterable[tuple[str, bytes]]
FactT = TypeVar("FactT", bound=Fact)


@dataclass(frozen=True, slots=True)
class Record:
    """What goes to the log: bytes only."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What ends a key of a compacted topic: a record without a value."""

    key: bytes
    value: None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def encode(fact: Fact) -> Record:
    """The record of a payload, in its newest version."""
    return Record(fact.key.encode(), fact.to_json(), ((RECORD_HEADER, fact.kind.encode()),))


def record_kind(headers: Headers) -> str:
    """What kind of record these headers announce. Raises Malformed when they do not say."""
    for name, value in headers:
        if name == RECORD_HEADER:
            return value.decode("ascii", "replace")
    raise Malformed(f"header {RECORD_HEADER} is missing")


def decode(headers: Headers, value: bytes | None) -> Fact:
    """The payload of a record, older versions made new. Raises Malformed for any bytes that are none."""
    kind = record_kind(headers)
    latest = LATEST.get(kind)
    if latest is None:
        raise Malformed(f"unknown record kind {kind[:64]!r}")
    return decode_as(latest, value)


def decode_as(expected: type[FactT], value: bytes | None) -> FactT:
    """The payload of a record whose kind is already known. Raises Malformed for any bytes that are none."""
    if value is None:
        raise Malformed("the record has no value")
    try:
        # The common case, the newest version, in one pass over the bytes.
        fact = expected.model_validate_json(value)
        if fact.v == expected.version:
            return fact
        return expected.model_validate(_upcast(expected.kind, expected.version, _object(value)), strict=False)
    except ValidationError as error:
        older = _older_version(value, expected)
        if older is None:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            raise Malformed(f"{expected.kind}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        try:
            return expected.model_validate(_upcast(expected.kind, expected.version, older), strict=False)
        except ValidationError as again:
            raise Malformed(f"{expected.kind}: not readable after upcasting: {again.error_count()} errors") from None


def _object(value: bytes) -> dict[str, Any]:
    """The payload as plain values. The parser of the models takes NaN, this one does not: no payload of ours has it."""
    try:
        payload = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise Malformed("not a JSON object")
    return payload


def _older_version(value: bytes, expected: type[Fact]) -> dict[str, Any] | None:
    try:
        payload = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    version = payload.get("v") if isinstance(payload, dict) else None
    return payload if isinstance(version, int) and version < expected.version else None


def _upcast(kind: str, version: int, payload: dict[str, Any]) -> dict[str, Any]:
    """Bring a payload from the version it names to `version`, one step at a time."""
    found = payload.get("v", 1)
    if not isinstance(found, int) or found > version:
        raise Malformed(f"{kind}: version {found!r} is newer than this reader ({version})")
    for step in range(found, version):
        upcaster = UPCASTERS.get((kind, step))
        if upcaster is None:
            raise Malformed(f"{kind}: no upcaster from version {step}")
        try:
            payload = upcaster(payload) | {"v": step + 1}
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # An upcaster trusts the old version's form; bytes that do not have it are no payload.
            raise Malformed(f"{kind}: version {step} cannot be upcast: {type(error).__name__}") from None
    return payload
