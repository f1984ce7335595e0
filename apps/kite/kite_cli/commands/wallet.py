"""`kitectl wallet new`, `show`, `faucet`: throwaway money of the local chain."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output, usdc

app = typer.Typer(no_args_is_help=True)

_NEW = typer.Argument(metavar="NAME", help="What it shall be called: a-z, 0-9, hyphen.")
_WHICH = typer.Argument(metavar="[NAME]", help="A wallet of the data folder.")
_TO = typer.Argument(metavar="[NAME|ADDRESS]", help="A wallet of the data folder, or any address.")
_USDC = typer.Option("--usdc", help="How much, at most 100.")


@app.callback()
def wallet() -> None:
    """Throwaway wallets on the local chain; their keys stay in the data folder. Never send them anything real."""


@app.command(epilog="Example: kitectl wallet new buyer")
def new(name: Annotated[str, _NEW], data: DataFolder = None, as_json: AsJson = False) -> None:
    """Make a wallet. Its key is kept in the data folder (wallets/NAME.json, for you only), and never printed."""
    from kite_cli.wallets import new_wallet, wallet_path

    folder = chosen_data(data)
    made, path = new_wallet(folder, name), wallet_path(folder, name)
    document = {"name": made.name, "address": made.address, "key_file": str(path)}
    Output(as_json).result(document, made.address, f"its key is in {path}")


@app.command(epilog="Example: kitectl wallet show --json | jq -r .balance_atomic")
def show(name: Annotated[str, _WHICH] = "demo", data: DataFolder = None, as_json: AsJson = False) -> None:
    """Show a wallet's address, and what it has on the local chain."""
    from kite_cli.wallets import read_wallet, wallet_path

    folder = chosen_data(data)
    found = read_wallet(folder, name)
    document = run(_standing(folder, found.address)) | {"name": name, "key_file": str(wallet_path(folder, name))}
    balance, where = usdc(document["balance_atomic"]), f"on {document['network']}, asset {document['asset']}"
    Output(as_json).result(document, f"{found.address}  {balance}", where)


@app.command(epilog="Example: kitectl wallet faucet buyer --usdc 2.5")
def faucet(
    to: Annotated[str, _TO] = "demo", amount: Annotated[str, _USDC] = "10", data: DataFolder = None, as_json: AsJson = False
) -> None:
    """Give a wallet test USDC. On the local chain only: it is made there out of nothing."""
    from kite_cli.wallets import parse_usdc

    folder = chosen_data(data)
    document = run(_given(folder, _address(folder, to), parse_usdc(amount)))
    given, balance = usdc(document["given_atomic"]), usdc(document["balance_atomic"])
    Output(as_json).result(document, f"gave {given} to {document['address']}: it has {balance}")


def _address(data: Path, to: str) -> str:
    from kite_cli.failure import CommandFailed
    from kite_cli.wallets import read_wallet
    from kite_common.errors import Malformed
    from kite_common.x402.networks import checksum, parse_address

    if not to.lower().startswith("0x"):
        return read_wallet(data, to).address
    try:
        return checksum(parse_address(to))
    except Malformed as error:
        raise CommandFailed(f"{to[:60]!r} cannot be used: {error}", "Give a name, or 0x and 40 hex digits.") from None


async def _given(data: Path, address: str, amount: int) -> dict[str, Any]:
    from kite_cli.wallets import chain_of_stack

    async with chain_of_stack(data) as chain:
        transaction = await chain.give(address, amount)
    return await _standing(data, address) | {"given_atomic": amount, "transaction": transaction}


async def _standing(data: Path, address: str) -> dict[str, Any]:
    from kite_cli.wallets import chain_of_stack

    async with chain_of_stack(data) as chain:
        balance = await chain.balance(address)
    return {"address": address, "balance_atomic": balance, "network": f"eip155:{chain.chain_id}", "asset": chain.token.address}
