"""`kitectl up`: the services with their ports, topics before, a demo team, a first message, a demo wallet after them. Owns no process."""

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kite_cli.demo import KeptTeam, is_used_up, kept_team, new_team
from kite_cli.failure import CommandFailed
from kite_cli.found import find_stack
from kite_cli.gateway_client import ApiRefused, gateway_client
from kite_cli.local.chain.anvil import LASTING
from kite_cli.local.chain.install import anvil_of, ensure_anvil
from kite_cli.local.environment import PARTITIONS
from kite_cli.local.folders import lib_folder
from kite_cli.local.identity import stat_fields
from kite_cli.local.java import archive_of
from kite_cli.local.kafka_install import ensure_kafka
from kite_cli.local.kafka_jars import VERSION
from kite_cli.local.ports import LOOPBACK
from kite_cli.local.stack import CHAIN, LocalStack, ServiceSpec, facilitator_spec
from kite_cli.local.step import ConsoleProgress, StepFailed
from kite_cli.local.up import Hook, UpOptions, up
from kite_cli.output import Output
from kite_cli.private_file import read_private, write_private
from kite_cli.services import NICE
from kite_cli.target import DEMO_FILE, LogTarget
from kite_common.clock import rfc3339
from kite_common.errors import KiteError, Unavailable
from kite_common.ids import uuid7
from kite_common.projection.server import declare_quiet
from kite_common.runtime.system import SystemClock, boottime_s, random_bits
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.topics import ALL

START_FILE: Final = "start.json"
# Beside each other, where nothing well known lives; all but one that was asked for are only wishes.
PORTS: Final = {"gateway": 7700, "billing": 7701, "delivery": 7702, "replay": 7703}
FACILITATOR_PORT: Final = 7704
# On a machine whose CPUs are taken, those that stand back need more than a minute; one that ends is seen at once, whatever this is.
_READY_WITHIN_S: Final = 180.0
# What the demo wallet begins with.
_FIRST_USDC: Final = 100
_REDIS_WITHIN_S: Final = 5.0
_NEXT: Final = (
    ('kitectl send "hello"', "sends a message, and says what it cost"),
    ("kitectl events", "reads it back; --follow waits for more"),
    ("make smoke", "follows one message through all four services"),
)


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """`port` None = 7700 or the next free one; a port that is named must be free. `host` is where the gateway listens.

    Without `payments` there is neither chain nor facilitator, and routes that take payments say so. With `clickhouse_server` the archive's
    engine is a process of its own.
    """

    data: Path
    port: int | None = None
    host: str = LOOPBACK
    kafka_heap_mb: int = 512
    payments: bool = True
    clickhouse_server: bool = False


async def launch(options: LaunchOptions, output: Output) -> int:
    """Run everything in the foreground until it is told to stop; the exit code."""
    start = _Start(options.data, output, await _install(output, payments=options.payments))
    chain = LASTING if options.payments else None
    return await up(
        UpOptions(data=options.data, kafka_heap_mb=options.kafka_heap_mb, chain=chain, clickhouse_server=options.clickhouse_server),
        output.console, service_specs(options),
        prepare=_as_step("topics and Valkey", start.prepare), started=_as_step("demo team", start.first_message),
        told=_as_step("demo wallet", start.tell),
    )  # fmt: skip


def service_specs(options: LaunchOptions) -> list[ServiceSpec]:
    """The services as children of the stack, each the command that a container would run."""
    facilitator = [facilitator_spec(port=FACILITATOR_PORT, nice=NICE["facilitator"])] if options.payments else []
    return facilitator + [
        ServiceSpec(
            name,
            (sys.executable, "-m", f"kite_{name}.main"),
            port=options.port if name == "gateway" and options.port is not None else port,
            must_have_port=name == "gateway" and options.port is not None,
            host=options.host if name == "gateway" else LOOPBACK,
            ready_within_s=_READY_WITHIN_S,
            nice=NICE[name],
        )
        for name, port in PORTS.items()
    ]


def cold_start_s(data: Path) -> float | None:
    """Seconds from the beginning of `kitectl up` to the first accepted message, at the last start; None if there was none.

    Without the time of a first start that downloaded Kafka.
    """
    found = (read_private(data / START_FILE) or {}).get("first_accepted_s")
    return float(found) if isinstance(found, int | float) else None


def next_steps(command: str) -> Sequence[str]:
    """The lines that say what to try; `command` is how kitectl is called from here."""
    width = max(len(_called(what, command)) for what, _ in _NEXT)
    return ("Now try, in another terminal:", *(f"  {_called(what, command):<{width}}  {why}" for what, why in _NEXT))


