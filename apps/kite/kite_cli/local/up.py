"""`kitectl up` and `down` as functions: one run of the whole stack from the first line to the last.

Owns signals, the order of a run and what the person at the terminal reads. Starts nothing by itself: stack.py does.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kite_cli.local.chain.anvil import ChainOptions
from kite_cli.local.folders import data_folder, lib_folder, lock_of
from kite_cli.local.identity import is_alive
from kite_cli.local.lock import holder_of
from kite_cli.local.readiness import until
from kite_cli.local.stack import LocalStack, ServiceSpec, StackOptions
from kite_cli.local.step import ConsoleProgress, StepFailed

# Beside the gateway's 7700, where nothing well known lives; each is only a wish.
THIRD_PARTY_PORTS = {"kafka": 7790, "kafka-controller": 7791, "valkey": 7792, "chain": 7793, "clickhouse": 7794}

_DOWN_WITHIN_S = 90.0
_POLL_S = 0.1

Hook = Callable[[LocalStack], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What one may choose about a local stack."""

    data: Path = field(default_factory=data_folder)
    lib: Path = field(default_factory=lib_folder)
    kafka_heap_mb: int = 512
    chain: ChainOptions | None = None
    clickhouse_server: bool = False


async def up(
    options: UpOptions,
    console: Console,
    services: Sequence[ServiceSpec],
    *,
    prepare: Hook | None = None,
    started: Hook | None = None,
    told: Hook | None = None,
) -> int:
    """Run the stack in the foreground until SIGINT, SIGTERM or SIGHUP; return the exit code.

    `prepare` runs once Kafka and Valkey serve and before the services start (topics), `started` once they are ready, and
    `told` after the table. Hooks raise StepFailed.

    0 after a stop that was asked for, 1 if a step failed, the folder is in use, or a child was given
    up. A second signal kills at once.
    """
    progress = ConsoleProgress(console)
    wanted = StackOptions(
        options.data, options.lib, THIRD_PARTY_PORTS, options.kafka_heap_mb, chain=options.chain,
        clickhouse_server=options.clickhouse_server,
    )  # fmt: skip
    stack = LocalStack(wanted, progress)
    async with _stop_signals() as stop:
        try:
            run = asyncio.create_task(_run(stack, console, _Run(services, prepare, started, told)))
            await _first(run, asyncio.create_task(stop.wait()))
        except (StepFailed, OSError) as error:
            progress.stop()
            _print_failure(console, error)
            return 1
        else:
            return 0
        finally:
            progress.stop()
            stop.clear()
            await _close(stack, console, stop)


async def down(data: Path, console: Console) -> int:
    """Stop the stack of a data folder and wait until it is gone; 0 also if there is none."""
    lock = lock_of(data)
    holder = holder_of(lock)
    if holder is None:
        console.print(f"nothing is running in {data}", highlight=False)
        return 0
    if is_alive(holder.identity):
        os.kill(holder.pid, signal.SIGTERM)

    async def released() -> bool:
        return holder_of(lock) != holder

    try:
        async with asyncio.timeout(_DOWN_WITHIN_S):
            await until(released, _POLL_S)
    except TimeoutError:
        console.print(f"[red]pid {holder.pid} has not stopped within {_DOWN_WITHIN_S:.0f} s[/red]", highlight=False)
        return 1
    console.print(f"stopped (pid {holder.pid})", highlight=False)
    return 0


def listening_table(stack: LocalStack) -> Table:
    """Return what listens where, with the log of each."""
    table = Table("part", "listens on", "pid", "memory", "log")
    for name, child in stack.children.items():
        address = stack.listens_on(name)
        table.add_row(name, address, str(child.pid or "-"), _megabytes(child.resident_bytes), _short(child.log))
    return table


@dataclass(frozen=True, slots=True)
class _Run:
    services: Sequence[ServiceSpec]
    prepare: Hook | None
    started: Hook | None
    told: Hook | None


async def _run(stack: LocalStack, console: Console, wanted: _Run) -> None:
    await stack.start()
    await _call(wanted.prepare, stack)
    await stack.start_services(wanted.services)
    if "gateway" in stack.ports:
        stack.describe(stack.listens_on("gateway"))
    await _call(wanted.started, stack)
    console.print(listening_table(stack))
    await _call(wanted.told, stack)
    console.print("Ctrl-C stops everything.", highlight=False)
    raise await stack.failed()


async def _call(hook: Hook | None, stack: LocalStack) -> None:
    if hook is not None:
        await hook(stack)


async def _first(*tasks: asyncio.Task[object]) -> None:
    """Wait for the first to end, end the others, and raise what it raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _close(stack: LocalStack, console: Console, hurry: asyncio.Event) -> None:
    if stack.children:
        console.print("stopping", highlight=False)
    closing, hurried = asyncio.create_task(stack.close()), asyncio.create_task(hurry.wait())
    await asyncio.wait({closing, hurried}, return_when=asyncio.FIRST_COMPLETED)
    if not closing.done():
        console.print("killing what is left", highlight=False)
        stack.kill_all()
    hurried.cancel()
    await closing


@asynccontextmanager
async def _stop_signals() -> AsyncIterator[asyncio.Event]:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _print_failure(console: Console, error: StepFailed | OSError) -> None:
    if isinstance(error, OSError):
        error = StepFailed(
            "local stack", str(error), "Check space and permissions of the data folder, then run it again."
        )
    text = f"[red bold]{escape(error.step)}:[/red bold] {escape(error.reason)}\n{escape(error.advice)}"
    console.print(text, highlight=False, soft_wrap=True)


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.0f} MB"
