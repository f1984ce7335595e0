"""Time and randomness of the machine: the forms others rely on, and the wait that a stop cuts short."""

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC

import pytest

from kite_common.runtime.system import (
    CLOCK_OFFSET_VARIABLE,
    SystemClock,
    boottime_s,
    monotonic_s,
    pause,
    random_bits,
    random_bytes,
    token_hex,
)


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


@pytest.mark.parametrize("offset_s", [0, 3_600, -3_600])
def test_a_wrong_clock_is_wrong_in_both_forms_and_says_so(offset_s: int) -> None:
    program = (
        "from kite_common.runtime.faults import announce; from kite_common.runtime.system import SystemClock; announce();"
        "clock = SystemClock(); print(clock.unix_ms(), clock.now().timestamp() * 1000)"
    )
    environment = os.environ | {CLOCK_OFFSET_VARIABLE: str(offset_s)}
    before_ms = time.time() * 1000
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout
    after_ms = time.time() * 1000
    for reading in said.split()[-2:]:
        assert before_ms - 1 <= float(reading) - offset_s * 1000 <= after_ms
    assert ("FOR TESTS ONLY" in said) == (offset_s != 0)
