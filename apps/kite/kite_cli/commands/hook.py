"""`kitectl hook create`, `list`, `rotate-secret`, `deactivate`."""

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output

app = typer.Typer(no_args_is_help=True)


@app.callback()
def hook() -> None:
    """Endpoints that providers deliver to."""


_TEAM = typer.Option("--team-id", help="The team the endpoint belongs to.")
_SOURCE = typer.Argument(metavar="SOURCE", help="Who delivers: github, stripe, slack, ... or any other name.")
_SECRET = typer.Option("--secret", help="The secret the provider signs with; `-` reads it from standard input.")


@app.command(epilog="Example: kitectl hook create github --team-id team_acme")
def create(
    source: Annotated[str, _SOURCE], team_id: Annotated[str, _TEAM], secret: Annotated[str | None, _SECRET] = None,
    data: DataFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Open an endpoint, or open it anew: it gets a new token, and earlier ones end. Token and secret are shown this once.

    An endpoint with a secret also takes what the provider has signed, without a token. For github a secret is made if none is given.
    """
    from kite_cli.admin.hooks import create_hook
    from kite_cli.admin.team_ids import wanted_team_id
    from kite_cli.target import find_log
    from kite_common.config import KiteSettings, load, load_catalog

    target, catalog = find_log(chosen_data(data)), load_catalog(load(KiteSettings))
    made = run(create_hook(target, catalog, wanted_team_id(team_id), source, _given(secret)))
    document: dict[str, Any] = asdict(made.hook) | {
        "team_id": made.team_id, "endpoint": made.endpoint, "endpoint_with_token": f"{made.endpoint}/{made.token}",
        "hook_token": made.token,
    }  # fmt: skip
    if made.github_secret is not None:
        document["github_webhook_secret"] = made.github_secret
    secured = "signatures are checked" if made.hook.webhook_secret_configured else "there is no secret, so signatures are not checked"
    Output(as_json).result(
        document,
        f"deliver to  {made.endpoint}/{made.token}  (shown this once)",
        *([f"secret      {made.github_secret}  (for the provider's form)"] if made.github_secret else []),
        f"            {secured}",
    )


@app.command("list", epilog="Example: kitectl hook list --team-id team_acme --json | jq '.hooks[].source'")
def list_(team_id: Annotated[str, _TEAM], data: DataFolder = None, as_json: AsJson = False) -> None:
    """Show the endpoints of a team, without tokens and secrets."""
    from kite_cli.admin.hooks import list_hooks
    from kite_cli.admin.team_ids import wanted_team_id
    from kite_cli.target import find_log

    found = run(list_hooks(find_log(chosen_data(data)), wanted_team_id(team_id)))
    lines = [
        f"{one.source}  {'open' if one.active else 'closed'}, {one.tokens} tokens, {'a' if one.webhook_secret_configured else 'no'} secret"
        for one in found
    ]
    Output(as_json).result({"team_id": team_id, "hooks": [asdict(one) for one in found]}, *(lines or [f"{team_id} has no hooks"]))


@app.command("rotate-secret", epilog="Example: pass show stripe | kitectl hook rotate-secret stripe --team-id team_acme --secret -")
def rotate_secret(
    source: Annotated[str, _SOURCE], team_id: Annotated[str, _TEAM], secret: Annotated[str | None, _SECRET] = None,
    data: DataFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Give an endpoint another secret; without --secret one is made and shown this once. The former is accepted for ten more minutes."""
    from kite_cli.admin.hooks import rotate_secret as rotate
    from kite_cli.admin.team_ids import wanted_team_id
    from kite_cli.target import find_log

    rotated, made = run(rotate(find_log(chosen_data(data)), wanted_team_id(team_id), source, _given(secret)))
    document: dict[str, Any] = asdict(rotated) | {"team_id": team_id} | ({} if made is None else {"webhook_secret": made})
    Output(as_json).result(
        document,
        *([] if made is None else [f"secret  {made}  (shown this once)"]),
        f"{source} of {team_id} has another secret; the former ends in ten minutes",
    )


@app.command(epilog="Example: kitectl hook deactivate github --team-id team_acme")
def deactivate(source: Annotated[str, _SOURCE], team_id: Annotated[str, _TEAM], data: DataFolder = None, as_json: AsJson = False) -> None:
    """Close an endpoint and end its tokens, everywhere within a second. Doing it again changes nothing."""
    from kite_cli.admin.hooks import deactivate_hook
    from kite_cli.admin.team_ids import wanted_team_id
    from kite_cli.target import find_log

    closed = run(deactivate_hook(find_log(chosen_data(data)), wanted_team_id(team_id), source))
    Output(as_json).result(asdict(closed) | {"team_id": team_id}, f"{source} of {team_id} is closed")


def _given(typed: str | None) -> str | None:
    """The secret as it was typed, or the first line of standard input."""
    return sys.stdin.readline().rstrip("\r\n") if typed == "-" else typed
