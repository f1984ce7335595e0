"""The sampler: seconds by place and by thread."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from kite_cli.bench.sampler import by_name, other_threads

BUSY = """
import signal, threading, time

def hashing(until):
    while time.process_time() < until:
        sum(range(10_000))

def work():
    hashing(time.process_time() + 0.4)

signal.raise_signal(signal.SIGUSR1)
threading.Thread(target=hashing, args=(time.process_time() + 0.3,)).start()
work()
signal.raise_signal(signal.SIGUSR2)
"""


def stat(number: int, name: str, user: int, system: int) -> str:
    return f"{number} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {user} {system} 0 0 20 0 1 0 0 0"


def test_threads_are_told_from_the_main_one_and_added_up_by_name(tmp_path: Path) -> None:
    for number, name, user, system in ((7, "python", 900, 100), (8, "a (b) c", 10, 5), (9, "pool", 20, 0), (11, "pool", 30, 0)):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "stat").write_text(stat(number, name, user, system))
    (tmp_path / "12").mkdir()  # one that ends while it is looked at
    found = other_threads(7, tmp_path)
    assert found == {("8", "a (b) c"): 0.15, ("9", "pool"): 0.2, ("11", "pool"): 0.3}
    assert by_name({("8", "a (b) c"): 0.15, ("9", "pool"): 0.1, ("10", "gone"): 5.0}, found) == {"pool": 0.4}


async def test_a_sampled_module_is_seen_where_it_computes(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    (tmp_path / "busy.py").write_text(BUSY)
    command = (sys.executable, "-m", "kite_cli.bench.sampler", "busy", str(out))
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=dict(os.environ), stderr=subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    found = json.loads(out.read_text())
    assert found["samples"] > 5
    assert found["own"].keys() <= found["within"].keys()
    assert 0 < found["within"]["__main__:work"] <= found["cpu_s"] + 0.01
    assert found["modules"]["__main__"] >= found["within"]["__main__:work"]
