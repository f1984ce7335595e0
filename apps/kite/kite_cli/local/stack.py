"""The local stack: start order, readiness, ports, data folder, shutdown. Knows processes, not events.

In the data folder: `lock` (held while a supervisor runs, and who that is), `state.json` (its children and ports, for
the next start), `secrets.json` (drawn once), `kafka`, `valkey`, `clickhouse`, `chain` (the parts' own), `logs/<name>.log`.
"""

import asyncio
import os
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self

from kite_cli.local import kafka, leftovers, readiness
from kite_cli.local.chain.anvil import AnvilNode, ChainOptions, anvil_spec
from kite_cli.local.chain.install import ensure_anvil
from kite_cli.local.chain.keeper import ChainKeeper
from kite_cli.local.chain.pairing import Half, pair
from kite_cli.local.clickhouse.node import CLICKHOUSE, ClickHouseNode, clickhouse_spec
from kite_cli.local.environment import FACILITATOR, Addresses, ChainAddress, clickhouse_url, service_environment, tool_environment
from kite_cli.local.folders import lib_folder, lock_of, state_of
from kite_cli.local.identity import Identity, boot_id, identify
from kite_cli.local.kafka_install import ensure_kafka
from kite_cli.local.lock import DataLock, Holder
from kite_cli.local.logs import bound
from kite_cli.local.ports import LOOPBACK, PortBook, holder_text, reached_at
from kite_cli.local.process import Child, ProcessSpec
from kite_cli.local.restart import RestartPolicy
from kite_cli.local.secrets import load_or_draw
from kite_cli.local.step import Progress, Silent, StepFailed
from kite_cli.local.tool import run_tool
from kite_cli.local.valkey import ValkeyNode, valkey_spec

