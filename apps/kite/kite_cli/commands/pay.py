"""`kitectl pay`: real x402 payments, with the official Python client."""

from typing import Annotated, Any

import typer
from rich.table import Table

from kite_cli.failure import CommandFailed
from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output, usdc

app = typer.Typer(no_args_is_help=True)

_SOURCE = typer.Option("--source", help="Name of the team's first hook endpoint: a-z, 0-9 and hyphen.")
_PLAN = typer.Option("--plan", help="Name of a plan.")
_DEPOSIT = typer.Option("--deposit", help="The first deposit in USDC, at least 1.")
_KEEP = typer.Option("--keep/--no-keep", help="Make it the team that `kitectl send` and `events` speak for here.")
_AMOUNT = typer.Argument(metavar="USDC", help="How much, for example 0.5.")
_SINCE = typer.Option("--since", help="Begin after this cursor; without it at the oldest event.")
_LIMIT = typer.Option("--limit", min=1, max=1_000, help="How many events at most.")


@app.callback()
def pay() -> None:
    """Pay with x402: open a team, fill its wallet, buy a page of events. The wallet is that of `kitectl wallet show`."""


@app.command(epilog="Example: kitectl pay bootstrap --source my-bot --deposit 1")
def bootstrap(
    source: Annotated[str, _SOURCE] = "my-bot",
    deposit: Annotated[str, _DEPOSIT] = "1",
    plan: Annotated[str, _PLAN] = "starter",
    keep: Annotated[bool, _KEEP] = True,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Open a team by paying its first deposit: no account, no form. Its API key is shown this once, or kept in the data folder."""
    from kite_cli.pay.team import open_team
    from kite_cli.pay.wallet import find_wallet

    folder, order = chosen_data(data), {"source": source, "deposit_atomic": atomic(deposit), "plan": plan}
    receipt = run(open_team(folder, find_wallet(folder), order, keep=keep))
    body = receipt.paid.body
    table = _table(receipt.to_json())
    table.add_row("team", str(body["team_id"]))
    table.add_row("its wallet at Kite", usdc(int(body["wallet_balance_atomic"])))
    table.add_row("hook endpoint", str(body["endpoint"]))
    table.add_row("API key", "kept for `kitectl send` and `events`" if keep else str(body["api_key"]))
    Output(as_json).result(receipt.to_json() | dict(body), table)


@app.command(epilog="Example: kitectl pay deposit 0.5")
def deposit(amount: Annotated[str, _AMOUNT], data: DataFolder = None, as_json: AsJson = False) -> None:
    """Deposit into the team's wallet at Kite."""
    from kite_cli.pay.team import deposit as deposited
    from kite_cli.pay.wallet import find_wallet

    folder = chosen_data(data)
    receipt = run(deposited(folder, find_wallet(folder), atomic(amount)))
    table = _table(receipt.to_json())
    table.add_row("team's wallet at Kite", usdc(int(receipt.paid.body["balance_atomic"])))
    Output(as_json).result(receipt.to_json() | dict(receipt.paid.body), table)


@app.command(epilog="Example: kitectl pay events --limit 10")
def events(
    since: Annotated[str | None, _SINCE] = None, limit: Annotated[int, _LIMIT] = 100, data: DataFolder = None, as_json: AsJson = False
) -> None:
    """Read a page of events. It is taken from the team's wallet; if that cannot pay for it, this wallet does."""
    from kite_cli.conversation import event_line
    from kite_cli.pay.team import buy_events
    from kite_cli.pay.wallet import find_wallet

    folder = chosen_data(data)
    receipt = run(buy_events(folder, find_wallet(folder), since, limit))
    body = receipt.paid.body
    cost = int(body["amount_charged_atomic"])
    last = f"{len(body['events'])} events for {usdc(cost)}"
    last += f", paid with {receipt.paid.transaction}" if receipt.paid.transaction else ""
    Output(as_json).result(receipt.to_json() | dict(body), *(event_line(row) for row in body["events"]), last)


def atomic(text: str) -> int:
    """USDC as people write it, in atomic units. Raises CommandFailed for what is no such amount."""
    whole, _, decimals = text.partition(".")
    if not (whole + decimals).isascii() or not (whole + decimals).isdigit() or len(decimals) > 6:
        raise CommandFailed(f"{text} is no amount of USDC", "Write it like 1 or 0.5, with at most six decimals.", 2)
    return int(whole or "0") * 1_000_000 + int(decimals.ljust(6, "0"))


def _table(receipt: dict[str, Any]) -> Table:
    table = Table("what", "is")
    table.add_row("paid", "nothing" if receipt["amount_atomic"] is None else usdc(receipt["amount_atomic"]))
    table.add_row("transaction", receipt["transaction"] or "-")
    if receipt["chain_balance_before_atomic"] is not None and receipt["chain_balance_after_atomic"] is not None:
        before, after = usdc(receipt["chain_balance_before_atomic"]), usdc(receipt["chain_balance_after_atomic"])
        table.add_row("paying wallet", f"{receipt['payer']}: {before} before, {after} now")
    return table
