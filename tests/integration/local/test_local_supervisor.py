"""The supervisor: restarts what ends, moves away from taken ports, leaves nothing behind however it ends."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kite_cli.local.folders import lock_of, state_of
from kite_cli.local.identity import Identity, identify, is_alive
from kite_cli.local.leftovers import read_state
from kite_cli.local.lock import holder_of
from kite_cli.local.ports import LOOPBACK, PortBook
from kite_cli.local.readiness import answers_ok
from kite_cli.local.stack import LocalStack, ServiceSpec, StackOptions
from kite_cli.local.step import StepFailed
from kite_common.testing.eventually import eventually

HERE = Path(__file__).parent
SCRIPT = str(HERE / "tiny_service.py")
SERVICE = (sys.executable, SCRIPT)
RUN_SERVICE = f"import runpy; runpy.run_path({SCRIPT!r}, run_name='__main__')"
UP_WITHIN_S = 60


@dataclass
class Told:
    """Progress that remembers what was said."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def doing(self, step: str, text: str) -> None:
        """Not kept."""

    def done(self, step: str, text: str) -> None:
        """Keep it."""
        self.lines.append((step, text))

    warn = done


@dataclass
class ToldToAFullDisk:
    """Progress on a terminal whose output goes to a disk that is full from some time on."""

    is_full: bool = False

    def doing(self, step: str, text: str) -> None:
        """Write it."""
        Path("/dev/full" if self.is_full else os.devnull).write_text(f"{step}: {text}", "utf-8")

    done = warn = doing


@pytest.fixture
def told() -> Told:
    """What the stack says."""
    return Told()


