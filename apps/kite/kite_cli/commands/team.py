"""`kitectl team create`, `past-due`, `cancel`, `erase`."""

from enum import StrEnum
from typing import Annotated

import typer

from kite_cli.failure import EXIT_FAILED
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
_WHICH = typer.Option("--team-id", help="The team.")
_PAID = typer.Option("--paid", help="It has paid after all: ingest works again.")
_YES = typer.Option("--yes", help="Do it; without it the command only says what it would do.")
_WITHIN = typer.Option("--within", min=1, max=86_400, help="Seconds to wait for the archive; it goes on by itself after them.")
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


@app.command("past-due", epilog="Example: kitectl team past-due --team-id team_acme")
def past_due(
    team_id: Annotated[str, _WHICH], paid: Annotated[bool, _PAID] = False, data: DataFolder = None, as_json: AsJson = False
) -> None:  # fmt: skip
    """Say that a team has not paid outside of Kite (provider clerk): it sends nothing until this is said again with --paid."""
    from kite_cli.admin.subscriptions import set_past_due
    from kite_cli.target import find_log

    outcome = run(set_past_due(find_log(chosen_data(data)), team_id, not paid))
    status = "active" if paid else "past_due"
    document = {"team_id": team_id, "subscription_id": outcome.subscription_id, "status": status}
    Output(as_json).result(document, f"team     {team_id}  (subscription {status})")


@app.command(epilog="Example: kitectl team cancel --team-id team_acme")
def cancel(team_id: Annotated[str, _WHICH], data: DataFolder = None, as_json: AsJson = False) -> None:
    """End a team's subscription: it sends nothing until it subscribes again. Its wallet, keys and events stay."""
    from kite_cli.admin.subscriptions import cancel_subscription
    from kite_cli.target import find_log

    outcome = run(cancel_subscription(find_log(chosen_data(data)), team_id))
    document = {
        "team_id": team_id, "subscription_id": outcome.subscription_id, "status": "cancelled", "balance_atomic": outcome.balance_atomic,
    }  # fmt: skip
    Output(as_json).result(document, f"team     {team_id}  (subscription ended, {usdc(outcome.balance_atomic)} in the wallet)")


@app.command(epilog="Example: kitectl team erase --team-id team_acme --yes")
def erase(
    team_id: Annotated[str, _WHICH], yes: Annotated[bool, _YES] = False, within: Annotated[float, _WITHIN] = 120.0,
    data: DataFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """End a team for ever, and remove what it sent and was sent from all that serves: the archive, its webhook, hooks and keys.

    Its messages leave Kafka with the retention of the topics (90 days), and no rebuild brings them back. What stays: account, ledger and
    payments, as ids, amounts and times. Interrupt and repeat it as you like. docs/operations.md says what else has copies.
    """
    from kite_cli.admin.erase_team import TeamFound, erase_team, look
    from kite_cli.admin.team_ids import wanted_team_id
    from kite_cli.target import find_log
    from kite_common.clock import rfc3339

    output, target, wanted = Output(as_json), find_log(chosen_data(data)), wanted_team_id(team_id)

    def told_of(found: TeamFound, erased_at_ms: int | None) -> dict[str, object]:
        return {
            "team_id": team_id, "erased_at": None if erased_at_ms is None else rfc3339(erased_at_ms), "subscription": found.subscription,
            "keys": found.keys, "hook_tokens": found.tokens, "hooks": found.hooks, "webhook": found.webhook,
            "balance_atomic": found.balance_atomic,
        }  # fmt: skip

    def shown(found: TeamFound) -> str:
        webhook = "a webhook" if found.webhook else "no webhook"
        return f"{found.keys} keys, {found.tokens} hook tokens, {found.hooks} hook endpoints, {webhook}, and all events and deliveries"

    if not yes:
        found = run(look(target, wanted))
        output.result(
            told_of(found, None), f"would end   {team_id}: {shown(found)}",
            f"would stay  {usdc(found.balance_atomic)} in its wallet, which nobody can spend then; account, ledger and payments",
            "nothing is done yet. There is no way back: repeat it with --yes",
        )  # fmt: skip
        raise typer.Exit(EXIT_FAILED)
    before, erasure = run(erase_team(target, wanted, within, lambda step: output.console.print(step, highlight=False)))
    output.result(
        told_of(before, erasure.archive_erased_at), f"erased  {team_id}: {shown(before)}",
        f"stays   {usdc(before.balance_atomic)} in its wallet, which nobody can spend; account, ledger and payments",
        "its messages are in kite.events and others until their retention is over: see docs/operations.md",
    )  # fmt: skip
