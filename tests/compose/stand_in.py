#!/opt/kite/bin/python
"""Plays a server of docker-compose.yml where no registry can be reached: the programs of a local stack, started as the images start theirs.

In the image of Kite, with the packages of this checkout beside it (stand-ins.yml). The first argument, or the name this is called by, says
what it plays. What it does not show: the images' own users, entry points and paths, and ClickHouse's users and passwords.
"""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from kite_cli.local.java import java_command
from kite_cli.local.kafka_jars import VERSION
from kite_cli.local.valkey import find_valkey

_LIB: Final = Path("/lib-of-kite")
_JARS: Final = _LIB / f"kafka-{VERSION}"
# What apache/kafka takes from the environment for its scripts, not for server.properties.
_OF_THE_SCRIPTS: Final = ("HEAP_OPTS", "OPTS", "JMX_OPTS")
_CLUSTER: Final = "5L6g3nShT-eMCtK--X86sw"


def kafka(_arguments: Sequence[str]) -> None:
    """KAFKA_A_B becomes a.b in server.properties; the folder is formatted unless it is, then the broker runs."""
    given = {name.removeprefix("KAFKA_"): value for name, value in os.environ.items() if name.startswith("KAFKA_")}
    settings = {name.lower().replace("_", "."): value for name, value in given.items() if name not in _OF_THE_SCRIPTS}
    # Where it may write; a log4j2 of its own would be too much here, so it says what its libraries say.
    properties = Path("/tmp/server.properties")  # noqa: S108 - the container's own
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")
    options = [*given["HEAP_OPTS"].split(), "-XX:+UseSerialGC"]
    storage = ("kafka.tools.StorageTool", "format", "--ignore-formatted", "--cluster-id", _CLUSTER, "--config", str(properties))
    subprocess.run(java_command(_JARS, options, storage), check=True)
    replace(java_command(_JARS, options, ("kafka.Kafka", str(properties))))


def valkey(arguments: Sequence[str]) -> None:
    """The command line is valkey-server's, in the folder that is its volume."""
    os.chdir("/data")
    replace((str(find_valkey()), "--protected-mode", "no", *arguments[1:]))


def clickhouse(_arguments: Sequence[str]) -> None:
    """The engine with ClickHouse's HTTP interface, which a local stack keeps on the loopback: here everybody may ask it."""
    from kite_cli.local.clickhouse import __main__ as server
    from kite_cli.local.clickhouse import http

    vars(http)["_OWN_NAMES"] = ("127.0.0.1", "localhost", "clickhouse")
    vars(server)["LOOPBACK"] = "0.0.0.0"  # noqa: S104 - a server in a container listens everywhere
    sys.argv = ["clickhouse", "--folder", "/var/lib/clickhouse/engine", "--port", "8123"]
    sys.exit(server.main())


def anvil(arguments: Sequence[str]) -> None:
    """The binary that npm has."""
    [binary] = _LIB.glob("anvil-*/node_modules/@foundry-rs/anvil-linux-*/bin/anvil")
    replace((str(binary), *arguments))


def valkey_cli(_arguments: Sequence[str]) -> None:
    """`valkey-cli ping`."""
    from socket import create_connection

    with create_connection(("127.0.0.1", 6379), timeout=3) as connection:
        connection.sendall(b"PING\r\n")
        sys.stdout.write(connection.recv(64).decode().removeprefix("+"))


def wget(arguments: Sequence[str]) -> None:
    """`wget --spider --quiet URL`: fails unless it is answered 200."""
    urllib.request.urlopen(arguments[-1], timeout=3).close()  # noqa: S310 - the URL of the health check


def replace(command: Sequence[str]) -> None:
    """Become that program, so that signals reach it."""
    os.execv(command[0], tuple(command))  # noqa: S606


_PARTS: Final[dict[str, Callable[[Sequence[str]], None]]] = {
    "kafka": kafka, "valkey": valkey, "clickhouse": clickhouse, "anvil": anvil, "valkey-cli": valkey_cli, "wget": wget,
}  # fmt: skip

if __name__ == "__main__":
    called = Path(sys.argv[0]).name
    name, rest = (called, sys.argv[1:]) if called in _PARTS else (sys.argv[1], sys.argv[2:])
    _PARTS[re.sub(r"\.py$", "", name)](rest)
