"""`kitectl up`, `down`, `status`: the local stack."""

from enum import StrEnum
from typing import Annotated

import typer

from kite_cli.failure import EXIT_FAILED, EXIT_OK
from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output

_PORT = typer.Option("--port", min=1, max=65_535, help="Port of the gateway; it must be free. Without it 7700, or the next free one.")


def _without_ipv6(host: str) -> str:
    if ":" in host:
        raise typer.BadParameter("an IPv4 address or a host name; 0.0.0.0 is every IPv4 address of this machine")
    return host


_HOST = typer.Option("--host", callback=_without_ipv6, help="IPv4 address the gateway listens on; 0.0.0.0 lets other machines in.")
_HEAP = typer.Option("--kafka-heap-mb", min=128, help="Kafka's heap, MiB.")
_PAYMENTS = typer.Option("--payments/--no-payments", help="With a local chain and a facilitator, so that teams can pay.")
_CLICKHOUSE = typer.Option(
    "--clickhouse", help="Where ClickHouse's engine runs: in `process` of replay, or as a `server` of its own, which several replays share."
)


class Engine(StrEnum):
    """Where ClickHouse's engine runs."""

    PROCESS = "process"
    SERVER = "server"


def up(
    data: DataFolder = None,
    port: Annotated[int | None, _PORT] = None,
    host: Annotated[str, _HOST] = "127.0.0.1",
    heap: Annotated[int, _HEAP] = 512,
    payments: Annotated[bool, _PAYMENTS] = True,
    clickhouse: Annotated[Engine, _CLICKHOUSE] = Engine.PROCESS,
    as_json: AsJson = False,
) -> None:
    """Start Kafka, Valkey, a local chain and all services on this machine, in the foreground, until Ctrl-C.

    Everything it writes stays in the data folder (.kite), so the next start goes on where this one ended. A start ends what a killed
    one has left. With --json one line is printed once everything is up.
    """
    from kite_cli.launch import LaunchOptions, launch

    options = LaunchOptions(chosen_data(data), port, host, heap, payments, clickhouse is Engine.SERVER)
    raise typer.Exit(run(launch(options, Output(as_json))))


def down(data: DataFolder = None, as_json: AsJson = False) -> None:
    """Stop a local stack that another terminal has started, and wait until it is gone."""
    from kite_cli.found import find_stack
    from kite_cli.local import up as local

    output, folder = Output(as_json), chosen_data(data)
    was_running = find_stack(folder) is not None
    code = run(local.down(folder, output.console))
    if as_json:
        output.result({"was_running": was_running, "running": code != EXIT_OK, "data": str(folder)})
    raise typer.Exit(code)


def status(data: DataFolder = None, as_json: AsJson = False) -> None:
    """Show what runs in the data folder, and where it listens. Exit code 1 if nothing does."""
    from kite_cli.found import find_stack
    from kite_cli.status_table import status_table

    output, folder = Output(as_json), chosen_data(data)
    stack = find_stack(folder)
    if stack is None:
        output.result({"running": False, "data": str(folder)}, f"nothing is running in {folder}")
        raise typer.Exit(EXIT_FAILED)
    output.result(stack.to_json(), status_table(stack))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: kitectl up --port 8080")(up)
    app.command(epilog="Example: kitectl down")(down)
    app.command(epilog="Example: kitectl status --json | jq -r .gateway")(status)
