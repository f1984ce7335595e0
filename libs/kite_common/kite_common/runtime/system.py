"""The only reader of time and randomness. Decides nothing; everything here is handed to the code that does."""

import asyncio
import os
import random
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Final

_CLOCK_BOOTTIME: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# For tests alone: seconds this process's wall clock goes ahead (below 0: behind), as that of a machine whose time is wrong.
CLOCK_OFFSET_VARIABLE: Final = "KITE_TEST_CLOCK_OFFSET_S"
CLOCK_OFFSET_MS: Final = round(float(os.environ.get(CLOCK_OFFSET_VARIABLE) or 0) * 1000)


class SystemClock:
    """The machine's clock as a `kite_common.clock.Clock`."""

    def now(self) -> datetime:
        """Aware UTC wall-clock time."""
        return datetime.now(UTC) + timedelta(milliseconds=CLOCK_OFFSET_MS)

    def unix_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000 + CLOCK_OFFSET_MS


def unix_ns() -> int:
    """Nanoseconds since 1970, of the same clock: when spans begin and end."""
    return time.time_ns() + CLOCK_OFFSET_MS * 1_000_000


def monotonic_s() -> float:
    """Seconds that never go back; stands still while the machine sleeps. For durations and deadlines."""
    return time.monotonic()


def boottime_s() -> float:
    """Seconds that never go back and go on while the machine or the process is frozen (Linux; elsewhere as `monotonic_s`)."""
    return time.clock_gettime(_CLOCK_BOOTTIME)


def random_bits(bits: int) -> int:
    """An unpredictable integer of that many bits."""
    return secrets.randbits(bits)


def random_bytes(length: int) -> bytes:
    """Unpredictable bytes: keys, nonces, tokens."""
    return secrets.token_bytes(length)


def token_hex(length: int) -> str:
    """`length` unpredictable bytes as lower-case hex."""
    return secrets.token_hex(length)


def jitter() -> float:
    """A number in [0, 1) that spreads retries. Not unpredictable enough for secrets."""
    return random.random()  # noqa: S311 - spreads load, protects nothing


async def pause(seconds: float, stop: asyncio.Event) -> bool:
    """Wait that long, or shorter if `stop` gets set. True if it is set: for loops that wait between rounds."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
