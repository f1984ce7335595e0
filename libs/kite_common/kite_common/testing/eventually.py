"""Waiting for a fact with a deadline, for tests on the real stack. Never a bare sleep."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(check: Callable[[], Awaitable[T]], *, within_s: float = 10, every_s: float = 0.05, what: str) -> T: ...


@overload
async def eventually(check: Callable[[], T], *, within_s: float = 10, every_s: float = 0.05, what: str) -> T: ...


async def eventually(check: Callable[[], Any], *, within_s: float = 10, every_s: float = 0.05, what: str) -> Any:
    """The first truthy result of `check` (sync or async), asked every `every_s` seconds, at least once.

    Exceptions of `check` count as "not yet". Raises AssertionError that names `what` and the last value or exception
    after `within_s` seconds; a check that hangs is cut off there too.
    """
    deadline = time.monotonic() + within_s  # noqa: TID251 - tests on the real stack live in real time
    last = "never answered"
    cause: Exception | None = None
    while True:
        try:
            value = await _ask(check, max(deadline - time.monotonic(), every_s))  # noqa: TID251
            if value:
                return value
            last, cause = f"last value {value!r}", None
        except Exception as error:  # noqa: BLE001 - whatever a check raises, the fact is not there yet
            last, cause = f"last error {type(error).__name__}: {error}", error
        if time.monotonic() >= deadline:  # noqa: TID251
            raise AssertionError(f"not within {within_s} s: {what} ({last})") from cause
        await asyncio.sleep(every_s)


async def _ask(check: Callable[[], Any], timeout_s: float) -> Any:
    async with asyncio.timeout(timeout_s):
        answer = check()
        return await answer if inspect.isawaitable(answer) else answer
