"""`python -m kite_cli.local.clickhouse --folder F --port N`: ClickHouse's HTTP interface on the loopback, until SIGTERM."""

import argparse
import asyncio
import sys
from pathlib import Path

import uvloop

from kite_cli.local.clickhouse.engine import Engine, EngineError
from kite_cli.local.clickhouse.http import ClickHouseHttp
from kite_cli.local.ports import LOOPBACK
from kite_common.errors import ConfigurationError
from kite_common.runtime.http import HttpServer
from kite_common.runtime.supervisor import supervise

_DRAIN_S = 10.0


def main() -> int:
    """Serve until told to stop; 1 with the reason if the folder or the port cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m kite_cli.local.clickhouse", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder of the engine's data")
    parser.add_argument("--port", type=int, required=True, help="port on the loopback")
    arguments = parser.parse_args()
    try:
        with Engine(arguments.folder) as engine:
            app = ClickHouseHttp(engine)
            server = HttpServer(app, host=LOOPBACK, port=arguments.port, drain_timeout_s=_DRAIN_S)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                code = runner.run(supervise([server], drain_timeout_s=_DRAIN_S))
            app.close()
            return code
    except (EngineError, ConfigurationError) as error:
        print(f"clickhouse: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
