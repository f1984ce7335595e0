"""Bodies that clients compress, made plain again. The packages are those that clickhouse-connect brings and compresses with."""

import gzip
import importlib
import zlib
from collections.abc import Callable
from typing import Final

from kite_cli.local.clickhouse.statement import BadRequest


def decompressed(body: bytes, encoding: str) -> bytes:
    """The body of a request with this Content-Encoding. Raises BadRequest for what is not known, or not so encoded."""
    if not body or encoding in ("", "identity"):
        return body
    try:
        plain = _PLAIN_OF[encoding.lower()]
    except KeyError:
        raise BadRequest(117, "INCORRECT_DATA", f"Unknown Content-Encoding; known are {', '.join(_PLAIN_OF)}") from None
    try:
        return plain(body)
    except Exception as error:  # each of these packages has errors of its own, most of them plain RuntimeError or OSError
        raise BadRequest(117, "INCORRECT_DATA", f"The body is not {encoding}") from error


def _lz4(body: bytes) -> bytes:
    """All frames: clients send one for each block, and the package's own `decompress` stops behind the first."""
    frames = importlib.import_module("lz4.frame")
    plain, rest = [], body
    while rest:
        one = frames.LZ4FrameDecompressor()
        plain.append(one.decompress(rest))
        if not one.eof:
            raise EOFError("a frame is cut off")
        rest = one.unused_data or b""
    return b"".join(plain)


def _deflate(body: bytes) -> bytes:
    stream = zlib.decompressobj()
    plain = stream.decompress(body)
    if not stream.eof or stream.unused_data:
        raise EOFError("not one whole stream")
    return plain


def _zstd(body: bytes) -> bytes:
    return bytes(importlib.import_module("backports.zstd").decompress(body))


_PLAIN_OF: Final[dict[str, Callable[[bytes], bytes]]] = {
    "lz4": _lz4, "zstd": _zstd, "gzip": gzip.decompress, "deflate": _deflate,
}  # fmt: skip
