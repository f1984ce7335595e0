"""Runs the components of one process: start, first exit stops all, drain with a deadline, last in first out. Owns the signals.

`run_service` is all that a service's `main` calls. No business rules here.
"""

import asyncio
import contextlib
import gc
import inspect
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import uvloop

from kite_common import VERSION
from kite_common.config import KiteSettings, load, masked
from kite_common.errors import ConfigurationError
from kite_common.runtime import faults
from kite_common.runtime.component import Component, StartAgain, readiness_of
from kite_common.runtime.observe import configure_logging, get_logger
from kite_common.runtime.system import monotonic_s

log = get_logger("kite.runtime")

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
# sysexits.h EX_TEMPFAIL: starting again is what is needed.
EXIT_START_AGAIN: Final = 75
# sysexits.h EX_CONFIG: starting again without a change is of no use.
EXIT_CONFIGURATION: Final = 78
_EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
# What a component gets when the ones stopped before it have used up the time, and what a cancelled one gets to clean up.
_LAST_CHANCE_S: Final = 1.0
_SETTLED_AFTER_S: Final = 60.0
_EXIT_WITHIN_S: Final = 2.0

SettingsT = TypeVar("SettingsT", bound=KiteSettings)
Build = Callable[[SettingsT], Sequence[Component] | Awaitable[Sequence[Component]]]


@dataclass(slots=True)
class _Running:
    component: Component
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] = field(init=False)

    def start(self) -> None:
        self.task = asyncio.create_task(self.component.run(self.stop), name=self.component.name)

    @property
    def wants_new_process(self) -> bool:
        return self.task.done() and not self.task.cancelled() and isinstance(self.task.exception(), StartAgain)


def run_service(service: str, settings_type: type[SettingsT], build: Build[SettingsT]) -> int:
    """Load settings, set up logging, build the components and supervise them on uvloop; the exit code for `sys.exit`.

    `build` runs inside the loop and may be async. Wrong settings, also those that `build` finds, are printed to standard
    error, one a line, and give exit code 78: starting again without a change is of no use.
    """
    try:
        settings = load(settings_type)
        configure_logging(settings.log_level, settings.log_format)
        log.info("service.starting", service=service, version=VERSION, settings=[f"{row.name}={row.value}" for row in masked(settings)])
        faults.announce()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_build_and_supervise(settings, build))
            _exit_at_the_latest(code)
            return code
    except ConfigurationError as error:
        sys.stderr.write("".join(f"{service}: {problem}\n" for problem in error.problems))
        return EXIT_CONFIGURATION


async def supervise(components: Sequence[Component], *, drain_timeout_s: float, on_ready: Callable[[], None] | None = None) -> int:
    """Run all components until SIGTERM, SIGINT or the first that ends by itself; the exit code, 0 only for a clean stop, 75 for StartAgain.

    They start in order and stop in reverse, one after the other, each by a stop event of its own: what was started first can
    still be used while later ones drain. All of it takes at most `drain_timeout_s` plus two seconds a component that hangs.
    A second SIGINT ends the process at once. `on_ready` is called once, when all are ready for the first time.
    """
    stopping = asyncio.Event()
    with _signals_set(stopping):
        running = [_Running(component) for component in components]
        for one in running:
            one.start()
        settled = asyncio.create_task(_when_ready(components, on_ready), name="supervisor.settled")
        clean = await _until_first_exit(running, stopping)
        settled.cancel()
        log.info("service.stopping", clean=clean)
        drained = await _stop_in_reverse(running, drain_timeout_s)
    log.info("service.stopped", clean=clean and drained)
    if any(one.wants_new_process for one in running):
        return EXIT_START_AGAIN
    return EXIT_OK if clean and drained else EXIT_FAILED


def settle_memory() -> None:
    """Take what start-up built out of the garbage collector's sight: it halved p99 at full load (measured.md, section 2)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _exit_at_the_latest(code: int) -> None:
    """A task or thread that does not end (a query, a name look-up) must not keep a stopped process."""
    timer = threading.Timer(_EXIT_WITHIN_S, os._exit, args=(code,))
    timer.daemon = True
    timer.start()


async def _build_and_supervise(settings: SettingsT, build: Build[SettingsT]) -> int:
    built = build(settings)
    components = await built if inspect.isawaitable(built) else built
    return await supervise(components, drain_timeout_s=settings.drain_timeout_s, on_ready=settle_memory)


async def _until_first_exit(running: Sequence[_Running], stopping: asyncio.Event) -> bool:
    """Wait for a signal (True) or for a component that ends although nobody told it to (False)."""
    signalled = asyncio.create_task(stopping.wait(), name="supervisor.signalled")
    await asyncio.wait({signalled, *(one.task for one in running)}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    ended = [one for one in running if one.task.done()]
    for one in ended:
        _report(one, expected=False)
    return not ended


async def _stop_in_reverse(running: Sequence[_Running], drain_timeout_s: float) -> bool:
    """Stop the components, last started first; True if all drained in time and without an error."""
    deadline = monotonic_s() + drain_timeout_s
    drained = [await _stop_one(one, max(_LAST_CHANCE_S, deadline - monotonic_s())) for one in reversed(running) if not one.task.done()]
    return all(drained)


async def _stop_one(one: _Running, timeout_s: float) -> bool:
    one.stop.set()
    await asyncio.wait({one.task}, timeout=timeout_s)
    if one.task.done():
        return _report(one, expected=True)
    log.error("component.drain_timed_out", component=one.component.name, timeout_s=timeout_s)
    one.task.cancel()
    await asyncio.wait({one.task}, timeout=_LAST_CHANCE_S)
    return False


def _report(one: _Running, *, expected: bool) -> bool:
    """Log how a component ended; True if that was in order."""
    name = one.component.name
    error = None if one.task.cancelled() else one.task.exception()
    if isinstance(error, ConfigurationError):
        log.error("component.misconfigured", component=name, problems=error.problems)
    elif isinstance(error, StartAgain):
        log.error("component.needs_new_process", component=name, reason=str(error))
    elif error is not None:
        log.error("component.failed", component=name, exc_info=error)
    elif not expected:
        log.error("component.ended_early", component=name)
    return error is None and expected


async def _when_ready(components: Sequence[Component], on_ready: Callable[[], None] | None) -> None:
    """Tell once that the service is ready; after a minute start-up counts as over in any case."""
    began = monotonic_s()
    while not all(state.ready for _, state in readiness_of(components)) and monotonic_s() - began < _SETTLED_AFTER_S:  # noqa: ASYNC110
        await asyncio.sleep(0.05)  # readiness is asked, not told
    if on_ready is not None:
        on_ready()
    waiting_for = {name: state.reason for name, state in readiness_of(components) if not state.ready}
    log.info("service.started", ready=not waiting_for, waiting_for=waiting_for, start_s=round(monotonic_s() - began, 3))


@contextlib.contextmanager
def _signals_set(stopping: asyncio.Event) -> Generator[None, None, None]:
    """SIGTERM and SIGINT set `stopping`; a second SIGINT ends the process. Only the main thread can have signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts = 0

    def interrupted() -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts > 1:
            os._exit(_EXIT_INTERRUPTED)
        stopping.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_signal_handler(signal.SIGINT)
