"""How much the endpoints of other teams notice of one that hangs: at a steady rate (latency), and as fast as it goes (throughput).

`python -m kite_cli.bench.isolation --rate 200 --seconds 60 --rounds 3`
"""

import argparse
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, get_args

import orjson
import uvloop
from rich.console import Console

from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.generation import GENERATOR
from kite_cli.bench.isolation_figures import Figures, Isolation, Mode, Phase, alternating, figures_of, ratios_of, table_of, who_hangs
from kite_cli.bench.load.client import Pool, ask, now_s
from kite_cli.bench.load.job import Job, Sender
from kite_cli.bench.load.loops import OpenLoop, Tally, closed_loop
from kite_cli.bench.load.receiver import Arrivals
from kite_cli.bench.load.requests import messages, request
from kite_cli.bench.load.window import measuring
from kite_cli.bench.processes import CpuSample, sample, use_between
from kite_cli.bench.report import section, show_table
from kite_cli.bench.scrape import settled
from kite_cli.bench.steps import Steps
from kite_cli.bench.teams import open_teams
from kite_cli.bench.whole import Kite, whole_kite
from kite_cli.local.environment import PARTITIONS
from kite_cli.local.folders import lib_folder
from kite_cli.local.kafka_install import ensure_kafka
from kite_cli.local.ports import LOOPBACK
from kite_cli.local.step import ConsoleProgress, StepFailed
from kite_common.crypto import new_webhook_secret
from kite_common.errors import KiteError
from kite_common.log_position import partition_of
from kite_common.runtime.system import random_bytes

_ENDPOINTS: Final = 20
_HANG_S: Final = 10.0
_BODY_BYTES: Final = 1_000
# First attempts to one recipient go one after the other: with so many the lanes are the bound, not that.
_RECIPIENTS: Final = tuple(f"builder-{number}" for number in range(64))
_CONNECTIONS: Final = 64
_SATURATING: Final = 32
# As long as it takes until the hanging one's lane is full, and what waited in it too long is parked.
_WARM_UP_S: Final = 10.0
_PATIENCE_S: Final = 30.0
_SETTLED_WITHIN_S: Final = 900.0
_CONFIG_PATH: Final = "/api/v1/webhook-config"


