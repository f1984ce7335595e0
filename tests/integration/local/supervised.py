"""A supervisor to be killed: `supervised.py DATA [GATEWAY_PORT]` is `kitectl up` with two stand-in services."""

import asyncio
import sys
from pathlib import Path

from rich.console import Console

from kite_cli.local.stack import ServiceSpec
from kite_cli.local.up import UpOptions, up

SERVICE = (sys.executable, str(Path(__file__).with_name("tiny_service.py")))


def services(gateway_port: int | None) -> list[ServiceSpec]:
    """A gateway and a worker that has a child of its own. A port that is named must be had."""
    return [
        ServiceSpec("gateway", SERVICE, port=gateway_port, must_have_port=gateway_port is not None),
        ServiceSpec("worker", (*SERVICE, "--helper")),
    ]


if __name__ == "__main__":
    port = int(sys.argv[2]) if len(sys.argv) > 2 else None
    sys.exit(asyncio.run(up(UpOptions(data=Path(sys.argv[1])), Console(), services(port))))
