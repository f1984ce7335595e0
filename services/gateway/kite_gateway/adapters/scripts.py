"""Runs scripts on Redis: calls that wait at the same moment travel in one pipeline. Knows no keys and no meaning.

One pipeline is under way at a time; what arrives meanwhile forms the next one. Waiting is bounded in number and in time.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from kite_common.errors import Unavailable
from kite_common.projection.server import server_id
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import monotonic_s

log = get_logger("kite.gateway.redis")

# Calls in one pipeline: more wait longer for the last reply than they save (measured.md, section 2).
_PIPELINE_SIZE: Final = 128
_MAX_WAITING: Final = 4_096
_AWAY: Final = "Redis is away"
_OTHER_SERVER: Final = RedisError("another server process answers")
# Refusals that come out of a script as its error, with their code somewhere in the text.
_OUTAGES: Final = ("OOM ", "READONLY ", "MISCONF ", "NOREPLICAS ", "LOADING ", "MASTERDOWN ", "CLUSTERDOWN ", "BUSY ")


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the digest Redis knows it by."""

    source: str
    sha: str


def load_script(name: str) -> Script:
    """The script `adapters/lua/<name>.lua`, behind what all scripts share."""
    folder = resources.files("kite_gateway.adapters.lua")
    source = "\n".join(folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("prelude", name))
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def connect(url: str, timeout_s: float) -> Redis:
    """A client that gives up after `timeout_s` and never repeats a command by itself: a script must not run twice for one call.

    Each of its connections knows the server process at its other end.
    """
    return Redis.from_url(
        url,
        redis_connect_func=_introduce,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        health_check_interval=0,
    )


async def _introduce(connection: AbstractConnection) -> None:
    await connection.on_connect()
    await connection.send_command("INFO", "server")
    connection.kite_server = server_id(await connection.read_response())  # type: ignore[attr-defined]  # ours, beside the library's own


def _server_of(connection: AbstractConnection) -> str | None:
    """The server process a connection ends at; it cannot change while the connection lives."""
    found: str | None = getattr(connection, "kite_server", None)
    return found


@dataclass(slots=True)
class _Call:
    script: Script
    keys: Sequence[str]
    args: Sequence[str | int]
    server: str | None
    done: asyncio.Future[Any]


class ScriptRunner:
    """`run` a script and get its reply. Needs a running loop from the first call on."""

    def __init__(self, redis: Redis, timeout_s: float, metrics: Metrics) -> None:
        self._redis, self._timeout_s = redis, timeout_s
        self._waiting: list[_Call] = []
        self._flushing: asyncio.Task[None] | None = None
        self._seconds = metrics.histogram("kite_gateway_admission_seconds")

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | int], server: str | None = None) -> Any:
        """The script's reply. Raises Unavailable when Redis does not answer in time: the script may have run or not.

        With `server` it runs on that server process or not at all (Unavailable): another one may hold an older copy.
        """
        if len(self._waiting) >= _MAX_WAITING:
            raise Unavailable("too many calls wait for Redis")
        loop = asyncio.get_running_loop()
        call = _Call(script, keys, args, server, loop.create_future())
        self._waiting.append(call)
        if self._flushing is None:
            self._flushing = loop.create_task(self._flush(), name="gateway.redis")
        return await call.done

    async def _flush(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:_PIPELINE_SIZE], self._waiting[_PIPELINE_SIZE:]
                # Whoever hung up meanwhile is not run for: nothing has been reserved yet.
                if wanted := [call for call in group if not call.done.done()]:
                    await self._run_group(wanted)
        finally:
            self._flushing = None

    async def _run_group(self, group: list[_Call]) -> None:
        began = monotonic_s()
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                replies = await self._execute(group)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("redis.unavailable", reason=type(error).__name__, calls=len(group) + len(self._waiting))
            # What waits behind would only wait for the same timeout again.
            self._fail([*group, *self._waiting])
            self._waiting.clear()
            return
        except Exception:
            # A defect, here or in the client: these calls fail, the next ones are still served.
            log.exception("redis.pipeline_failed", calls=len(group))
            self._fail(group)
            return
        self._seconds.observe(monotonic_s() - began)
        for call, reply in zip(group, replies, strict=True):
            _settle(call, reply)

    async def _execute(self, group: list[_Call]) -> list[Any]:
        replies: list[Any] = await self._pipeline(group, by_digest=True)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            # Redis was started anew and knows no scripts: those calls did not run, so running them now is the first time.
            again = await self._pipeline([group[place] for place in unknown], by_digest=False)
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return replies

    async def _pipeline(self, group: list[_Call], *, by_digest: bool) -> list[Any]:
        # The connection first: what it ends at decides which calls may travel on it.
        connection = await self._redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]  # the library's
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.connection = connection
        try:
            server = _server_of(connection)
            for call in group:
                if call.server in (None, server):
                    _add(pipeline, call, by_digest=by_digest)
            answers = iter(await pipeline.execute(raise_on_error=False))
            return [next(answers) if call.server in (None, server) else _OTHER_SERVER for call in group]
        finally:
            # Gives the connection back, also if nothing was executed.
            await pipeline.reset()  # type: ignore[no-untyped-call]  # the library's

    def _fail(self, calls: Sequence[_Call]) -> None:
        for call in calls:
            if not call.done.done():
                call.done.set_exception(Unavailable(_AWAY))


def _add(pipeline: Pipeline, call: _Call, *, by_digest: bool) -> None:
    if by_digest:
        pipeline.execute_command("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
    else:
        pipeline.execute_command("EVAL", call.script.source, len(call.keys), *call.keys, *call.args)


def _settle(call: _Call, reply: Any) -> None:
    if call.done.done():
        return
    if not isinstance(reply, Exception):
        call.done.set_result(reply)
    elif isinstance(reply, ResponseError) and "user_script" in str(reply) and not _is_outage(reply):
        # A defect of a script, not an outage.
        call.done.set_exception(RuntimeError(f"script failed: {reply}"))
    else:
        call.done.set_exception(Unavailable(_AWAY))


def _is_outage(error: ResponseError) -> bool:
    """Whether Redis refused to work, rather than the script being wrong: what it says of itself may come out of a script, too."""
    known = (NoScriptError, OutOfMemoryError, ReadOnlyError, BusyLoadingError)
    return isinstance(error, known) or any(code in str(error) for code in _OUTAGES)
