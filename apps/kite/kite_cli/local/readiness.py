"""Small questions to a child's port: is it open, does it answer. Each answers yes or no and never raises for a no."""

import asyncio
from collections.abc import Awaitable, Callable

ReadyCheck = Callable[[], Awaitable[bool]]

_ANSWER_WITHIN_S = 2.0


async def until(check: ReadyCheck, every_s: float) -> None:
    """Ask again and again until the answer is yes. For facts of other processes, which wake nobody here up."""
    while not await check():  # noqa: ASYNC110  there is no event to wait for
        await asyncio.sleep(every_s)


async def is_open(host: str, port: int) -> bool:
    """Say whether something accepts connections there."""
    return await exchange(host, port, b"", 0) is not None


async def answers_ok(host: str, port: int, path: str) -> bool:
    """Say whether GET `path` is answered with 200."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    answer = await exchange(host, port, request.encode("ascii"), len(b"HTTP/1.1 200"))
    return answer is not None and answer.endswith(b" 200")


async def exchange(host: str, port: int, request: bytes, length: int) -> bytes | None:
    """Send `request` and return the first `length` bytes of the answer, or None if there is none in time."""
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                return await reader.readexactly(length)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return None
