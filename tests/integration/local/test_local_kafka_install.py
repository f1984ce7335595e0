"""Installing Kafka's jars: goes on where it was interrupted, repairs what is damaged, and two at once are one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kite_cli.local.folders import lib_folder
from kite_cli.local.kafka_install import ensure_kafka
from kite_cli.local.kafka_jars import VERSION, missing, pins
from kite_cli.local.step import Silent

NAME = f"kafka-{VERSION}"
SMALL = min(pins(), key=lambda pin: pin.artifact != "jspecify")  # the only file these tests fetch


@pytest.fixture
async def lib(tmp_path: Path) -> Path:
    """A library folder of its own, with every jar (as links, to cost nothing) but one."""
    shared = await ensure_kafka(lib_folder(), Silent())
    (tmp_path / NAME).mkdir()
    for pin in pins():
        if pin != SMALL:
            os.link(shared / pin.filename, tmp_path / NAME / pin.filename)
    return tmp_path


def installer(folder: Path) -> subprocess.Popen[str]:
    """Start one installer."""
    command = [sys.executable, "-m", "kite_cli.local.kafka_jars", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


async def test_two_installers_at_once_both_end_with_a_whole_folder(lib: Path) -> None:
    both = [installer(lib / NAME) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert "".join(outputs).count(SMALL.filename) == 1
    assert missing(lib / NAME) == []


async def test_an_interrupted_installation_goes_on_where_it_stopped(lib: Path) -> None:
    (lib / NAME).rename(lib / f".{NAME}.incoming")
    (lib / f".{NAME}.incoming" / SMALL.filename).write_bytes(b"half a file")
    process = installer(lib / NAME)
    output = process.communicate(timeout=120)[0]
    assert output.splitlines() == [f"1/1 {SMALL.filename}"]
    assert missing(lib / NAME) == []


async def test_a_damaged_jar_is_replaced_before_a_start(lib: Path) -> None:
    (lib / NAME / SMALL.filename).write_bytes(b"damaged")
    await ensure_kafka(lib, Silent(), archive=False)
    assert missing(lib / NAME) == []
