"""The state file of a stack, and the end of what an earlier run left. Ends nothing it cannot prove to be its own."""

import asyncio
import json
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kite_cli.local.identity import Identity, boot_id, carries, identify, is_alive, session_members
from kite_cli.local.readiness import until

# Every child carries the name of its run, and so do the children's own children.
RUN_VARIABLE = "KITE_STACK_RUN"

_ENDED_WITHIN_S = 10.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class State:
    """What a later start must know of this run: which processes it started, and on which ports."""

    run: str = ""
    boot: str = ""
    supervisor: Identity | None = None
    children: Mapping[str, Identity] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)

    def with_child(self, name: str, identity: Identity | None) -> "State":
        """Return the state with one child entered, or removed if it is None."""
        others = {known: value for known, value in self.children.items() if known != name}
        return replace(self, children=others if identity is None else others | {name: identity})


def read_state(path: Path) -> State:
    """Return the stored state; an empty one if there is none or it is damaged (the kernel's binding remains)."""
    try:
        raw = json.loads(path.read_text("utf-8"))
        return State(
            run=str(raw["run"]),
            boot=str(raw["boot"]),
            supervisor=_identity(raw["supervisor"]) if raw["supervisor"] else None,
            children={str(name): _identity(value) for name, value in raw["children"].items()},
            ports={str(name): int(port) for name, port in raw["ports"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return State()


def write_state(path: Path, state: State) -> None:
    """Replace the state file in one step, so that a reader sees the old or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(asdict(state), indent=2), "utf-8")
    temporary.replace(path)


def to_end(state: State, boot: str, running: Iterable[Identity], marked: Iterable[Identity]) -> list[Identity]:
    """Decide which of the `running` processes belong to the run in `state` and must be ended.

    A recorded child is ours only if pid and start time agree and the machine was not booted since. Of the others only
    those in `marked` are, whose environment carries the run's run: the children's own children.
    """
    if not state.run or state.boot != boot:
        return []
    recorded, of_the_run = set(state.children.values()), set(marked)
    return [process for process in running if process in recorded or process in of_the_run]


async def end_leftovers(state: State) -> list[Identity]:
    """End what an earlier run left, and return it once it is gone. Raises TimeoutError if something stays."""
    found = _present(state)
    marked = [process for process in found if carries(process.pid, RUN_VARIABLE, state.run)]
    ours = to_end(state, boot_id(), found, marked)
    for process in ours:
        _kill(process)

    async def gone() -> bool:
        return not any(is_alive(process) for process in ours)

    async with asyncio.timeout(_ENDED_WITHIN_S):
        await until(gone, _POLL_S)
    return ours


def _present(state: State) -> list[Identity]:
    present = {}
    for child in state.children.values():
        now = identify(child.pid)
        for process in [now, *session_members(child.pid)]:
            if process is not None and is_alive(process):
                present[process.pid] = process
    return list(present.values())


def _kill(process: Identity) -> None:
    # The descriptor pins the process: checked once it is open, the pid cannot pass to another before the signal.
    if not hasattr(os, "pidfd_open"):
        if is_alive(process):
            os.kill(process.pid, signal.SIGKILL)
        return
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if is_alive(process):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def _identity(raw: Mapping[str, Any]) -> Identity:
    return Identity(int(raw["pid"]), str(raw["started"]))
