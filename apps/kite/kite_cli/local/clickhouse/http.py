"""ClickHouse's HTTP interface: a request -> a question for the engine -> an answer with ClickHouse's headers and statuses. No SQL of ours.

Answers are never compressed: they stay on this machine. There are no users, no sessions, and no progress while a statement runs.
"""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from kite_cli.local.clickhouse.compression import decompressed
from kite_cli.local.clickhouse.engine import Answer, Engine, EngineError
from kite_cli.local.clickhouse.form import form_fields
from kite_cli.local.clickhouse.statement import BadRequest, question

T = TypeVar("T")

_AT_ONCE: Final = 16
# Replay inserts at most 32 MiB; a whole request is in memory here.
_MAX_BODY_BYTES: Final = 256 * 1024 * 1024
_CODE: Final = re.compile(r"^Code: (\d+)")
_STATUS_OF: Final = {
    16: 400, 27: 400, 33: 400, 36: 400, 53: 400, 62: 400, 69: 400, 117: 400, 457: 400,
    46: 404, 47: 404, 50: 404, 56: 404, 60: 404, 73: 404, 81: 404, 115: 404,
    48: 501, 159: 408, 203: 503, 298: 413,
}  # fmt: skip
_OWN_NAMES: Final = ("127.0.0.1", "localhost")
_NO_PAGE: Final = "Code: 497. DB::Exception: Requests of web pages are refused. (ACCESS_DENIED)"


class AnswerBroken(Exception):
    """A statement failed while its answer was being sent."""


class ClickHouseHttp:
    """The ASGI app. `close` ends its threads; what runs is carried through."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="clickhouse")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except (BadRequest, EngineError) as error:
            response = refusal(str(error))
        except ClientDisconnect:
            return
        with contextlib.suppress(AnswerBroken):  # an answer without its last chunk, and the connection is closed
            await response(scope, receive, send)

    def close(self) -> None:
        """End the threads. Blocks."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _answer(self, request: Request) -> Response:
        if not _is_local(request):
            return refusal(_NO_PAGE, 403)
        if request.url.path == "/ping":
            return Response("Ok.\n")
        if request.method == "GET" and not request.url.query:
            return Response("Ok.\n")
        body = decompressed(await _body(request), request.headers.get("content-encoding", ""))
        pairs = request.query_params.multi_items()
        if (fields := form_fields(request.headers.get("content-type", ""), body)) is not None:
            pairs, body = pairs + fields, b""
        # As with ClickHouse itself: GET changes nothing.
        asked = question(pairs, body, readonly=request.method != "POST")
        answer = await self._in_thread(self._engine.ask, asked)
        headers = _headers(answer, request.query_params.get("query_id", ""))
        if asked.buffered or not answer.format:
            return Response(b"".join(answer.blocks), headers=headers)
        return StreamingResponse(self._streamed(answer.blocks), headers=headers)

    async def _streamed(self, blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
        try:
            while (block := await self._in_thread(next, blocks, None)) is not None:
                if block:
                    yield block
        except EngineError as error:  # too late for a status: the answer breaks off, which no client takes for its end
            print(f"a statement failed after its answer had begun: {error}", file=sys.stderr)
            raise AnswerBroken from None
        finally:
            if (close := getattr(blocks, "close", None)) is not None:
                close()

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def refusal(text: str, status: int | None = None) -> Response:
    """An error as ClickHouse answers it: its text, its code as a header, and the status that its code has."""
    found = _CODE.match(text)
    code = int(found.group(1)) if found else 1002
    return Response(
        text + "\n", status or _STATUS_OF.get(code, 500), {"X-ClickHouse-Exception-Code": str(code)}, "text/plain; charset=UTF-8"
    )


def _headers(answer: Answer, query_id: str) -> dict[str, str]:
    headers = {"X-ClickHouse-Summary": json.dumps(answer.summary), "X-ClickHouse-Query-Id": query_id}
    if answer.format:
        headers["X-ClickHouse-Format"] = answer.format
    return headers


def _is_local(request: Request) -> bool:
    """Whether no web page made somebody's browser send this: the server has no password, and its port is easily guessed."""
    return request.url.hostname in _OWN_NAMES and not any(name in request.headers for name in ("origin", "sec-fetch-site"))


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MAX_BODY_BYTES:
            raise BadRequest(298, "QUERY_IS_TOO_LARGE", f"More than {_MAX_BODY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
