"""`kitectl team create`."""

from enum import StrEnum
from typing import Annotated

import typer

from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output, usdc

app = typer.Typer(no_args_is_help=True)


@app.callback()
def team() -> None:
    """Teams: an account with a plan and a wallet."""


class ProviderName(StrEnum):
    """How a team pays."""

    X402 = "x402"
    CLERK = "clerk"


_PLAN = typer.Option("--plan", help="Name of a plan: free, starter, growth, pro, enterprise.")
_PROVIDER = typer.Option("--provider", help="How the team pays: x402 from a wallet, clerk outside of Kite.")
_BALANCE = typer.Option("--balance", min=0, help="First balance of the wallet in atomic units; 1000000 = 1 USDC.")
_TEAM = typer.Option("--team-id", help="Id of the new team; without it one is drawn.")


@app.command(epilog="Example: kitectl team create --plan starter --provider x402 --balance 1000000")
def create(
    plan: Annotated[str, _PLAN] = "starter",
    provider: Annotated[ProviderName, _PROVIDER] = ProviderName.X402,
    balance: Annotated[int, _BALANCE] = 1_000_000,
    team_id: Annotated[str | None, _TEAM] = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Open a team through a command on the log, and make its first key, with permission admin.

    The key is shown this once; only its hash is stored. Whoever repeats this with the same --team-id gets an error, never a second account.
    """
    from kite_cli.admin.teams import TeamOrder, create_team
    from kite_cli.target import find_log
    from kite_common.config import KiteSettings, load, load_catalog

    order = TeamOrder(plan, provider.value, balance, team_id)
    made = run(create_team(find_log(chosen_data(data)), order, load_catalog(load(KiteSettings))))
    document = {
        "team_id": made.team_id, "plan": made.plan, "provider": made.provider, "balance_atomic": made.balance_atomic,
        "subscription_id": made.subscription_id, "key_prefix": made.key.prefix, "api_key": made.key.text,
    }  # fmt: skip
    Output(as_json).result(
        document,
        f"team     {made.team_id}  (plan {made.plan}, {usdc(made.balance_atomic)} in the wallet)",
        f"api key  {made.key.text}  (shown this once)",
        f'try it:  KITE_TEAM_ID={made.team_id} KITE_API_KEY=... kitectl send "hello"',
    )
