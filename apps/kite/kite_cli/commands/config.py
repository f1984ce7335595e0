"""`kitectl config check`."""

from typing import Annotated

import typer

from kite_cli.failure import EXIT_CONFIGURATION, EXIT_OK
from kite_cli.options import AsJson, DataFolder, chosen_data
from kite_cli.output import Output

app = typer.Typer(no_args_is_help=True)

_SERVICES = typer.Argument(metavar="[SERVICE]...", help="gateway, billing, delivery, replay, facilitator; without any, all that are there.")


@app.callback()
def config() -> None:
    """Settings of the services."""


@app.command(epilog="Example: KITE_ENV_FILE=production.env kitectl config check gateway")
def check(services: Annotated[list[str] | None, _SERVICES] = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Show every setting of the services, secrets masked, and everything that is wrong with them at once. Starts nothing.

    Settings come from the environment (KITE_*) and the file that KITE_ENV_FILE names. If neither names a Kafka and a local stack runs,
    they are those of that stack. Exit code 78 if a service could not start with them.
    """
    from kite_cli.checked_settings import check_services, settings_report

    checked = check_services(services or [], chosen_data(data))
    is_ok = not any(one.problems for one in checked)
    Output(as_json).result({"ok": is_ok, "services": [one.to_json() for one in checked]}, *settings_report(checked))
    raise typer.Exit(EXIT_OK if is_ok else EXIT_CONFIGURATION)