THIRD_PARTY = ("kafka", "valkey")
# A look at the sizes of eight files; the fastest writer adds a few bounds meanwhile.
_LOGS_BOUNDED_EVERY_S = 2.0
CHAIN = "chain"


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One of our services, or anything else that listens on one port.

    With `must_have_port` a taken port is an error, otherwise another one is used. Without `ready_path` it counts as
    ready as soon as the port is open. `env` goes over what the stack sets.
    """

    name: str
    command: tuple[str, ...]
    port: int | None = None
    must_have_port: bool = False
    host: str = LOOPBACK
    ready_path: str | None = "/readyz"
    env: Mapping[str, str] = field(default_factory=dict)
    ready_within_s: float = 30.0
    stop_within_s: float = 15.0
    nice: int = 0
    policy: RestartPolicy = field(default_factory=RestartPolicy)


@dataclass(frozen=True, slots=True)
class Servers:
    """Kafka, Redis and ClickHouse that somebody else has started, for services on this machine."""

    kafka_bootstrap: str
    redis_url: str
    clickhouse_url: str


@dataclass(frozen=True, slots=True)
class StackOptions:
    """Where a stack lives and how large it is. Ports in `ports` (kafka, kafka-controller, valkey, chain, clickhouse) are wishes.

    Without `chain` there is none until `start_chain`; `facilitator` is started with it, else by `start_facilitator`. With
    `clickhouse_server` the archive's engine is a process of its own on the same folder, else replay opens it in itself. With `servers`
    it starts none of the three.
    """

    data: Path
    lib: Path = field(default_factory=lib_folder)
    ports: Mapping[str, int] = field(default_factory=dict)
    kafka_heap_mb: int = 512
    archive: bool = True
    chain: ChainOptions | None = None
    facilitator: bool = False
    clickhouse_server: bool = False
    servers: Servers | None = None


def facilitator_spec(env: Mapping[str, str] | None = None, *, port: int | None = None, nice: int = 0) -> ServiceSpec:
    """The facilitator as a child, which needs the chain; `env` goes over what the stack sets."""
    return ServiceSpec(FACILITATOR, (sys.executable, "-m", f"kite_{FACILITATOR}.main"), port=port, env=env or {}, nice=nice)


class LocalStack:
    """Kafka and Valkey, and chain and services added to them, from `start` to `close`. Usable as an async context manager.

    Children are started again when they end unasked. Must be used from one event loop, in the main thread.
    """

    def __init__(self, options: StackOptions, progress: Progress | None = None) -> None:
        self.options = options
        self.children: dict[str, Child] = {}
        self.ports: dict[str, int] = {}
        self.secrets: Mapping[str, str] = {}
        self._data = options.data.resolve()
        self._progress = progress or Silent()
        self._lock = DataLock(lock_of(self._data))
        self._book = PortBook()
        self._state = leftovers.State()
        self._hosts: dict[str, str] = {}
        self._chain: AnvilNode | None = None
        self._keeper: ChainKeeper | None = None
        self._log_keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start Kafka and Valkey; whatever was started is stopped again if that fails."""
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop everything."""
        await self.close()

    async def start(self) -> None:
        """Take the data folder, end leftovers, install what is missing, start Kafka and Valkey until they serve.

        Raises StepFailed, naming the step; then `close` must be called all the same.
        """
        self._take_folder()
        await self._end_leftovers()
        self.secrets = load_or_draw(self._data / "secrets.json")
        self._log_keeper = asyncio.create_task(self._bound_logs(), name="bound-logs")
        if self.options.servers is None:
            await self._start_third_party(await ensure_kafka(self.options.lib, self._progress, archive=self.options.archive))
        elif self.options.chain is not None:
            await self.start_chain(self.options.chain)
        if self.options.facilitator:
            await self.start_facilitator()

    async def start_chain(self, options: ChainOptions | None = None) -> None:
        """Start the chain, with its token, unless it runs. Raises StepFailed."""
        if self._chain is None:
            await self._add_chain(options or ChainOptions())
            await self._start_side_by_side([CHAIN])

    async def start_facilitator(self, env: Mapping[str, str] | None = None) -> None:
        """Start the facilitator, and the chain if there is none, unless it runs. Raises StepFailed."""
        await self.start_chain()
        if FACILITATOR not in self.children:
            await self.start_services([facilitator_spec(env)])

    async def start_services(self, services: Sequence[ServiceSpec]) -> None:
        """Start services side by side and wait until each is ready. Raises StepFailed if one cannot be had."""
        self.choose_ports(services)
        for service in services:
            self._add(self._service_process(service))
        await self._start_side_by_side([service.name for service in services])

    def choose_ports(self, services: Sequence[ServiceSpec]) -> None:
        """Choose the ports of services that are started now or later, so that others can be told of them. Raises StepFailed."""
        for service in services:
            if service.name not in self._hosts:
                self._pick_service_port(service, services)

    async def retire(self, name: str) -> bool:
        """Stop a service and forget it; False if it had to be forced. Its port stays taken until `close`."""
        by_itself = await self._stop_told(name)
        del self.children[name], self.ports[name], self._hosts[name]
        return by_itself

    async def close(self) -> None:
        """Stop services, then chain, ClickHouse, Valkey and Kafka, each with its deadline, and give the folder back. May be repeated."""
        services = [name for name in self.children if name not in (*THIRD_PARTY, CHAIN, CLICKHOUSE)]
        if self._log_keeper is not None:
            self._log_keeper.cancel()
        async with AsyncExitStack() as after_services:  # from its last to its first, each also if one before it failed
            for release in (self._lock.release, self._book.release, self.children.clear):
                after_services.callback(release)
            for name in THIRD_PARTY:  # Valkey's clients are gone; Kafka is last because all facts end there
                if name in self.children:
                    after_services.push_async_callback(self._stop_told, name)
            if CLICKHOUSE in self.children:
                after_services.push_async_callback(self._stop_told, CLICKHOUSE)
            after_services.push_async_callback(self._stop_chain)
            ends = await asyncio.gather(*(self._stop_told(name) for name in services), return_exceptions=True)
            if failures := [end for end in ends if isinstance(end, BaseException)]:
                raise failures[0]

    @property
    def addresses(self) -> Addresses:
        """Where everything is."""
        own = ("kafka", "kafka-controller", "valkey", CHAIN, CLICKHOUSE)
        servers = self.options.servers or Servers(
            kafka_bootstrap=f"{LOOPBACK}:{self.ports['kafka']}",
            redis_url=f"redis://{LOOPBACK}:{self.ports['valkey']}/0",
            clickhouse_url=clickhouse_url(self._data, self.ports.get(CLICKHOUSE)),
        )
        return Addresses(
            kafka_bootstrap=servers.kafka_bootstrap,
            redis_url=servers.redis_url,
            clickhouse_url=servers.clickhouse_url,
            services={name: port for name, port in self.ports.items() if name not in own},
            chain=ChainAddress(self._chain.url, self._chain.options.chain_id) if self._chain is not None else None,
            hosts=dict(self._hosts),
        )

    @property
    def chain(self) -> AnvilNode:
        """The chain. Raises KeyError if there is none."""
        if self._chain is None:
            raise KeyError(CHAIN)
        return self._chain

    def environment(self, service: str) -> dict[str, str]:
        """Return the environment a service of this stack gets; its port must have been picked."""
        return service_environment(service, self.addresses, self.secrets, host=self._hosts.get(service, LOOPBACK))

    def child(self, name: str) -> Child:
        """Return one child by name: its pid, log, memory, and kill9, stop, start, freeze, thaw for fault tests."""
        return self.children[name]

    def listens_on(self, name: str) -> str:
        """Return the address of one child, as its clients write it."""
        address = f"{reached_at(self._hosts.get(name, LOOPBACK))}:{self.ports[name]}"
        return address if name in THIRD_PARTY else f"http://{address}"

    def kill_all(self) -> None:
        """Kill every child at once, for somebody who does not want to wait for `close` any longer."""
        for child in self.children.values():
            child.abandon()

    async def failed(self) -> StepFailed:
        """Wait until a child is given up, and return why; for ever if none is."""
        waits = [asyncio.create_task(child.failed()) for child in self.children.values()]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for wait in waits:
                wait.cancel()

    def describe(self, gateway: str) -> None:
        """Write the gateway's address into the lock file, for those who find the folder taken."""
        self._lock.describe(replace(_holder(), gateway=gateway))

    def _take_folder(self) -> None:
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(_holder())
        except OSError as error:
            advice = "Choose a folder you may write to with --data."
            raise StepFailed("data folder", f"{self._data} cannot be used: {error}", advice) from error

    async def _end_leftovers(self) -> None:
        path = state_of(self._data)
        former = leftovers.read_state(path)
        try:
            ended = await leftovers.end_leftovers(former)
        except TimeoutError as error:
            names = ", ".join(str(child.pid) for child in former.children.values())
            advice = f"Look at these processes ({names}); end them or restart the machine."
            raise StepFailed("leftovers", "a process of an earlier run does not end", advice) from error
        if ended:
            self._progress.warn("leftovers", f"ended {len(ended)} processes of an earlier run")
        self._state = leftovers.State(uuid.uuid4().hex, boot_id(), _me(), {}, former.ports)
        leftovers.write_state(path, self._state)

    async def _start_third_party(self, jars: Path) -> None:
        self._pick_own_ports("kafka", "kafka-controller", "valkey")
        if self.options.chain is not None:
            await self._add_chain(self.options.chain)
        node = kafka.KafkaNode(
            self._data / "kafka", jars, self.ports["kafka"], self.ports["kafka-controller"], self.options.kafka_heap_mb
        )
        await self._prepare_kafka(node)
        self._add(kafka.kafka_spec(node, self._tool_environment()))
        self._add(valkey_spec(ValkeyNode(self._data / "valkey", self.ports["valkey"]), self._tool_environment()))
        if self.options.clickhouse_server:
            self._pick_own_ports(CLICKHOUSE)
            self._add(clickhouse_spec(ClickHouseNode(self._data / "clickhouse", self.ports[CLICKHOUSE]), self._tool_environment()))
        optional = [name for name in (CHAIN, CLICKHOUSE) if name in self.children]
        await self._start_side_by_side([*THIRD_PARTY, *optional])

    def _pick_own_ports(self, *names: str) -> None:
        for name in names:
            former, wish = self._state.ports.get(name), self.options.ports.get(name)
            wishes_of_others = {port for other, port in self.options.ports.items() if other != name}
            port = self._book.pick([port for port in (former, wish) if port], after=wish, avoid=wishes_of_others)
            if wish and port not in (former, wish):
                self._progress.warn(name, f"port {wish} is taken by {holder_text(wish)}; using {port}")
            self.ports[name] = port
        self._remember_ports()

    async def _add_chain(self, options: ChainOptions) -> None:
        binary = await ensure_anvil(self.options.lib, self._progress)
        self._pick_own_ports(CHAIN)
        node = AnvilNode(self._data / CHAIN, binary, self.ports[CHAIN], options)
        if node.state is not None:
            log = self._data / "kafka"
            pair(Half(log, kafka.is_formatted(log)), Half(node.folder, node.state.exists()))
        self._add(anvil_spec(node, self._tool_environment()))
        self._chain = node
        if node.state is not None:
            child = self.children[CHAIN]
            warn = partial(self._progress.warn, CHAIN)
            self._keeper = ChainKeeper(node.url, node.state, lambda: child.pid if child.is_ready else None, warn)
            self._keeper.begin()

    async def _stop_chain(self) -> None:
        if self._keeper is not None:
            await self._keeper.end()
        if CHAIN in self.children:
            await self._stop_told(CHAIN)
        self._chain = self._keeper = None

    async def _prepare_kafka(self, node: kafka.KafkaNode) -> None:
        kafka.write_files(node)
        if node.is_formatted:
            return
        self._progress.doing("kafka", "formatting its folder, once")
        kafka.forget_half_format(node)
        code, text = await run_tool(kafka.format_spec(node), env=self._tool_environment())
        if code:
            raise StepFailed("kafka", f"its folder could not be formatted:\n{text}", f"Look at {node.folder}.")
        kafka.mark_formatted(node)

    async def _start_side_by_side(self, names: Sequence[str]) -> None:
        waits = [asyncio.create_task(self._start_told(name)) for name in names]
        try:
            for finished in asyncio.as_completed(waits):
                await finished
        finally:
            for wait in waits:
                wait.cancel()

    async def _start_told(self, name: str) -> None:
        began = time.monotonic()
        self._progress.doing(name, "starting")
        await self.children[name].start()
        self._progress.done(name, f"ready on port {self.ports[name]} after {time.monotonic() - began:.1f} s")

    async def _stop_told(self, name: str) -> bool:
        child = self.children[name]
        by_itself = await child.stop()
        if by_itself:
            self._progress.done(name, "stopped")
        else:
            self._progress.warn(name, f"did not stop within {child.spec.stop_within_s:.0f} s and was killed")
        return by_itself

    def _pick_service_port(self, service: ServiceSpec, services: Sequence[ServiceSpec]) -> None:
        wish, former = service.port, self._state.ports.get(service.name)
        taken_by = ""
        if wish and not self._book.take(wish):
            taken_by = holder_text(wish)
            if service.must_have_port:
                advice = "End that process or name another port."
                raise StepFailed(service.name, f"port {wish} is taken by {taken_by}", advice)
        port = wish if wish and not taken_by else None
        if port is None:
            wishes_of_others = {other.port for other in services if other.port}
            port = self._book.pick([former] if former else [], after=wish, avoid=wishes_of_others)
        if taken_by:
            self._progress.warn(service.name, f"port {wish} is taken by {taken_by}; using {port}")
        self.ports[service.name], self._hosts[service.name] = port, service.host
        self._remember_ports()

    def _service_process(self, service: ServiceSpec) -> ProcessSpec:
        host, port, path = reached_at(service.host), self.ports[service.name], service.ready_path

        async def ready() -> bool:
            if path is None:
                return await readiness.is_open(host, port)
            return await readiness.answers_ok(host, port, path)

        env = self.environment(service.name) | {leftovers.RUN_VARIABLE: self._state.run} | dict(service.env)
        return ProcessSpec(
            service.name, service.command, ready, env, service.ready_within_s, service.stop_within_s, service.nice, service.policy
        )

    def _add(self, spec: ProcessSpec) -> None:
        log = self._data / "logs" / f"{spec.name}.log"
        self.children[spec.name] = Child(
            spec, log=log, folder=self._data, changed=self._child_changed, warn=self._progress.warn
        )

    def _child_changed(self, name: str, identity: Identity | None) -> None:
        self._state = self._state.with_child(name, identity)
        try:
            leftovers.write_state(state_of(self._data), self._state)
        except OSError as error:  # a full disk: the child is looked after all the same, and the kernel ends it with us
            self._progress.warn(name, f"could not be noted for the next start: {error}")

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOGS_BOUNDED_EVERY_S)
            for child in self.children.values():
                with suppress(OSError):  # no room for the copy now: tried again
                    bound(child.log)

    def _remember_ports(self) -> None:
        self._state = replace(self._state, ports=dict(self._state.ports) | self.ports)
        leftovers.write_state(state_of(self._data), self._state)

    def _tool_environment(self) -> dict[str, str]:
        return tool_environment() | {leftovers.RUN_VARIABLE: self._state.run}


def _holder() -> Holder:
    return Holder(_me().pid, _me().started, boot_id())


def _me() -> Identity:
    return identify(os.getpid()) or Identity(os.getpid(), "")
