"""`kitectl wallet`: the wallet that pays, and what the team's wallet at Kite has."""

from typing import Annotated

import typer
from rich.table import Table

from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output, usdc

app = typer.Typer(no_args_is_help=True)

_ADDRESS = typer.Argument(metavar="[ADDRESS]", help="Who gets it; without it the wallet of `kitectl wallet show`.")
_RPC = typer.Option("--rpc-url", help="JSON-RPC of another local chain (anvil) than that of the data folder.")
_USDC = typer.Option("--usdc", min=1, max=100, help="How much, in whole USDC.")


@app.callback()
def wallet() -> None:
    """The wallet commands pay from, and the team's wallet at Kite."""


@app.command(epilog="Example: kitectl wallet show --json")
def show(data: DataFolder = None, as_json: AsJson = False) -> None:
    """Show the address that pays, what it has on the local chain, and what the team has at Kite.

    It is the key of KITE_WALLET_KEY, else a throwaway one in the data folder (wallets/demo.json, mode 0600). The key itself is not shown.
    """
    from kite_cli.pay.faucet import local_balance
    from kite_cli.pay.team import team_wallet
    from kite_cli.pay.wallet import find_wallet

    folder = chosen_data(data)
    paying = find_wallet(folder)
    on_chain = run(local_balance(folder, paying.address))
    team_id, at_kite = run(team_wallet(folder))
    table = Table("what", "where", "has")
    table.add_row("pays", paying.address, "unknown here" if on_chain is None else usdc(on_chain))
    if team_id is not None:
        table.add_row("team's wallet", team_id, "none" if at_kite is None else usdc(at_kite))
    document = {"address": paying.address, "chain_balance_atomic": on_chain, "team_id": team_id, "wallet_balance_atomic": at_kite}
    Output(as_json).result(document, table)


@app.command(epilog="Example: kitectl wallet faucet --usdc 10")
def faucet(
    address: Annotated[str | None, _ADDRESS] = None, amount: Annotated[int, _USDC] = 10, rpc_url: Annotated[str | None, _RPC] = None,
    data: DataFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Mint USDC on the local chain, where it is worth nothing. Refuses on any other chain."""
    from kite_cli.pay.faucet import parse_recipient, pour
    from kite_cli.pay.wallet import find_wallet

    folder = chosen_data(data)
    to = find_wallet(folder).address if address is None else parse_recipient(address)
    transaction, balance = run(pour(folder, to, amount, rpc_url))
    document = {"address": to, "transaction": transaction, "chain_balance_atomic": balance}
    Output(as_json).result(document, f"minted  {usdc(amount * 1_000_000)} to {to}, which now has {usdc(balance)}")
