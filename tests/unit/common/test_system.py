"""Time and randomness of the machine: the forms others rely on, and the wait that a stop cuts short."""

import asyncio
from datetime import UTC

from kite_common.runtime.system import SystemClock, boottime_s, monotonic_s, pause, random_bits, random_bytes, token_hex


async def test_a_pause_ends_with_its_time() -> None:
    assert await pause(0.001, asyncio.Event()) is False


async def test_a_stop_ends_a_pause() -> None:
    stop = asyncio.Event()
    waiting = asyncio.create_task(pause(3_600, stop))
    await asyncio.sleep(0)
    stop.set()
    assert await waiting is True


async def test_a_pause_after_the_stop_does_not_wait() -> None:
    stop = asyncio.Event()
    stop.set()
    assert await pause(3_600, stop) is True


def test_the_clock_is_aware_and_its_two_forms_agree() -> None:
    clock = SystemClock()
    before, now, after = clock.unix_ms(), clock.now(), clock.unix_ms()
    assert now.tzinfo is UTC
    assert before <= now.timestamp() * 1000 + 1
    assert now.timestamp() * 1000 <= after + 1


def test_durations_never_go_back() -> None:
    for read in (monotonic_s, boottime_s):
        readings = [read() for _ in range(100)]
        assert readings == sorted(readings)


def test_random_values_have_the_asked_size_and_differ() -> None:
    assert all(0 <= random_bits(74) < 1 << 74 for _ in range(100))
    assert len({random_bytes(32) for _ in range(100)}) == 100
    assert {len(token_hex(4)) for _ in range(10)} == {8}
