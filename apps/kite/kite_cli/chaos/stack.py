"""A Kite of its own with two processes of each service, times of delivery compressed, kept running whatever ends them. Hurts nobody."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from redis.asyncio import Redis

from kite_cli.chaos.doors import Door, doors
from kite_cli.chaos.options import PROCESSES
from kite_cli.chaos.schedule import service_of
from kite_cli.local.chain.anvil import ChainOptions
from kite_cli.local.clickhouse.node import CLICKHOUSE
from kite_cli.local.environment import PARTITIONS
from kite_cli.local.folders import data_folder, lock_of
from kite_cli.local.lock import holder_of
from kite_cli.local.process import Child
from kite_cli.local.restart import RestartPolicy
from kite_cli.local.secrets import FACILITATOR_TOKEN
from kite_cli.local.stack import LocalStack, ServiceSpec, StackOptions, facilitator_spec
from kite_cli.local.step import Progress, StepFailed
from kite_cli.target import LogTarget
from kite_common.projection.server import declare_quiet
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.topics import ALL

_PREFIX: Final = "chaos-"
_KEPT: Final = "kept"
_THIRD_PARTY: Final = ("kafka", "valkey", "chain", CLICKHOUSE)
_CALLED: Final = ("gateway", "replay")
_READY_WITHIN_S: Final = 180.0
# As deploy/k8s has it: grace for what a process says and drains, and the time in which everybody learns where to call now.
_STOP_WITHIN_S: Final = 45.0
_LEFT_S: Final = 1.0
# Whoever is killed at every turn of its start is started again all the same: that is no reason to give up here.
_POLICY: Final = RestartPolicy(max_delay_s=1.0, max_failed_starts=1_000, max_failing_s=1_200.0, max_ends=1_000)
_ENVIRONMENT: Final = {
    # What takes hours outside takes seconds here, with as many tries. A receiver that hangs is left after two seconds.
    "KITE_DELIVERY_RETRY_WAITS_S": "0.5,1,2,3,4,5,6,8,10",
    "KITE_DELIVERY_TIERS_S": "0.5,1,2,4,8,16",
    "KITE_DELIVERY_ASIDE_MOST_S": "1",
    "KITE_DELIVERY_ATTEMPT_TIMEOUT_S": "2",
    "KITE_TEAM_RATE_LIMIT": "1000000",
}


@dataclass(slots=True)
class ChaosKite:
    """A running one. `processes` are those of the services; `doors`: the ports of those that are called, which stay when another process
    takes the place of one."""

    local: LocalStack
    doors: dict[str, Door] = field(default_factory=dict)
    processes: tuple[str, ...] = PROCESSES
    _now: dict[str, str] = field(default_factory=dict)
    _renewals: int = 0
    _renewing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def gateways(self) -> tuple[str, ...]:
        """The processes that callers call."""
        return tuple(name for name in self.processes if service_of(name) == "gateway")

    @property
    def log(self) -> LogTarget:
        """Its log, as an operator knows it."""
        secrets, addresses = self.local.secrets, self.local.addresses
        return LogTarget(
            addresses.kafka_bootstrap, addresses.redis_url, PARTITIONS, 1, secrets["KITE_API_KEY_PEPPER"],
            secrets["KITE_HOOK_SECRET_CIPHER_KEY"],
        )  # fmt: skip

    def url(self, process: str) -> str:
        """Where a process of a service answers."""
        return self.doors[process].url if process in self.doors else self.local.addresses.url(process)

    def child(self, process: str) -> Child:
        """A process, or the one that is in its place now, as its supervisor sees it."""
        return self.local.child(self._now.get(process, process))

    async def renew(self, process: str) -> None:
        """Put another process in the place of one: it is up and ready, and new callers are led to it, before the former is told to end.

        Raises StepFailed if it cannot be had, or if the former one does not end by itself.
        """
        async with self._renewing:
            self._renewals += 1
            former, name = self._now.get(process, process), f"{process}.{self._renewals}"
            own = _own(process, self.doors) | {"KITE_INSTANCE": f"chaos-{name}"}
            await self.local.start_services([_spec(self.local, process, name, own)])
            self._now[process] = name
            if process in self.doors:
                self.doors[process].leads_to = self.local.ports[name]
                await asyncio.sleep(_LEFT_S)
            if not await self.local.retire(former):
                raise StepFailed(former, "did not end in time after SIGTERM", f"Its log, {former}.log, says what it waited for.")


@asynccontextmanager
async def chaos_kite(data: Path | None, *, keep: bool, progress: Progress) -> AsyncIterator[ChaosKite]:
    """Start everything in an empty folder; stop everything, and remove the folder unless it is to be kept. Raises StepFailed."""
    with _folder(data, keep=keep) as folder:
        progress.done("data folder", str(folder))
        options = StackOptions(folder, chain=ChainOptions(block_time_s=2), clickhouse_server=True)
        async with LocalStack(options, progress) as local:
            for name in _THIRD_PARTY:
                child = local.child(name)
                child.spec = replace(child.spec, policy=_POLICY)
            await ensure_topics(Kafka(local.addresses.kafka_bootstrap), ALL, PARTITIONS, 1)
            await _declare_quiet(local)
            local.choose_ports([_spec(local, name, name, {}) for name in PROCESSES])
            called = {name: local.ports[name] for name in PROCESSES if service_of(name) in _CALLED}
            async with doors(called) as opened:
                await local.start_services(_specs(local, opened))
                yield ChaosKite(local, opened)


@contextmanager
def _folder(data: Path | None, *, keep: bool) -> Iterator[Path]:
    if data is not None and data.exists() and any(data.iterdir()):
        raise StepFailed("data folder", f"{data} is not empty", "Name an empty one: what is in the log must be of this run alone.")
    data_folder().mkdir(parents=True, exist_ok=True)
    _forget_killed_runs(data_folder())
    folder = Path(mkdtemp(prefix=_PREFIX, dir=data_folder())) if data is None else data
    if keep:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _KEPT).touch()
    try:
        yield folder
    finally:
        if data is None and not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _forget_killed_runs(data: Path) -> None:
    """Remove the folders of runs that were killed before they could; their processes ended with them."""
    for folder in data.glob(_PREFIX + "*"):
        if lock_of(folder).exists() and not (folder / _KEPT).exists() and holder_of(lock_of(folder)) is None:
            shutil.rmtree(folder, ignore_errors=True)


def _specs(local: LocalStack, opened: Mapping[str, Door]) -> list[ServiceSpec]:
    """The facilitator and the services; ports have been chosen, so that each can be told of the others."""
    facilitator = replace(facilitator_spec(), policy=_POLICY, ready_within_s=_READY_WITHIN_S)
    local.choose_ports([facilitator])
    return [facilitator, *(_spec(local, name, name, _own(name, opened)) for name in PROCESSES)]


def _own(process: str, opened: Mapping[str, Door]) -> dict[str, str]:
    """What the second process of a service has of its own."""
    first = process == service_of(process)
    own = {"KITE_INSTANCE": "chaos-0" if first else "chaos-1"}
    if service_of(process) == "gateway":
        own["KITE_REPLAY_URL"] = opened["replay" if first else "replay-2"].url
    return own


def _spec(local: LocalStack, process: str, name: str, own: Mapping[str, str]) -> ServiceSpec:
    """A process of a service, under a name of the stack's."""
    service = service_of(process)
    facilitator = {FACILITATOR_TOKEN: local.secrets[FACILITATOR_TOKEN]} if service == "billing" else {}
    return ServiceSpec(
        name, (sys.executable, "-m", f"kite_{service}.main"), env=_ENVIRONMENT | facilitator | dict(own), ready_within_s=_READY_WITHIN_S,
        stop_within_s=_STOP_WITHIN_S, policy=_POLICY,
    )  # fmt: skip


async def _declare_quiet(local: LocalStack) -> None:
    redis = Redis.from_url(local.addresses.redis_url)
    try:
        await declare_quiet(redis)
    finally:
        await redis.aclose()