@pytest.fixture
async def own(tmp_path: Path, told: Told) -> AsyncIterator[LocalStack]:
    """A stack of its own, because these tests break it."""
    async with LocalStack(StackOptions(tmp_path / "data"), told) as stack:
        yield stack


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that this process listens on."""
    book = PortBook()
    with socket.create_server((LOOPBACK, port := book.pick())):
        yield port
    book.release()


class Supervisor:
    """`supervised.py` as a process of its own on one data folder."""

    def __init__(self, data: Path, *arguments: str) -> None:
        command = [sys.executable, str(HERE / "supervised.py"), str(data), *arguments]
        self.data = data
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    async def is_up(self) -> dict[str, Identity]:
        """Wait until everything listens; return its children."""
        await eventually(self._has_gateway, within_s=UP_WITHIN_S, what="the stack is up")
        return dict(read_state(state_of(self.data)).children)

    async def output(self) -> tuple[int, str]:
        """Wait for its end; return code and output."""
        text, _ = await asyncio.to_thread(self.process.communicate, timeout=UP_WITHIN_S)
        return self.process.returncode, text

    def _has_gateway(self) -> bool:
        holder = holder_of(lock_of(self.data))
        return holder is not None and holder.pid == self.process.pid and bool(holder.gateway)


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    """A running supervisor; ended with what it started."""
    supervisor = Supervisor(tmp_path / "data")
    yield supervisor
    if supervisor.process.poll() is None:
        supervisor.process.terminate()
        await supervisor.output()


def process_name() -> str:
    """The name of this process as the kernel has it."""
    return Path("/proc/self/comm").read_text("ascii").strip()


def helper_of(data: Path) -> Identity:
    """The process that the worker started by itself."""
    pids = re.findall(r"helper pid (\d+)", (data / "logs" / "worker.log").read_text("utf-8"))
    helper = identify(int(pids[-1]))
    assert helper is not None
    return helper


async def all_gone(processes: list[Identity]) -> None:
    """Wait until none of these runs."""
    await eventually(lambda: not any(is_alive(p) for p in processes), what=f"{processes} are gone")


async def test_services_get_their_environment_and_are_started_again_when_killed(own: LocalStack) -> None:
    await own.start_services([ServiceSpec("gateway", SERVICE)])
    gateway, pid = own.child("gateway"), own.child("gateway").pid
    await gateway.kill9()
    await gateway.wait_ready()
    assert gateway.pid not in {pid, None}
    assert await answers_ok(LOOPBACK, own.ports["gateway"], "/readyz")
    assert own.environment("gateway")["KITE_KAFKA_BOOTSTRAP"] == own.addresses.kafka_bootstrap


async def test_what_a_service_started_goes_with_it(own: LocalStack, tmp_path: Path) -> None:
    await own.start_services([ServiceSpec("worker", (*SERVICE, "--helper"))])
    helper = helper_of(tmp_path / "data")
    assert is_alive(helper)
    await own.child("worker").kill9()
    await all_gone([helper])


async def test_a_service_that_cannot_start_is_given_up_with_the_end_of_its_log(own: LocalStack) -> None:
    broken = (sys.executable, "-c", "raise SystemExit('no wallet configured')")
    with pytest.raises(StepFailed) as failure:
        await own.start_services([ServiceSpec("billing", broken)])
    assert failure.value.step == "billing"
    assert "no wallet configured" in failure.value.reason
    assert "logs/billing.log" in failure.value.advice


async def test_a_service_that_fails_later_ends_the_wait_for_failures(own: LocalStack, tmp_path: Path) -> None:
    marker = tmp_path / "break"
    program = f"import os; assert not os.path.exists({str(marker)!r}); {RUN_SERVICE}"
    await own.start_services([ServiceSpec("billing", (sys.executable, "-c", program))])
    marker.touch()
    await own.child("billing").kill9()
    assert (await own.failed()).step == "billing"


async def test_a_wished_port_that_is_taken_is_said_and_the_next_one_used(
    own: LocalStack, told: Told, taken_port: int
) -> None:
    await own.start_services([ServiceSpec("gateway", SERVICE, port=taken_port)])
    assert own.ports["gateway"] > taken_port
    assert any(f"port {taken_port} is taken by pid {os.getpid()}" in text for _, text in told.lines)


async def test_a_taken_port_of_kafka_or_valkey_is_said_and_the_next_one_used_that_no_other_part_wants(
    tmp_path: Path, told: Told, taken_port: int
) -> None:
    ports = {"kafka": taken_port + 2, "valkey": taken_port, "chain": taken_port + 1}
    async with LocalStack(StackOptions(tmp_path / "data", ports=ports), told) as stack:
        assert stack.ports["valkey"] > taken_port + 2
        line = f"port {taken_port} is taken by pid {os.getpid()} ({process_name()}); using {stack.ports['valkey']}"
        assert ("valkey", line) in told.lines


async def test_a_port_that_was_asked_for_and_is_taken_is_an_error(own: LocalStack, taken_port: int) -> None:
    with pytest.raises(StepFailed, match=f"port {taken_port} is taken by pid {os.getpid()}"):
        await own.start_services([ServiceSpec("gateway", SERVICE, port=taken_port, must_have_port=True)])


async def test_a_service_on_an_address_of_its_own_is_asked_and_named_there(own: LocalStack) -> None:
    await own.start_services([ServiceSpec("gateway", SERVICE, host="127.0.0.2")])
    address = f"http://127.0.0.2:{own.ports['gateway']}"
    assert own.listens_on("gateway") == own.addresses.url("gateway") == own.environment("gateway")["KITE_PUBLIC_URL"] == address
    assert await answers_ok("127.0.0.2", own.ports["gateway"], "/readyz")


async def test_parts_stop_in_the_order_in_which_they_depend_on_each_other(tmp_path: Path, told: Told) -> None:
    async with LocalStack(StackOptions(tmp_path / "data"), told) as stack:
        await stack.start_services([ServiceSpec("gateway", SERVICE)])
    assert [step for step, text in told.lines if text == "stopped"] == ["gateway", "valkey", "kafka"]


async def test_a_child_that_ignores_the_request_to_stop_is_killed(own: LocalStack) -> None:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {RUN_SERVICE}"
    await own.start_services([ServiceSpec("deaf", (sys.executable, "-c", deaf), stop_within_s=0.3)])
    assert not await own.child("deaf").stop()
    assert own.child("deaf").pid is None


async def test_a_service_that_is_retired_is_gone_and_its_port_is_nobody_elses(own: LocalStack) -> None:
    await own.start_services([ServiceSpec("gateway", SERVICE), ServiceSpec("gateway-2", SERVICE)])
    port = own.ports["gateway"]
    assert await own.retire("gateway")
    assert set(own.children) == {"kafka", "valkey", "gateway-2"}
    assert "gateway" not in own.addresses.services
    await own.start_services([ServiceSpec("gateway-3", SERVICE)])
    assert own.ports["gateway-3"] != port


async def test_a_service_that_is_retired_by_force_is_said(own: LocalStack, told: Told) -> None:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {RUN_SERVICE}"
    await own.start_services([ServiceSpec("deaf", (sys.executable, "-c", deaf), stop_within_s=0.3)])
    assert not await own.retire("deaf")
    assert any("was killed" in text for step, text in told.lines if step == "deaf")


async def test_a_child_that_cannot_be_noted_is_said_and_looked_after_all_the_same(
    own: LocalStack, told: Told, tmp_path: Path
) -> None:
    await own.start_services([ServiceSpec("gateway", SERVICE)])
    (tmp_path / "data" / ".state.json.new").mkdir()  # what replaces the state file cannot be written, as on a full disk
    await own.child("gateway").kill9()
    await own.child("gateway").wait_ready()
    assert any("could not be noted for the next start" in text for step, text in told.lines if step == "gateway")
    (tmp_path / "data" / ".state.json.new").rmdir()


async def test_a_stop_that_cannot_be_told_stops_everything_all_the_same(tmp_path: Path) -> None:
    progress = ToldToAFullDisk()
    stack = LocalStack(StackOptions(tmp_path / "data"), progress)
    async with stack:
        await stack.start_services([ServiceSpec("gateway", SERVICE), ServiceSpec("worker", SERVICE)])
        children = list(read_state(state_of(tmp_path / "data")).children.values())
        progress.is_full = True
        with pytest.raises(OSError, match="No space left"):
            await stack.close()
        await all_gone(children)
        assert holder_of(lock_of(tmp_path / "data")) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_supervisor_told_to_stop_leaves_nothing(supervisor: Supervisor, number: signal.Signals) -> None:
    children = await supervisor.is_up()
    helper = helper_of(supervisor.data)
    supervisor.process.send_signal(number)
    code, text = await supervisor.output()
    assert code == 0, text
    await all_gone([*children.values(), helper])
    assert read_state(state_of(supervisor.data)).children == {}


async def test_a_killed_supervisor_takes_its_children_along_and_the_next_start_ends_the_rest(
    supervisor: Supervisor,
) -> None:
    children = await supervisor.is_up()
    helper = helper_of(supervisor.data)
    supervisor.process.kill()
    await supervisor.output()
    await all_gone(list(children.values()))
    async with LocalStack(StackOptions(supervisor.data)) as stack:  # an unclean Kafka folder, too
        assert stack.child("kafka").is_ready
        await all_gone([helper])


async def test_a_second_start_in_the_same_folder_says_who_runs_and_disturbs_nothing(supervisor: Supervisor) -> None:
    children = await supervisor.is_up()
    code, text = await Supervisor(supervisor.data).output()
    assert code == 1
    assert re.search(rf"already running .*pid {supervisor.process.pid}, gateway at http://127", text)
    assert all(is_alive(child) for child in children.values())


async def test_a_start_that_cannot_have_its_port_fails_with_a_reason_and_leaves_nothing(
    tmp_path: Path, taken_port: int
) -> None:
    code, text = await Supervisor(tmp_path / "data", str(taken_port)).output()
    assert (code, f"port {taken_port} is taken by pid {os.getpid()}" in text) == (1, True), text
    assert read_state(state_of(tmp_path / "data")).children == {}


async def test_a_log_that_grows_large_is_turned_over_while_its_writer_runs(own: LocalStack) -> None:
    program = f"import sys; sys.stdout.write('x' * 9_000_000); sys.stdout.flush(); {RUN_SERVICE}"
    await own.start_services([ServiceSpec("worker", (sys.executable, "-c", program))])
    log, pid = own.child("worker").log, own.child("worker").pid
    await eventually(log.with_name("worker.log.1").exists, what="the log was turned over")
    assert (log.stat().st_size, own.child("worker").pid) == (0, pid)


async def test_a_service_stands_back_for_the_cpu_when_told(own: LocalStack) -> None:
    await own.start_services([ServiceSpec("worker", SERVICE, nice=7)])
    status = Path(f"/proc/{own.child('worker').pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    assert int(status[16]) == 7
