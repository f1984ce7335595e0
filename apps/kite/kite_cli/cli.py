"""`kitectl`: the commands put together, and the one place where an error becomes two lines and an exit code. Holds no rules."""

import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from kite_cli.commands import (
    archive,
    audit,
    bench,
    chain,
    chaos,
    config,
    deliveries,
    hook,
    key,
    messages,
    pay,
    payments,
    rebuild,
    service,
    smoke,
    stack,
    team,
    topics,
    wallet,
)
from kite_cli.failure import EXIT_CODES, EXIT_CONFIGURATION, EXIT_FAILED, EXIT_UNAVAILABLE, CommandFailed
from kite_cli.local.step import StepFailed
from kite_common import VERSION
from kite_common.errors import ConfigurationError, KiteError

app = typer.Typer(
    name="kitectl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kitectl {VERSION}")
        raise typer.Exit


@app.callback()
def kitectl(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Run and operate Kite, an open relay for AI agents.

    First steps: `kitectl up` starts everything on this machine; then, in another terminal, `kitectl send "hello"`, `kitectl events` and
    `kitectl smoke`. Commands find Kite by the environment (KITE_*), else by the local stack that runs. All but the
    services take --json.
    """


for module in (stack, messages, smoke, audit, service, bench, chaos):
    module.register(app)
app.add_typer(team.app, name="team")
app.add_typer(key.app, name="key")
app.add_typer(hook.app, name="hook")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(wallet.app, name="wallet")
app.add_typer(pay.app, name="pay")
app.add_typer(payments.app, name="payments")
app.add_typer(chain.app, name="chain")
app.add_typer(topics.app, name="topics")
app.add_typer(archive.app, name="archive")
app.add_typer(rebuild.app, name="rebuild")
app.add_typer(config.app, name="config")


def main() -> NoReturn:
    """Run the command of the arguments and exit with its code."""
    try:
        app()
    except (CommandFailed, StepFailed, KiteError, OSError) as error:
        _exit_with(error)
    sys.exit(0)


def _exit_with(error: CommandFailed | StepFailed | KiteError | OSError) -> NoReturn:
    what, advice, code = told(error)
    console = Console(stderr=True, highlight=False)
    console.print(f"[red]error:[/red] {escape(what)}\n{escape(advice)}", soft_wrap=True)
    sys.exit(code)


def told(error: CommandFailed | StepFailed | KiteError | OSError) -> tuple[str, str, int]:
    """What happened, what to do, and the exit code."""
    match error:
        case CommandFailed():
            return error.what, error.advice, error.code
        case StepFailed():
            return f"{error.step}: {error.reason}", error.advice, EXIT_FAILED
        case ConfigurationError():
            return "; ".join(error.problems), "Correct the settings; `kitectl config check` shows all of them.", EXIT_CONFIGURATION
        case OSError() if not isinstance(error, TimeoutError | ConnectionError):
            return str(error), "See that the disk has room and that you may write there, then try again.", EXIT_FAILED
        case _:
            return str(error) or type(error).__name__, "See `kitectl status`, then try again.", EXIT_UNAVAILABLE


if __name__ == "__main__":
    main()
