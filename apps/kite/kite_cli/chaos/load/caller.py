"""Calls the gateways as a client behind a load balancer does: one after the other, until there is an answer. Remembers what was wrong."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final

import aiohttp

from kite_cli.chaos.memory import Memory

_ANSWER_WITHIN_S: Final = 12.0
_AGAIN_S: Final = 0.15
# After a 409 that says that an earlier try is still under way, and at most after a 503.
_LATER_S: Final = 1.0
_UNAVAILABLE: Final = 503
# What says "not now"; anything else that was not expected is a false answer.
_NOT_NOW: Final = frozenset({"request_in_progress", "subscription_conflict"})


class GaveUp(Exception):
    """There was no answer as long as anybody waited for one, or one that no client has deserved."""


@dataclass(frozen=True, slots=True)
class Team:
    """A team under load; `hook` is the path of its endpoint with the token."""

    id: str
    key: str
    partition: int
    hook: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What a request of the team has."""
        return {"Authorization": f"Bearer {self.key}"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, by which gateway, and when the try that got it began and ended (time.monotonic())."""

    status: int
    body: Any
    is_repeat: bool
    gateway: str
    first_tried_s: float
    tried_s: float
    answered_s: float


class CutOff(aiohttp.ClientError):
    """A connection that could not be had, or that ended before its answer; what it was is its cause."""


async def no_second_try(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Middleware: the library sends idempotent requests whose connection was cut off once more, and tells nobody. Here each one counts."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise CutOff from error



class Caller:
    """Calls until it is `over`. `gateways`: URLs by name."""

    def __init__(self, http: aiohttp.ClientSession, gateways: Mapping[str, str], memory: Memory) -> None:
        self._http, self._gateways, self._memory = http, cycle(gateways.items()), memory
        self.is_over = False

    async def ask(
        self, method: str, path: str, *, team: Team | None = None, query: Mapping[str, Any] | None = None, json_body: object = None,
        headers: Mapping[str, str] | None = None, good: Collection[int] = (200,),
    ) -> Answer:  # fmt: skip
        """The first of the `good` answers. Raises GaveUp for another that is final, and when all is over."""
        parameters = {name: str(value) for name, value in (query or {}).items()} | ({"team_id": team.id} if team else {})
        all_headers = {**(team.headers if team else {}), **(headers or {})}
        first, pause_s = time.monotonic(), _AGAIN_S
        while not self.is_over:
            name, url = next(self._gateways)
            tried = time.monotonic()
            got = await self._once(method, url + path, parameters, json_body, all_headers)
            if got is not None:
                status, body, is_repeat = got
                if status in good:
                    return Answer(status, body, is_repeat, name, first, tried, time.monotonic())
                self._judge(method, path, status, body)
            await asyncio.sleep(pause_s if got is None or got[0] == _UNAVAILABLE else _LATER_S)
            pause_s = min(pause_s * 1.5, _LATER_S)
        raise GaveUp(f"{method} {path}")

    async def _once(
        self, method: str, url: str, query: Mapping[str, str], json_body: object, headers: Mapping[str, str]
    ) -> tuple[int, Any, bool] | None:
        try:
            async with self._http.request(
                method, url, params=query, json=json_body, headers=headers, timeout=aiohttp.ClientTimeout(total=_ANSWER_WITHIN_S)
            ) as answer:
                body = await answer.read()
                self._memory.statuses[str(answer.status)] += 1
                return answer.status, json.loads(body) if body else None, "Idempotency-Replayed" in answer.headers
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._memory.statuses[type(error.__cause__ if isinstance(error, CutOff) else error).__name__] += 1
            return None

    def _judge(self, method: str, path: str, status: int, body: Any) -> None:
        """Go on after an answer that says "later"; remember any other, and raise GaveUp."""
        error = body.get("error", "") if isinstance(body, dict) else ""
        if status == _UNAVAILABLE or error in _NOT_NOW:
            return
        shown = "/hooks" if path.startswith("/hooks") else path
        self._memory.wrong_answers[f"{method} {shown} was answered {status} {error}"] += 1
        raise GaveUp(f"{method} {shown}: {status} {error}")


@dataclass(slots=True)
class Turn:
    """An actor's turn: once it is over, what it does now is its last."""

    is_over: bool = False


async def again_and_again(turn: Turn, work: Callable[[], Awaitable[object]], pause_s: Callable[[], float]) -> None:
    """Do `work` with pauses until the turn is over; what it gave up is left."""
    while not turn.is_over:
        with suppress(GaveUp):
            await work()
        await asyncio.sleep(pause_s())
