"""`kitectl key create`, `revoke`."""

from enum import StrEnum
from typing import Annotated

import typer

from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output

app = typer.Typer(no_args_is_help=True)


@app.callback()
def key() -> None:
    """API keys of teams."""


class PermissionName(StrEnum):
    """What a key may do; a higher one includes the lower ones."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


_TEAM = typer.Option("--team-id", help="The team the key opens.")
_NAME = typer.Option("--name", help="What the key is for, for people.")
_PERMISSION = typer.Option("--permission", help="What the key may do: read < write < admin.")
_DAYS = typer.Option("--days", min=1, max=36_500, help="How long it lives; without it until it is revoked.")
_WHOSE = typer.Option("--team-id", help="Whose key, should keys of several teams begin with these digits.")
_PREFIX = typer.Argument(metavar="PREFIX", help="The 8 digits after `kite_` (the whole key works too, but stays in the shell's history).")


@app.command(epilog="Example: kitectl key create --team-id team_acme --permission write --days 90 --name ci")
def create(
    team_id: Annotated[str, _TEAM],
    name: Annotated[str, _NAME] = "kitectl",
    permission: Annotated[PermissionName, _PERMISSION] = PermissionName.WRITE,
    days: Annotated[int | None, _DAYS] = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make a key for a team. It is shown this once; only its hash is stored. It works within a second."""
    from kite_cli.admin.keys import create_key
    from kite_cli.admin.team_ids import wanted_team_id
    from kite_cli.target import find_log
    from kite_common.clock import rfc3339

    made = run(create_key(find_log(chosen_data(data)), wanted_team_id(team_id), name, (permission.value,), days))
    expires = None if made.expires_at is None else rfc3339(made.expires_at)
    document = {
        "team_id": team_id, "id": made.id, "key_prefix": made.prefix, "api_key": made.text, "permissions": list(made.permissions),
        "expires_at": expires,
    }  # fmt: skip
    Output(as_json).result(
        document,
        f"api key  {made.text}  (shown this once)",
        f"may      {permission.value}, {'until it is revoked' if expires is None else f'until {expires}'}",
        f"revoke:  kitectl key revoke {made.prefix}",
    )


@app.command(epilog="Example: kitectl key revoke 0a1b2c3d")
def revoke(
    prefix: Annotated[str, _PREFIX], team_id: Annotated[str | None, _WHOSE] = None, data: DataFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make a key useless, everywhere within a second. Revoking it again changes nothing."""
    from kite_cli.admin.keys import parse_prefix, revoke_key
    from kite_cli.target import find_log
    from kite_common.clock import rfc3339

    known = run(revoke_key(find_log(chosen_data(data)), parse_prefix(prefix), team_id))
    revoked_at = None if known.revoked_at is None else rfc3339(known.revoked_at)
    document = {"team_id": known.team_id, "id": known.id, "key_prefix": known.prefix, "revoked_at": revoked_at}
    Output(as_json).result(document, f"kite_{known.prefix}_... of {known.team_id} is revoked since {revoked_at}")
