"""`kitectl chain prepare`."""

from typing import Annotated

import typer

from kite_cli.options import AsJson, run
from kite_cli.output import Output

app = typer.Typer(no_args_is_help=True)

_RPC = typer.Option("--rpc-url", help="JSON-RPC of the chain, such as http://chain:8545.")
_WITHIN = typer.Option("--within", min=0, max=600, help="Seconds to wait for the chain to answer.")


@app.callback()
def chain() -> None:
    """A local chain (anvil) beside Kite, where payments cost nothing. `kitectl up` has one of its own and needs none of this."""


@app.command(epilog="Example: kitectl chain prepare --rpc-url http://chain:8545")
def prepare(rpc_url: Annotated[str, _RPC], within: Annotated[float, _WITHIN] = 60.0, as_json: AsJson = False) -> None:
    """Put a token at USDC's address of its chain id, unless it is there. Refuses on everything but anvil; may run as often as one likes."""
    from kite_cli.admin.prepare_chain import prepare_chain

    done = run(prepare_chain(rpc_url, within))
    document = {"chain_id": done.chain_id, "token": done.token, "installed": done.is_new}
    state = "installed" if done.is_new else "is there"
    Output(as_json).result(document, f"token    {done.token} {state}  (chain {done.chain_id})")
