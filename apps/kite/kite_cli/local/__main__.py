"""`python -m kite_cli.local --data FOLDER`: Kafka and Valkey for an experiment, until Ctrl-C; prints addresses."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from kite_cli.local.stack import LocalStack, StackOptions
from kite_cli.local.step import StepFailed


async def _run(options: StackOptions) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with LocalStack(options) as stack:
        where = {"kafka": stack.addresses.kafka_bootstrap, "redis": stack.addresses.redis_url}
        pids = {name: child.pid for name, child in stack.children.items()}
        print(json.dumps(where | {"pids": pids}), flush=True)  # noqa: T201  this is its output
        await stop.wait()


def main() -> int:
    """Run until told to stop; 1 with the reason if a step fails."""
    parser = argparse.ArgumentParser(prog="python -m kite_cli.local", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of this stack's data")
    parser.add_argument("--heap-mb", type=int, default=512, help="Kafka's heap")
    arguments = parser.parse_args()
    try:
        asyncio.run(_run(StackOptions(arguments.data, kafka_heap_mb=arguments.heap_mb)))
    except StepFailed as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
