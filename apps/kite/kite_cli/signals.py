"""Signals that end a command which has to clean up after itself."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def ended_by_signals() -> AsyncIterator[None]:
    """SIGINT, SIGTERM and SIGHUP cancel what runs inside, which then cleans up; KeyboardInterrupt comes out."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    numbers, heard = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP), False

    def end() -> None:
        nonlocal heard
        if not heard and task is not None:
            heard = True
            task.cancel()

    for number in numbers:
        loop.add_signal_handler(number, end)
    try:
        yield
    except asyncio.CancelledError:
        if not heard:
            raise
        raise KeyboardInterrupt from None
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