@dataclass(frozen=True, slots=True)
class Sizes:
    """`rate`: messages a second over all endpoints; `seconds` that count of a phase, of which each round has two."""

    rate: float = 200.0
    seconds: float = 60.0
    rounds: int = 3
    modes: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A team, and the endpoint of its own that its webhooks go to."""

    sender: Sender
    arrivals: Arrivals
    url: str


@dataclass(eq=False, slots=True)
class Accepted:
    """When the 202 of each message was seen, by endpoint and event id."""

    at_s: list[dict[str, float]] = field(default_factory=lambda: [{} for _ in range(_ENDPOINTS)])

    def answered(self, number: int, status: int, body: bytes) -> None:
        """An answer of a loop."""
        if status == 202:
            self.at_s[number % _ENDPOINTS][orjson.loads(body)["id"]] = now_s()


async def measure_isolation(sizes: Sizes, steps: Steps) -> list[Isolation]:
    """All modes on one stack. Raises BenchFailed, also if an accepted message does not arrive."""
    async with whole_kite() as kite, _endpoints(await open_teams(kite, _ENDPOINTS)) as endpoints:
        await _configure(kite, endpoints)
        async with steps.step("warm up", _WARM_UP_S + sizes.seconds / 2):
            await _phase(kite, endpoints, "saturated", Sizes(seconds=sizes.seconds / 2), 0, hangs=False)
        return [await _measure(kite, endpoints, mode, sizes, steps) for mode in sizes.modes]


@asynccontextmanager
async def _endpoints(senders: Sequence[Sender]) -> AsyncIterator[tuple[Endpoint, ...]]:
    """Each with a port of its own, as receivers are hosts of their own."""
    async with AsyncExitStack() as stack:
        opened = [(sender, Arrivals()) for sender in senders]
        yield tuple([Endpoint(sender, one, await stack.enter_async_context(one.listening())) for sender, one in opened])


async def _configure(kite: Kite, endpoints: Sequence[Endpoint]) -> None:
    async with _pool(kite, 1) as pool:
        for one in endpoints:
            body = {"url": one.url, "secret": new_webhook_secret(random_bytes(32))}
            connection = pool.idle.popleft()
            status, answer = await ask(connection, request("PUT", _CONFIG_PATH, one.sender, body))
            pool.give_back(connection)
            if status != 200:
                raise BenchFailed(f"the webhook config is answered {status} {answer[:200].decode('utf-8', 'replace')}")


@asynccontextmanager
async def _pool(kite: Kite, connections: int) -> AsyncIterator[Pool]:
    pool = Pool(LOOPBACK, kite.port, connections)
    try:
        await pool.open()
        yield pool
    finally:
        await pool.close()


async def _measure(kite: Kite, endpoints: Sequence[Endpoint], mode: Mode, sizes: Sizes, steps: Steps) -> Isolation:
    phases = []
    for number, hangs in enumerate(alternating(sizes.rounds)):
        async with steps.step(f"{mode}, {'one hangs' if hangs else 'all answer'}", _WARM_UP_S + sizes.seconds) as step:
            # Both phases of a round send at the same times: chance makes no difference between them.
            phases.append(found := await _phase(kite, endpoints, mode, sizes, number // 2, hangs=hangs))
            step.said = f"{found.others.per_s:,.0f}/s, p99 {found.others.p99_ms:,.1f} ms, the one itself {found.itself.per_s:,.1f}/s"
    beside = len(_beside(endpoints, _hanging(endpoints)))
    rate = sizes.rate if mode == "steady" else 0.0
    return Isolation(mode, len(endpoints), beside, rate, sizes.seconds, _HANG_S, tuple(phases))


async def _phase(kite: Kite, endpoints: Sequence[Endpoint], mode: Mode, sizes: Sizes, seed: int, *, hangs: bool) -> Phase:
    """One phase, and until all of it is delivered."""
    hanging, accepted, samples = _hanging(endpoints), Accepted(), dict[str, CpuSample]()
    for one in endpoints:
        one.arrivals.at_s.clear()
    endpoints[hanging].arrivals.hang_s = _HANG_S if hangs else 0.0

    def say(state: str) -> None:
        samples[state] = sample(kite.pids | {GENERATOR: os.getpid()})

    job = _job(kite, endpoints, mode, sizes, seed)
    try:
        async with _pool(kite, job.connections) as pool, measuring(job, say) as (due_s, tally):
            await _load(pool, job, due_s, tally, accepted)
    finally:
        endpoints[hanging].arrivals.hang_s = 0.0
    await _all_arrived(kite, endpoints, accepted)
    cpu = use_between(samples["measuring"], samples["measured"])
    outcome = tally.outcome()

    def figures(chosen: Sequence[int]) -> Figures:
        accepted_s = {event_id: at_s for one in chosen for event_id, at_s in accepted.at_s[one].items()}
        arrived_s = {event_id: at_s for one in chosen for event_id, at_s in endpoints[one].arrivals.at_s.items()}
        return figures_of(accepted_s, arrived_s, tally.window)

    others = [one for one in range(len(endpoints)) if one != hanging]
    return Phase(
        hangs, figures(others), figures(_beside(endpoints, hanging)), figures([hanging]),
        outcome.late_p99_ms, cpu.share(GENERATOR), outcome.errors,
    )  # fmt: skip


def _job(kite: Kite, endpoints: Sequence[Endpoint], mode: Mode, sizes: Sizes, seed: int) -> Job:
    return Job(
        kind="open" if mode == "steady" else "closed", port=kite.port, senders=tuple(one.sender for one in endpoints),
        connections=_CONNECTIONS if mode == "steady" else _SATURATING, rate=sizes.rate, warm_up_s=_WARM_UP_S, measure_s=sizes.seconds,
        body_bytes=_BODY_BYTES, seed=seed, patience_s=_PATIENCE_S,
    )  # fmt: skip


async def _load(pool: Pool, job: Job, due_s: Sequence[float], tally: Tally, accepted: Accepted) -> None:
    requests = messages(job.senders, job.body_bytes, _RECIPIENTS)
    if job.kind == "closed":
        await closed_loop(pool, requests, tally, job.patience_s, accepted.answered)
    else:
        await OpenLoop(pool, requests, due_s, tally, accepted.answered).run(job.patience_s)


async def _all_arrived(kite: Kite, endpoints: Sequence[Endpoint], accepted: Accepted) -> None:
    """Wait until nothing is left to deliver, what is parked included: the next phase must not have this one's work to do."""
    await settled(kite, within_s=_SETTLED_WITHIN_S)
    missing = sum(len(at_s.keys() - one.arrivals.at_s.keys()) for at_s, one in zip(accepted.at_s, endpoints, strict=True))
    if missing:
        raise BenchFailed(f"{missing} accepted messages have not arrived")


