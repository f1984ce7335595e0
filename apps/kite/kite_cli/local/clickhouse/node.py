"""The ClickHouse server as a child: how it is started, and when it answers."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kite_cli.local.ports import LOOPBACK
from kite_cli.local.process import ProcessSpec
from kite_cli.local.readiness import answers_ok

CLICKHOUSE: Final = "clickhouse"


@dataclass(frozen=True, slots=True)
class ClickHouseNode:
    """One server: where the engine keeps its data and where it listens."""

    folder: Path
    port: int
    database: str = "kite"

    @property
    def url(self) -> str:
        """The address clients are given, as KITE_CLICKHOUSE_URL."""
        return f"http://{LOOPBACK}:{self.port}/{self.database}"


def clickhouse_spec(node: ClickHouseNode, env: dict[str, str], *, nice: int = 0) -> ProcessSpec:
    """Return the server as a child; it makes its folder itself."""
    command = (sys.executable, "-m", "kite_cli.local.clickhouse", "--folder", str(node.folder), "--port", str(node.port))

    async def ready() -> bool:
        return await answers_ok(LOOPBACK, node.port, "/ping")

    # Mapping the engine's library takes most of a start, and long on a machine whose memory and CPUs are taken.
    return ProcessSpec(CLICKHOUSE, command, ready, env, ready_within_s=60.0, stop_within_s=20.0, nice=nice)
