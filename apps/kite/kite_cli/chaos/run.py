"""One run: stack, crowd, faults by schedule, drain, evidence, verdict. Prints nothing: a listener is told."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from kite_cli.chaos.audited import audited
from kite_cli.chaos.evidence import collect
from kite_cli.chaos.faults.catalog import FAULTS
from kite_cli.chaos.load.crowd import Crowd, crowd_of
from kite_cli.chaos.load.teams import Cast, partitions_of
from kite_cli.chaos.memory import Memory
from kite_cli.chaos.options import ChaosOptions
from kite_cli.chaos.recovery import Injected, Recovery, longest_waits, recoveries, successes
from kite_cli.chaos.schedule import KINDS, Planned, schedule
from kite_cli.chaos.stack import ChaosKite
from kite_cli.chaos.verdict import LOST, UNNOTICED, Break, Found, judge, noticed, unfinished

_SETTLE_WITHIN_S: Final = 120.0
_READY_WITHIN_S: Final = 90.0


class Listener(Protocol):
    """Who is told how a run goes on."""

    def phase(self, text: str, expected_s: float) -> None:
        """What is done now, and for about how long."""

    def fault(self, planned: Planned) -> None:
        """A fault happens now."""


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    options: ChaosOptions
    injected: list[Injected] = field(default_factory=list)
    recovered: list[Recovery] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    waits: dict[str, float] = field(default_factory=dict)
    figures: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    audit: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.breaks and (self.audit is None or bool(self.audit["ok"]))


async def run_chaos(kite: ChaosKite, options: ChaosOptions, listener: Listener) -> Outcome:
    """Load, faults, drain, verdict. Raises CommandFailed, StepFailed if the run itself cannot be done."""
    memory, outcome = Memory(), Outcome(options)
    planned = schedule(options.seed, options.minutes, options.kinds, kite.processes)
    listener.phase("opening teams", 15)
    async with crowd_of(kite, memory, options.seed, options.load) as crowd:
        await crowd.begin()
        listener.phase("under fire", options.minutes * 60)
        outcome.injected = await _under_fire(kite, planned, options.minutes * 60, listener)
        listener.phase("draining", 30)
        await _all_ready(kite)
        await crowd.stop_sending(options.patience_s)
        await crowd.settle(_SETTLE_WITHIN_S)
        listener.phase("collecting evidence", 30)
        found = await collect(kite, crowd.cast, memory, crowd.looking, within_s=_SETTLE_WITHIN_S)
        _conclude(outcome, crowd, memory, found)
    listener.phase("kitectl audit", 30)
    outcome.audit = await audited(kite.local.options.data)
    outcome.breaks += unfinished(outcome.audit["in_flight"])
    return outcome


async def _under_fire(kite: ChaosKite, planned: Sequence[Planned], lasts_s: float, listener: Listener) -> list[Injected]:
    began, injected = time.monotonic(), list[Injected]()

    async def inject(one: Planned) -> None:
        await asyncio.sleep(max(0.0, began + one.at_s - time.monotonic()))
        listener.fault(one)
        at_s = time.monotonic()
        await FAULTS[one.kind](kite, one)
        injected.append(Injected(one, at_s, time.monotonic()))
        await asyncio.sleep(KINDS[one.kind].rest_s)  # one that took longer than it should has its rest all the same

    async with asyncio.TaskGroup() as group:
        for one in planned:
            group.create_task(inject(one))
        group.create_task(asyncio.sleep(lasts_s))
    return sorted(injected, key=lambda one: one.began_s)


async def _all_ready(kite: ChaosKite) -> None:
    """Everybody is back, or was waited for long enough: what then is missing shows in the verdict."""
    waits = [asyncio.create_task(child.wait_ready()) for child in kite.local.children.values()]
    _, late = await asyncio.wait(waits, timeout=_READY_WITHIN_S)
    for one in late:
        one.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


def _conclude(outcome: Outcome, crowd: Crowd, memory: Memory, found: Found) -> None:
    cast: Cast = crowd.cast
    outcome.breaks = judge(memory, found, sure_receivers=cast.sure, opened=cast.opened)
    if set(outcome.options.kinds) <= UNNOTICED:
        outcome.breaks += noticed(memory)
    seen = successes(memory, partitions_of(cast.steady))
    outcome.recovered = recoveries(outcome.injected, seen)
    outcome.breaks += [
        Break(LOST, f"nothing went through after {one.injected.planned.kind} of {one.injected.planned.target}")
        for one in outcome.recovered if one.seconds is None
    ]  # fmt: skip
    outcome.waits = longest_waits(memory, partitions_of(cast.steady), seen)
    outcome.statuses = dict(memory.statuses)
    outcome.figures = {
        "accepted": len(memory.accepted),
        "open": len(memory.open_texts),
        "events in the log": sum(found.event_counts.values()),
        "ledger entries": len(found.ledger),
        "payments": len(memory.paid),
        "webhooks": sum(one.count for one in memory.arrived.values()),
        "webhooks that came again": sum(one.count > 1 for one in memory.arrived.values()),
        "rows shown to readers": sum(len(walk.rows) for walk in memory.walks),
    }