def _hanging(endpoints: Sequence[Endpoint]) -> int:
    return who_hangs([_partition(one) for one in endpoints])


def _beside(endpoints: Sequence[Endpoint], hanging: int) -> list[int]:
    partition = _partition(endpoints[hanging])
    return [number for number, one in enumerate(endpoints) if number != hanging and _partition(one) == partition]


def _partition(endpoint: Endpoint) -> int:
    return partition_of(endpoint.sender.team_id.encode(), PARTITIONS)


def to_json(runs: Sequence[Isolation]) -> bytes:
    """All phases, and the ratios of the others; null where there is no figure."""
    return orjson.dumps([asdict(run) | {"ratios": asdict(ratios_of(run.phases, lambda phase: phase.others))} for run in runs])


def main() -> int:
    """Measure and print the tables, or JSON; 1 with the reason if it cannot be done."""
    arguments, console = _arguments(), Console(stderr=True)
    modes = get_args(Mode) if arguments.mode == "both" else (arguments.mode,)
    try:
        runs = uvloop.run(_measured(Sizes(arguments.rate, arguments.seconds, arguments.rounds, modes), console))
    except (BenchFailed, StepFailed, KiteError, ExceptionGroup) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        sys.stdout.buffer.write(to_json(runs) + b"\n")
    else:
        for run in runs:
            show_table(table_of(run), Console())
    if arguments.write is not None:
        arguments.write.write_text("\n".join(section(table_of(run)) for run in runs), encoding="utf-8")
    return 0


async def _measured(sizes: Sizes, console: Console) -> list[Isolation]:
    progress = ConsoleProgress(console)
    try:
        await ensure_kafka(lib_folder(), progress)
    finally:
        progress.stop()
    return await measure_isolation(sizes, Steps(console))


def _arguments() -> argparse.Namespace:
    usual = Sizes()
    parser = argparse.ArgumentParser(prog="python -m kite_cli.bench.isolation", description=__doc__)
    parser.add_argument("--rate", type=float, default=usual.rate, help=f"messages a second over all endpoints (default: {usual.rate:g})")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help=f"that count of a phase (default: {usual.seconds:g})")
    parser.add_argument("--rounds", type=int, default=usual.rounds, help=f"two phases each (default: {usual.rounds})")
    parser.add_argument("--mode", choices=(*get_args(Mode), "both"), default="both")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables as sections of Markdown")
    arguments = parser.parse_args()
    if arguments.rate <= 0 or arguments.seconds <= 0 or arguments.rounds < 1:
        parser.error("--rate, --seconds and --rounds must be positive")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
