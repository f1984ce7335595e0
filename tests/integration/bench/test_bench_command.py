"""The whole benchmark, small, as a process: it measures everything, checks what it counted, writes its report and leaves nothing behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kite_cli.bench.options import QUICK, SECTIONS
from kite_cli.local.folders import lib_folder
from kite_common.testing.eventually import eventually


def environment(data: Path) -> dict[str, str]:
    return dict(os.environ) | {"KITE_DATA_DIR": str(data), "KITE_LIB_DIR": str(lib_folder())}


async def started(*arguments: str, data: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kite_cli.bench", *arguments, env=environment(data), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def living(data: Path) -> list[str]:
    """Processes that were started with this data folder, the bench itself and what it started alike."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(data).encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.timeout(400)
async def test_a_quick_benchmark_measures_everything_and_cleans_up(tmp_path: Path) -> None:
    data, report = tmp_path / "data", tmp_path / "docs" / "benchmarks.md"
    process = await started("--quick", "--json", "--write", str(report), data=data)
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    found = json.loads(output)
    (start,), (drain,) = found["starts"], found["drains"]
    assert set(start["resident_mib"]) == {"gateway", "billing", "delivery", "replay", "kafka", "valkey", "facilitator", "chain"}
    assert 0 < start["ready_s"] <= start["first_202_s"]
    assert drain["pairs"] == QUICK.drain_pairs
    assert drain["billing"]["per_s"] > 0
    assert drain["archiver"]["per_s"] > 0
    runs = [*found["accepting"]["most"], *(run for runs in found["accepting"]["at_rate"] for run in runs)]
    assert len(runs) == QUICK.runs * (1 + len(QUICK.rates))
    assert all(set(run["outcome"]["statuses"]) == {"202"} for run in runs)
    for journey in ("delivered", "replayable"):
        (run,) = found["journeys"][journey]
        assert run["outcome"]["count"] > 0
        assert run["outcome"]["unseen"] == 0
    (paying,) = found["payments"]
    assert paying["paid_per_s"] > 0
    assert 0 < paying["unpaid_p50_ms"] <= paying["unpaid_p95_ms"]
    assert all(found["profiles"][name]["samples"] > 0 for name in ("gateway", "billing", "replay"))
    assert any(place.startswith("kite_gateway.") for place in found["profiles"]["gateway"]["functions"])
    assert "## Profile of gateway" in report.read_text()
    assert "its figures mean nothing" in report.read_text()
    assert report.with_suffix(".svg").read_text().startswith("<?xml")
    assert list(data.iterdir()) == [], "its folders are gone"
    assert living(data) == [], "its processes are gone"


@pytest.mark.timeout(200)
async def test_a_benchmark_that_is_ended_stops_everything_it_started(tmp_path: Path) -> None:
    data = tmp_path / "data"
    process = await started("--quick", "--only", "accept", data=data)
    await eventually(lambda: any("kite_gateway" in one for one in living(data)), within_s=60, what="the services are being started")
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 130
    assert living(data) == []
    assert list(data.iterdir()) == []


async def test_a_section_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    process = await started("--only", "nonsense", data=tmp_path)
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert ", ".join(SECTIONS) in " ".join(errors.decode().split())
