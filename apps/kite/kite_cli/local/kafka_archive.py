"""The start-up archive of Kafka: one training run of an empty broker lets every later start take half the time.

Runs as a process of its own (`python -m kite_cli.local.kafka_archive JARS`), once per installation and Java runtime.
A convenience: without the archive everything works, only slower. Touches no stack's data.
"""

import asyncio
import shutil
import sys
from pathlib import Path

from kite_cli.local import kafka
from kite_cli.local.environment import tool_environment
from kite_cli.local.java import archive_of
from kite_cli.local.kafka_jars import exclusive
from kite_cli.local.ports import PortBook
from kite_cli.local.readiness import until
from kite_cli.local.spawned import Spawned
from kite_cli.local.tool import run_tool

_SERVES_WITHIN_S = 60
_WRITTEN_WITHIN_S = 120


async def train(jars: Path) -> None:
    """Write the archive of `jars`; does nothing if it is there. Blocks while another process trains.

    Raises RuntimeError or TimeoutError if it did not come to be.
    """
    archive = archive_of(jars)
    side = jars / f".training-{archive.stem}"
    with exclusive(jars.with_name(f".{jars.name}.lock")):
        if archive.exists():
            return
        shutil.rmtree(side, ignore_errors=True)
        try:
            await _record(jars, side, side / archive.name)
            (side / archive.name).rename(archive)
        finally:
            shutil.rmtree(side, ignore_errors=True)


async def _record(jars: Path, side: Path, output: Path) -> None:
    book = PortBook()
    try:
        node = kafka.KafkaNode(side, jars, book.pick(), book.pick())
        kafka.write_files(node)
        code, text = await run_tool(kafka.format_spec(node), env=tool_environment())
        if code:
            raise RuntimeError(text)
        await _run_broker(node, output)
    finally:
        book.release()
    if not await asyncio.to_thread(output.exists):
        raise RuntimeError("Java wrote no archive")


async def _run_broker(node: kafka.KafkaNode, output: Path) -> None:
    java, *arguments = kafka.kafka_spec(node, {}).command
    command = (java, f"-XX:AOTCacheOutput={output}", *arguments)
    broker = Spawned(command, tool_environment(), node.folder / "training.log", node.folder)

    async def serves_or_ended() -> bool:
        return not broker.is_running or await kafka.serves(node)

    try:
        async with asyncio.timeout(_SERVES_WITHIN_S):
            await until(serves_or_ended, 0.1)
    finally:
        await broker.end(_WRITTEN_WITHIN_S)  # it writes the archive on its way out


def main(jars: Path) -> int:
    """Train, and say in one line why it failed if it did."""
    try:
        asyncio.run(train(jars))
    except Exception as error:  # noqa: BLE001  edge of a process: whatever it was becomes its last line
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
