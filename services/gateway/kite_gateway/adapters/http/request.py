"""Reading requests: bearer token, team, body, JSON, Idempotency-Key. Bounded in size and time; stores nothing, knows no route."""

import asyncio
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from starlette.types import Receive

from kite_common.errors import ApiError, Malformed
from kite_gateway.adapters.http.context import Context
from kite_gateway.domain.admission import Claim
from kite_gateway.domain.json_value import read_json

MAX_BODY_BYTES: Final = 65_536
# A client that trickles its body holds a place among the requests in flight no longer than this.
_BODY_TIMEOUT_S: Final = 15.0
# The same of whom nobody knows: no key, no token.
STRANGERS_S: Final = 1.0
_CROWDED_RETRY_S: Final = 1
_CLOSE: Final = {"Connection": "close"}
_IDEMPOTENCY_KEY: Final = re.compile(rb"[!-~]{1,255}")


class ClientGone(Exception):
    """The client hung up before its request was complete: nobody waits for an answer."""


def bearer_token(head: Mapping[bytes, bytes]) -> str:
    """The text behind `Bearer` (any case) in Authorization; empty if there is none."""
    scheme, _, token = head.get(b"authorization", b"").partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else ""


def team_id_of(query_string: bytes) -> str | None:
    """The query parameter `team_id`, percent-encoded or raw; None if it is missing. The first one counts."""
    for part in query_string.split(b"&"):
        name, _, raw = part.partition(b"=")
        if unquote_to_bytes(name) == b"team_id":
            return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8", "replace")
    return None


async def read_body(
    receive: Receive, context: Context, max_bytes: int = MAX_BODY_BYTES, timeout_s: float = _BODY_TIMEOUT_S
) -> bytes:
    """The request body of at most `max_bytes`, as it is: not compressed.

    Raises ApiError: payload_too_large, then unsupported_media_type (order of checks: size before syntax), overloaded, or ClientGone.
    """
    body = await read_bytes(receive, context, max_bytes, timeout_s)
    refuse_encoding(context.head)
    return body


async def read_bytes(
    receive: Receive, context: Context, max_bytes: int = MAX_BODY_BYTES, timeout_s: float = _BODY_TIMEOUT_S
) -> bytes:
    """The bytes of a request's body, whatever their encoding. Content-Length alone is enough to refuse; a stream is cut off at the limit.

    Raises ApiError payload_too_large, overloaded if it was slow and others had to have its place, or ClientGone.
    """
    refuse_size(context.head, max_bytes)
    body = await _receive_all(receive, context, max_bytes, timeout_s)
    if len(body) > max_bytes:
        raise payload_too_large(max_bytes)
    return body


def refuse_size(head: Mapping[bytes, bytes], max_bytes: int) -> None:
    """Raise ApiError payload_too_large for a body that is announced as larger than that."""
    announced = head.get(b"content-length", b"").lstrip(b"0")
    # Ten digits are too large already, and int() refuses numbers of thousands.
    if announced.isdigit() and (len(announced) > 9 or int(announced) > max_bytes):
        raise payload_too_large(max_bytes)


def refuse_encoding(head: Mapping[bytes, bytes]) -> None:
    """Raise ApiError unsupported_media_type for a compressed body: nobody would read what was signed or sent."""
    if head.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
        raise ApiError("unsupported_media_type")


def payload_too_large(max_bytes: int) -> ApiError:
    """The refusal of a body above a limit."""
    return ApiError("payload_too_large", f"The body must not be larger than {max_bytes} bytes.", {"max_bytes": max_bytes})


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises ApiError invalid_json for anything else, also for what could not be passed on unchanged.
    """
    try:
        value = read_json(body)
    except Malformed as error:
        raise ApiError("invalid_json", str(error)) from None
    if not isinstance(value, dict):
        raise ApiError("invalid_json", "The body must be a JSON object.")
    return value


def idempotency_claim(head: Mapping[bytes, bytes], scope: bytes, body: bytes) -> Claim | None:
    """The claim of the Idempotency-Key within a scope of the team, None without the header. Raises ApiError."""
    key = head.get(b"idempotency-key")
    if key is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise ApiError("invalid_idempotency_key")
    # Digests, so that any header text makes a key of fixed size and no body stands in Redis.
    return Claim(hashlib.sha256(scope + b"\n" + key).hexdigest()[:32], hashlib.sha256(body).hexdigest())


async def _receive_all(receive: Receive, context: Context, max_bytes: int, timeout_s: float) -> bytes:
    """What is sent, cut off behind the limit; the time counts from the call on, also if no byte ever comes."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s) as timeout:
            with context.bodies.place(context.whose, timeout) as place:
                while size <= max_bytes:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunk: bytes = message.get("body", b"")
                    chunks.append(chunk)
                    size += len(chunk)
                    if not message.get("more_body", False):
                        break
    except TimeoutError:
        if place.given_up:
            raise ApiError("overloaded", retry_after_s=_CROWDED_RETRY_S, headers=_CLOSE) from None
        raise ApiError("invalid_json", f"The body did not arrive within {timeout_s:.0f} seconds.", headers=_CLOSE) from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