@dataclass(frozen=True, slots=True)
class _Start:
    """The hooks of a start, and what they tell."""

    data: Path
    output: Output
    installing_s: float

    async def prepare(self, stack: LocalStack) -> None:
        """Create topics, and say in Valkey that all services of earlier runs have ended: billing need not wait for their messages."""
        await self._topics(stack)
        redis = Redis.from_url(stack.addresses.redis_url, socket_timeout=_REDIS_WITHIN_S, socket_connect_timeout=_REDIS_WITHIN_S)
        try:
            await declare_quiet(redis)
        except (RedisError, OSError) as error:
            raise Unavailable(f"Valkey does not answer: {type(error).__name__}") from error
        finally:
            await redis.aclose()

    async def _topics(self, stack: LocalStack) -> None:
        created = await ensure_topics(Kafka(stack.addresses.kafka_bootstrap, client_id="kitectl"), ALL, PARTITIONS, 1)
        self._done("topics", f"{len(created)} created, {PARTITIONS} partitions each" if created else f"all {len(ALL)} are there")

    async def first_message(self, stack: LocalStack) -> None:
        """Send the first message of this start: only an accepted message shows that Kite is up."""
        log = LogTarget(stack.addresses.kafka_bootstrap, stack.addresses.redis_url, PARTITIONS, 1, stack.secrets["KITE_API_KEY_PEPPER"])
        url = stack.addresses.url("gateway")
        team = await kept_team(self.data, DEMO_FILE, log, url)
        try:
            await _send_first(team)
        except ApiRefused as error:
            if not is_used_up(error):
                raise
            self._warn("demo team", f"another one is opened: {error.error}")
            team = await new_team(self.data, DEMO_FILE, log, url)
            await _send_first(team)
        took_s = round(age_s() - self.installing_s, 2)
        write_private(self.data / START_FILE, {"first_accepted_s": took_s, "at": rfc3339(SystemClock().unix_ms())})
        self._done("demo team", f"{team.target.team.team_id}, its key is in {_short(self.data / DEMO_FILE)}")
        self._done("first message", f"accepted {took_s:.1f} s after the start")

    async def tell(self, stack: LocalStack) -> None:
        """Fill the demo wallet, and say what to do next."""
        if CHAIN in stack.children:
            self._done("demo wallet", f"{await self._funded_wallet()}, of no worth outside of this machine")
        found = find_stack(self.data)
        if found is not None:
            self.output.result(found.to_json(), "", *next_steps(_short(Path(sys.argv[0]))))

    async def _funded_wallet(self) -> str:
        """The wallet of `kitectl pay`, filled if it has nothing; its address."""
        from kite_cli.pay.faucet import local_balance, pour
        from kite_cli.pay.wallet import demo_wallet

        address = demo_wallet(self.data).address
        if not await local_balance(self.data, address):
            await pour(self.data, address, _FIRST_USDC)
        return address

    def _done(self, step: str, text: str) -> None:
        ConsoleProgress(self.output.console).done(step, text)

    def _warn(self, step: str, text: str) -> None:
        ConsoleProgress(self.output.console).warn(step, text)


async def _install(output: Output, *, payments: bool) -> float:
    """Bring Kafka and the chain into the library folder if they are not there; the seconds that took. Raises StepFailed."""
    lib, began_s = lib_folder(), age_s()
    if archive_of(lib / f"kafka-{VERSION}").exists() and (not payments or anvil_of(lib).exists()):
        return 0.0
    progress = ConsoleProgress(output.console)
    try:
        await ensure_kafka(lib, progress)
        if payments:
            await ensure_anvil(lib, progress)
    finally:
        progress.stop()
    return age_s() - began_s


async def _send_first(team: KeptTeam) -> None:
    message = {"from": "kitectl", "to": "everybody", "body": "Kite is up"}
    async with gateway_client(team.target) as gateway:
        await gateway.send(message, uuid7(SystemClock().unix_ms(), random_bits(74)))


def age_s() -> float:
    """Seconds since this process started, Python's own start included; 0.0 where the system cannot tell."""
    fields = stat_fields(os.getpid())
    return boottime_s() - int(fields[19]) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _as_step(name: str, hook: Callable[[LocalStack], Awaitable[Any]]) -> Hook:
    """A hook whose errors are those of a step."""

    async def run(stack: LocalStack) -> None:
        try:
            await hook(stack)
        except CommandFailed as error:
            raise StepFailed(name, error.what, error.advice) from error
        except KiteError as error:
            raise StepFailed(name, str(error), "The logs of the services say more.") from error

    return run


def _called(what: str, command: str) -> str:
    return command + what.removeprefix("kitectl") if what.startswith("kitectl") else what


def _short(path: Path) -> str:
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)

