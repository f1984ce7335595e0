"""docker-compose.yml with the profile demo, as a whole: a message and a payment go the whole way, and nothing is lost over a restart.

Needs Docker with the Compose plugin, and the image: `make image`, then `make test-compose`. With KITE_STAND_INS=1 servers are those of a
local stack instead of their images (stand-ins.yml), which shows all of the file but that those images take their settings as it has them.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import write_env
from kite_cli.local.folders import lib_folder
from kite_cli.local.ports import PortBook
from kite_cli.services import SERVICES
from kite_common.testing.eventually import eventually
from support.kitectl import Kitectl

ROOT: Final = Path(__file__).resolve().parents[2]
# A restart of Valkey closes admission for 90 s; a machine that is busy takes its time on top.
_ADMITS_AGAIN_WITHIN_S: Final = 240
_INSIDE: Final = {"KITE_PUBLIC_URL": "http://gateway:7700", "KITE_DATA_DIR": "/tmp/demo"}


class Containers:
    """The project of a test, with an .env of its own; `url` is what it publishes to this machine."""

    def __init__(self, env: Path, url: str) -> None:
        self.url = url
        files = ["docker-compose.yml", *(["tests/compose/stand-ins.yml"] if os.environ.get("KITE_STAND_INS") else [])]
        chosen = [word for file in files for word in ("--file", str(ROOT / file))]
        self._command = ["docker", "compose", "--project-name", f"kite-test-{os.getpid()}", "--env-file", str(env), *chosen]

    def __call__(self, *arguments: str) -> str:
        """What a command of Docker Compose prints; the test fails if the command does."""
        environment = os.environ | {"KITE_LIB_DIR": str(lib_folder())}
        ended = subprocess.run([*self._command, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
        assert ended.returncode == 0, f"{arguments}: {ended.stdout[-2_000:]}{ended.stderr[-2_000:]}"
        return ended.stdout

    def kitectl(self, service: str, *arguments: str, **environment: str) -> Any:
        """The document that kitectl prints in the container of a service."""
        settings = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        return json.loads(self("exec", "-T", *settings, service, "kitectl", *arguments, "--json").splitlines()[-1])

    def health(self) -> dict[str, str]:
        """What each container that has a health check says."""
        containers = [json.loads(line) for line in self("ps", "--format", "json").splitlines()]
        return {one["Service"]: one["Health"] for one in containers if one["Health"]}


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    """Containers that run, and are removed with all they have kept."""
    book = PortBook()
    port = book.pick()
    write_env.write(tmp_path / "env", write_env.settings(["demo"]) + f"\nKITE_HOST_PORT={port}\n")
    project = Containers(tmp_path / "env", f"http://127.0.0.1:{port}")
    try:
        project("up", "--detach")
        yield project
    finally:
        project("down", "--volumes", "--timeout", "5")
        book.release()


async def all_healthy(containers: Containers) -> None:
    """Wait until every service of ours, and everything it needs, is."""
    def is_so() -> bool:
        return set(containers.health().values()) == {"healthy"}

    # Each look is a process of its own.
    await eventually(is_so, what="all containers are healthy", within_s=_ADMITS_AGAIN_WITHIN_S, every_s=2)


@pytest.mark.timeout(900)
async def test_a_message_and_a_payment_go_the_whole_way_and_a_restart_loses_nothing(containers: Containers, tmp_path: Path) -> None:
    await all_healthy(containers)
    assert set(SERVICES) <= set(containers.health())
    made = containers.kitectl("gateway", "team", "create")
    team = {"KITE_TEAM_ID": made["team_id"], "KITE_API_KEY": made["api_key"]}
    smoke = containers.kitectl("delivery", "smoke", **team, **_INSIDE)
    assert [stage["stage"] for stage in smoke["stages"] if stage["took_ms"] is None] == []

    outside = Kitectl(tmp_path / "outside")
    sent = await outside("send", "from outside", "--json", KITE_PUBLIC_URL=containers.url, **team)
    assert sent.code == 0, sent.err

    containers.kitectl("facilitator", "wallet", "faucet", "--rpc-url", "http://chain:8545", **_INSIDE)
    paid = containers.kitectl("facilitator", "pay", "bootstrap", "--deposit", "2", "--no-keep", **_INSIDE)
    assert (paid["amount_atomic"], paid["wallet_balance_after_atomic"]) == (2_000_000, 2_000_000)

    containers("stop")
    for service in SERVICES:
        assert '"service.stopped"' in containers("logs", "--no-log-prefix", "--tail", "5", service), "SIGTERM reached it, and it drained"
    containers("up", "--detach")
    await all_healthy(containers)
    payer = {"KITE_TEAM_ID": paid["team_id"], "KITE_API_KEY": paid["api_key"]}
    again = containers.kitectl("facilitator", "wallet", "show", **payer, **_INSIDE)
    assert again["wallet_balance_atomic"] == 2_000_000
    containers.kitectl("facilitator", "wallet", "faucet", "--rpc-url", "http://chain:8545", **_INSIDE)
    deposit = containers.kitectl("facilitator", "pay", "deposit", "1", **payer, **_INSIDE)
    assert deposit["wallet_balance_after_atomic"] == 3_000_000
    events = await outside("events", "--json", KITE_PUBLIC_URL=containers.url, **team)
    assert [event["event_id"] for event in events.documents] == [smoke["event_id"], sent.document["id"]]
