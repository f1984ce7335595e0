"""Kafka, Valkey and ClickHouse as containers: those of docker-compose.yml, with its versions and settings, for services on this machine."""

import asyncio
import os
import runpy
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from testcontainers.compose import DockerCompose

from kite_cli.local.folders import lib_folder
from kite_cli.local.ports import LOOPBACK, PortBook
from kite_cli.local.stack import Servers

_ROOT: Final = Path(__file__).resolve().parents[2]
_SERVERS: Final = ["kafka", "valkey", "clickhouse"]
_PUBLISHED: Final = "tests/support/containers.yml"
_STAND_INS: Final = "tests/compose/stand-ins.yml"


@asynccontextmanager
async def containers(folder: Path) -> AsyncIterator[Servers]:
    """Start the three, as a project of its own that is no other's, wait until they are healthy; remove them and what they stored.

    `folder` is for the secrets. Needs Docker with Compose; raises CalledProcessError if a container does not get healthy. Where no registry
    of images can be reached, KITE_STAND_INS has the servers of the local stack, in Kite's own image, play those of the file.
    """
    env_file, book = folder / "servers.env", PortBook()
    port, own = book.pick(), {"KITE_TEST_PROJECT": f"kite-test-{uuid.uuid4().hex[:8]}"}
    own |= {"KITE_TEST_KAFKA_PORT": str(port), "KITE_LIB_DIR": str(lib_folder())}
    drawn: str = runpy.run_path(str(_ROOT / "scripts" / "write_env.py"))["settings"]([])
    env_file.write_text(drawn + "".join(f"\n{name}={value}" for name, value in own.items()), "utf-8")
    files = ["docker-compose.yml", _PUBLISHED, *([_STAND_INS] if os.environ.get("KITE_STAND_INS") else [])]
    compose = DockerCompose(_ROOT, files, env_file=str(env_file), services=_SERVERS)
    try:
        await asyncio.to_thread(compose.start)
        valkey, clickhouse = (compose.get_service_port(name, inside) for name, inside in (("valkey", 6379), ("clickhouse", 8123)))
        password = _value(env_file, "CLICKHOUSE_PASSWORD")
        yield Servers(f"{LOOPBACK}:{port}", f"redis://{LOOPBACK}:{valkey}/0", f"http://kite:{password}@{LOOPBACK}:{clickhouse}/kite")
    finally:
        await asyncio.to_thread(compose.stop)
        book.release()


def _value(env_file: Path, name: str) -> str:
    [found] = [line.partition("=")[2] for line in env_file.read_text("utf-8").splitlines() if line.startswith(f"{name}=")]
    return found.strip("'\"")
