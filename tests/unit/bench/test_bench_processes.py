"""CPU and machine as the system tells them."""

import pytest

from kite_cli.bench.machine import cpu_model, valkey_version
from kite_cli.bench.processes import CpuSample, cpu_seconds, use_between

# proc(5), /proc/<pid>/stat behind the command name: state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime ...
STAT = ["S", "1", "4242", "4242", "0", "-1", "4194560", "9015", "0", "3", "0", "1234", "66", "0", "0", "20", "0", "4", "0", "8745"]


def test_cpu_time_is_user_and_system_time_in_seconds() -> None:
    assert cpu_seconds(STAT, 100) == pytest.approx(13.0)


def test_a_process_that_is_gone_has_used_nothing() -> None:
    assert cpu_seconds([], 100) == 0


def test_use_is_the_difference_of_two_samples() -> None:
    use = use_between(CpuSample(10, {"kafka": 5, "gateway": 1}), CpuSample(14, {"kafka": 7, "gateway": 1}))
    assert (use.wall_s, use.seconds) == (4, {"kafka": 2, "gateway": 0})
    assert (use.share("kafka"), use.share("nobody")) == (0.5, 0)


def test_parts_that_came_went_or_were_started_again_do_not_count_backwards() -> None:
    use = use_between(CpuSample(0, {"old": 5, "again": 9}), CpuSample(1, {"new": 3, "again": 1}))
    assert use.seconds == {"again": 0}


def test_the_model_of_the_processor_is_found() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2.10GHz\nflags\t\t: fpu\nmodel name\t: other\n") == "Some CPU @ 2.10GHz"
    assert cpu_model("processor : 0\nBogoMIPS : 100.00\n") == ""


def test_the_version_of_valkey_is_found() -> None:
    assert valkey_version("Valkey server v=9.1.2 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1234") == "9.1.2"
    assert valkey_version("") == "unknown"
