"""Deliberate deaths happen where and when they were ordered, and nowhere else."""

import os
import signal
import subprocess
import sys

import pytest

from kite_common.errors import ConfigurationError
from kite_common.runtime.faults import FAULT_POINT, parse_fault

PROGRAM = """
from kite_common.runtime.faults import announce, reached
announce()
for number in range(3):
    reached("other.point")
    reached("payment.settling.committed")
    print("passed", number, flush=True)
"""


def run(fault: str | None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != FAULT_POINT}
    if fault is not None:
        environment[FAULT_POINT] = fault
    return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("fault", "passed"), [("payment.settling.committed", 0), ("payment.settling.committed:3", 2)])
def test_a_process_dies_at_the_named_point_at_the_named_time(fault: str, passed: int) -> None:
    ended = run(fault)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.count("passed") == passed
    assert "FOR TESTS ONLY" in ended.stdout


def test_a_process_stands_still_where_it_is_told_to_and_goes_on() -> None:
    environment = os.environ | {FAULT_POINT: "stop@payment.settling.committed:2"}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WSTOPSIG(status) == signal.SIGSTOP
    os.kill(process.pid, signal.SIGCONT)
    out, _ = process.communicate()
    assert (process.returncode, out.count("passed")) == (0, 3)


@pytest.mark.parametrize("fault", [None, "", "payment.settling", "other.points:1"])
def test_nothing_happens_without_it_or_at_other_points(fault: str | None) -> None:
    ended = run(fault)
    assert (ended.returncode, ended.stdout.count("passed")) == (0, 3)


@pytest.mark.parametrize("text", ["point:0", "point:-1", "point:x", "point:", "point:1:2"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_fault(text)
