"""Apache Kafka as a child: one KRaft node, formatted once, started, asked until it really serves. Creates no topics."""

import base64
import logging
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from kite_cli.local import readiness
from kite_cli.local.java import java_command
from kite_cli.local.ports import LOOPBACK
from kite_cli.local.process import ProcessSpec
from kite_common.topics import OFFSETS_RETENTION_MINUTES

_REQUEST_TIMEOUT_MS = 2_000
_FORMATTED = "formatted"

_LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1} %m%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = OUT
logger.start.name = kafka.server.KafkaRaftServer
logger.start.level = INFO
"""


@dataclass(frozen=True, slots=True)
class KafkaNode:
    """One broker and controller: where it keeps its things, where it listens, how much memory it may take."""

    folder: Path
    jars: Path
    port: int
    controller_port: int
    heap_mb: int = 512

    @property
    def bootstrap(self) -> str:
        """The address clients are given."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def is_formatted(self) -> bool:
        """Say whether its folder has been prepared; only then has it ever been started."""
        return is_formatted(self.folder)


def is_formatted(folder: Path) -> bool:
    """Say whether a broker's folder has been prepared."""
    return (folder / _FORMATTED).exists()


def write_files(node: KafkaNode) -> None:
    """Write the configuration of this start; ports may have changed since the last one."""
    node.folder.mkdir(parents=True, exist_ok=True)
    temporary = node.folder / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)  # native libraries a killed JVM left unpacked
    temporary.mkdir()
    (node.folder / "log4j2.properties").write_text(_LOG4J, "utf-8")
    text = "".join(f"{name}={value}\n" for name, value in broker_properties(node).items())
    (node.folder / "server.properties").write_text(text, "utf-8")


def broker_properties(node: KafkaNode) -> dict[str, str]:
    """Return the broker's configuration: one node that is its own quorum, on the loopback interface only."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{LOOPBACK}:{node.controller_port}",
        "listeners": f"PLAINTEXT://{node.bootstrap},CONTROLLER://{LOOPBACK}:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{node.bootstrap}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(node.folder / "data"),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",  # our consumers ask for 6 s, tests of takeovers for less
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        # A Kite that was stopped for longer than the default of seven days goes on where it stood.
        "offsets.retention.minutes": str(OFFSETS_RETENTION_MINUTES),
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # After a kill the controller waits for the dead broker's session before it lets the same id in again: with the
        # default of 9 s that wait would be most of the outage.
        "broker.session.timeout.ms": "2500",
        "broker.heartbeat.interval.ms": "500",
        # One machine, a few clients: the defaults are for many cores, and the cleaner's buffer alone would be 128 MB.
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        "log.cleaner.dedupe.buffer.size": "16777216",
    }


def kafka_spec(node: KafkaNode, env: dict[str, str]) -> ProcessSpec:
    """Return the broker as a child."""
    command = _java(node, "kafka.Kafka", str(node.folder / "server.properties"))
    # After a kill it reads its logs again before it serves: give it longer than a clean start needs.
    return ProcessSpec("kafka", command, lambda: serves(node), env, ready_within_s=60.0, stop_within_s=20.0)


def format_spec(node: KafkaNode) -> tuple[str, ...]:
    """Return the command that prepares an empty folder."""
    arguments = ("format", "--cluster-id", _new_cluster_id(), "--config", str(node.folder / "server.properties"))
    return _java(node, "kafka.tools.StorageTool", *arguments)


def forget_half_format(node: KafkaNode) -> None:
    """Remove what an interrupted format left: nothing was ever started on it."""
    if not node.is_formatted:
        shutil.rmtree(node.folder / "data", ignore_errors=True)


def mark_formatted(node: KafkaNode) -> None:
    """Note that the folder is prepared; from here on it is never removed."""
    (node.folder / _FORMATTED).touch()


async def serves(node: KafkaNode) -> bool:
    """Say whether clients can work: the broker is in the cluster and every partition of every topic has a leader."""
    if not await readiness.is_open(LOOPBACK, node.port):
        return False
    with _quiet_client():
        admin = AIOKafkaAdminClient(bootstrap_servers=node.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
            return bool(cluster["brokers"]) and await _has_leaders(admin)
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await admin.close()


async def _has_leaders(admin: AIOKafkaAdminClient) -> bool:
    topics = await admin.describe_topics()
    partitions = [partition for topic in topics for partition in topic["partitions"]]
    return all(partition["error_code"] == 0 and partition["leader"] >= 0 for partition in partitions)


class _quiet_client:
    """Keep the client from logging each refused connection as an error while the broker is still starting."""

    _logger = logging.getLogger("aiokafka")

    def __enter__(self) -> None:
        self._before = self._logger.level
        self._logger.setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._before)


def _java(node: KafkaNode, *main: str) -> tuple[str, ...]:
    options = (
        f"-Xmx{node.heap_mb}m",
        f"-Xms{node.heap_mb // 2}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        f"-Djava.io.tmpdir={node.folder / 'tmp'}",
        f"-Dlog4j2.configurationFile={node.folder / 'log4j2.properties'}",
    )
    return java_command(node.jars, options, main)


def _new_cluster_id() -> str:
    # Kafka's own form: 22 characters of URL-safe base64; a leading dash would be read as an option.
    text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
    return text if not text.startswith("-") else _new_cluster_id()
