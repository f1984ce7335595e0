"""A whole Kite for one measurement: a local stack with an empty folder, topics, services, teams. Measures nothing."""

import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from kite_cli.local.chain.anvil import LASTING, ChainOptions
from kite_cli.local.environment import FACILITATOR, PARTITIONS
from kite_cli.local.folders import data_folder, lock_of
from kite_cli.local.lock import holder_of
from kite_cli.local.stack import LocalStack, ServiceSpec, StackOptions
from kite_cli.services import NICE
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.topics import ALL

SERVICES: Final = ("gateway", "billing", "delivery", "replay")
# No run comes near it, so nothing is refused; the bucket is kept all the same, as for any team.
_ENVIRONMENT: Final = {"KITE_TEAM_RATE_LIMIT": "1000000"}
_READY_WITHIN_S: Final = 180.0
_PREFIX: Final = "bench-"


@dataclass(frozen=True, slots=True)
class Kite:
    """A running one."""

    local: LocalStack

    @property
    def kafka(self) -> Kafka:
        """Where its log is."""
        return Kafka(self.local.addresses.kafka_bootstrap, client_id="kite-bench")

    @property
    def port(self) -> int:
        """The gateway's."""
        return self.local.addresses.services["gateway"]

    @property
    def pids(self) -> dict[str, int]:
        """The process of each part that runs now."""
        return {name: child.pid for name, child in self.local.children.items() if child.pid is not None}


def command_of(service: str) -> tuple[str, ...]:
    """How a service is started, the same as by `kitectl up`."""
    return (sys.executable, "-m", f"kite_{service}.main")


@asynccontextmanager
async def bare_stack(chain: ChainOptions | None = None, *, clickhouse_server: bool = False) -> AsyncIterator[Kite]:
    """Kafka with its topics, Valkey, chain and ClickHouse server if wanted, no services; the folder goes after. Raises StepFailed."""
    data_folder().mkdir(parents=True, exist_ok=True)
    _forget_killed_runs(data_folder())
    with TemporaryDirectory(prefix=_PREFIX, dir=data_folder(), ignore_cleanup_errors=True) as folder:
        async with LocalStack(StackOptions(Path(folder), chain=chain, clickhouse_server=clickhouse_server)) as local:
            await ensure_topics(Kafka(local.addresses.kafka_bootstrap), ALL, PARTITIONS, 1)
            yield Kite(local)


@asynccontextmanager
async def whole_kite(commands: Mapping[str, tuple[str, ...]] | None = None) -> AsyncIterator[Kite]:
    """All of it but what payments need, ready; `commands` instead of the usual ones by service. Raises StepFailed."""
    async with bare_stack() as kite:
        await start_services(kite, SERVICES, commands)
        yield kite


@asynccontextmanager
async def kite_with_payments() -> AsyncIterator[Kite]:
    """All that `kitectl up` starts, ready: with the chain and the facilitator. Raises StepFailed."""
    async with bare_stack(LASTING) as kite:
        await start_services(kite, (FACILITATOR, *SERVICES))
        yield kite


def _forget_killed_runs(data: Path) -> None:
    """Remove the folders of benchmarks that were killed before they could; their processes ended with them."""
    for folder in data.glob(_PREFIX + "*"):
        if lock_of(folder).exists() and holder_of(lock_of(folder)) is None:
            shutil.rmtree(folder, ignore_errors=True)


async def start_services(kite: Kite, names: Sequence[str], commands: Mapping[str, tuple[str, ...]] | None = None) -> None:
    """Start services side by side and wait until they are ready. Raises StepFailed."""
    chosen = {name: command_of(name) for name in names} | dict(commands or {})
    await kite.local.start_services([_spec(name, name, chosen[name], _ENVIRONMENT) for name in names])


async def start_beside(kite: Kite, service: str, name: str) -> None:
    """Start one more process of a service, under a name of its own, and wait until it is ready. Raises StepFailed."""
    await kite.local.start_services([_spec(service, name, command_of(service), _ENVIRONMENT | {"KITE_INSTANCE": name})])


def _spec(service: str, name: str, command: tuple[str, ...], env: Mapping[str, str]) -> ServiceSpec:
    return ServiceSpec(name, command, env=env, ready_within_s=_READY_WITHIN_S, nice=NICE[service])
