"""Supervision: order of start and stop, the first exit, the deadline; signals in a real child process."""

import asyncio
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kite_common.errors import ConfigurationError
from kite_common.runtime.component import READY, Readiness, StartAgain
from kite_common.runtime.supervisor import EXIT_FAILED, EXIT_OK, EXIT_START_AGAIN, supervise
from kite_common.testing.eventually import eventually


@dataclass
class Part:
    """A component that notes what happens to it in a journal shared with the others."""

    name: str
    journal: list[str] = field(default_factory=list)
    fails_with: Exception | None = None
    returns_early: bool = False
    hangs: bool = False
    ready: bool = True

    async def run(self, stop: asyncio.Event) -> None:
        self.journal.append(f"start {self.name}")
        if self.fails_with is not None:
            raise self.fails_with
        if self.returns_early:
            return
        await stop.wait()
        self.journal.append(f"stopping {self.name}")
        try:
            await (asyncio.Event().wait() if self.hangs else asyncio.sleep(0))
        except asyncio.CancelledError:
            self.journal.append(f"cancelled {self.name}")
            raise
        self.journal.append(f"stopped {self.name}")

    def readiness(self) -> Readiness:
        return READY if self.ready else Readiness(ready=False, reason="not yet")


async def test_components_start_in_order_and_a_crash_stops_the_others_last_in_first_out() -> None:
    journal: list[str] = []
    parts = [Part("log", journal), Part("table", journal), Part("http", journal), Part("broken", journal, RuntimeError("boom"))]
    assert await supervise(parts, drain_timeout_s=5) == EXIT_FAILED
    assert journal == [
        "start log", "start table", "start http", "start broken",
        "stopping http", "stopped http", "stopping table", "stopped table", "stopping log", "stopped log",
    ]  # fmt: skip


async def test_a_component_that_returns_by_itself_stops_the_process() -> None:
    assert await supervise([Part("log"), Part("early", returns_early=True)], drain_timeout_s=5) == EXIT_FAILED


async def test_a_component_that_is_misconfigured_stops_the_process() -> None:
    assert await supervise([Part("http", fails_with=ConfigurationError(["port 1 is taken"]))], drain_timeout_s=5) == EXIT_FAILED


async def test_a_component_that_only_a_new_process_can_help_says_so_by_the_exit_code() -> None:
    journal: list[str] = []
    assert await supervise([Part("http", journal), Part("stuck", fails_with=StartAgain("why"))], drain_timeout_s=5) == EXIT_START_AGAIN
    assert journal[-1] == "stopped http"


async def test_a_component_that_hangs_is_cancelled_at_the_deadline_and_the_others_still_drain() -> None:
    journal: list[str] = []
    parts = [Part("log", journal), Part("hanging", journal, hangs=True), Part("broken", journal, RuntimeError())]
    assert await supervise(parts, drain_timeout_s=0.05) == EXIT_FAILED
    assert journal[3:] == ["stopping hanging", "cancelled hanging", "stopping log", "stopped log"]


async def test_it_is_told_once_when_all_are_ready_for_the_first_time() -> None:
    told: list[str] = []
    slow = Part("slow", ready=False)
    running = asyncio.create_task(supervise([Part("log"), slow], drain_timeout_s=1, on_ready=lambda: told.append("ready")))
    await asyncio.sleep(0)
    assert told == []
    slow.ready = True
    await eventually(lambda: told, what="readiness is told")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert told == ["ready"]


SERVICE = """
    import asyncio, os, signal, sys
    from kite_common.config import KiteSettings
    from kite_common.errors import ConfigurationError
    from kite_common.runtime.component import READY
    from kite_common.runtime.supervisor import run_service

    class Part:
        name = "part"
        async def run(self, stop):
            print("loop", type(asyncio.get_running_loop()).__module__, flush=True)
            MODE
        def readiness(self):
            return READY

    def build(settings):
        BUILD
        return [Part()]

    sys.exit(run_service("kite.test", KiteSettings, build))
"""
DRAINS = "await stop.wait(); await asyncio.sleep(0.05); print('drained', flush=True)"
NEVER_DRAINS = "await stop.wait(); print('draining', flush=True); await asyncio.sleep(60)"


def _service(tmp_path: Path, mode: str = DRAINS, build: str = "pass") -> "subprocess.Popen[str]":
    source = tmp_path / "service.py"
    source.write_text(textwrap.dedent(SERVICE).replace("MODE", mode).replace("BUILD", build))
    environment = {"KITE_DRAIN_TIMEOUT_S": "5", "PATH": "", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)  # noqa: S603


def _wait_for(process: "subprocess.Popen[str]", text: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    raise AssertionError(f"{text!r} never came: {seen} {process.stderr.read() if process.stderr else ''}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_exit_code_0(tmp_path: Path, number: signal.Signals) -> None:
    with _service(tmp_path) as process:
        _wait_for(process, "service.started")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (EXIT_OK, "")
    assert "drained" in out
    assert '"event":"service.stopped"' in out


def test_services_run_on_uvloop(tmp_path: Path) -> None:
    with _service(tmp_path) as process:
        _wait_for(process, "loop uvloop")
        process.terminate()
        process.communicate(timeout=30)


def test_a_second_interrupt_ends_the_process_at_once(tmp_path: Path) -> None:
    with _service(tmp_path, NEVER_DRAINS) as process:
        _wait_for(process, "service.started")
        process.send_signal(signal.SIGINT)
        _wait_for(process, "draining")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=4)
    assert process.returncode == 130


def test_a_service_that_cannot_be_configured_says_why_and_exits_with_78(tmp_path: Path) -> None:
    with _service(tmp_path, build="raise ConfigurationError(['one is wrong', 'two is wrong'])") as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 78
    assert err.splitlines() == ["kite.test: one is wrong", "kite.test: two is wrong"]


def test_a_thread_that_never_ends_does_not_keep_a_stopped_process(tmp_path: Path) -> None:
    stuck = "asyncio.get_running_loop().run_in_executor(None, __import__('time').sleep, 60); await stop.wait()"
    with _service(tmp_path, stuck) as process:
        _wait_for(process, "service.started")
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == EXIT_OK


def test_start_up_objects_leave_the_sight_of_the_garbage_collector(tmp_path: Path) -> None:
    with _service(
        tmp_path, "await stop.wait(); import gc; print('gc', gc.get_threshold(), gc.get_freeze_count() > 1000, flush=True)"
    ) as process:
        _wait_for(process, "service.started")
        process.terminate()
        out, _ = process.communicate(timeout=30)
    assert "gc (50000, 50, 100) True" in out
