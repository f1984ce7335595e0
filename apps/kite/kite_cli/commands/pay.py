"""`kitectl pay`: real x402 payments, with the official Python client."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kite_cli.failure import CommandFailed
from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output, usdc

if TYPE_CHECKING:
    from kite_cli.pay.team import Order, Receipt

app = typer.Typer(no_args_is_help=True)

_SOURCE = typer.Option("--source", help="Name of the team's first hook endpoint: a-z, 0-9 and hyphen.")
_PLAN = typer.Option("--plan", help="Name of a plan.")
_DEPOSIT = typer.Option("--deposit", help="The first deposit in USDC, at least 1.")
_KEEP = typer.Option("--keep/--no-keep", help="Keep its credentials (teams/, mode 0600) and let `kitectl send` and `events` speak for it.")
_AMOUNT = typer.Argument(metavar="USDC", help="How much, for example 0.5.")
_SINCE = typer.Option("--since", help="Begin after this cursor; without it at the oldest event.")
_LIMIT = typer.Option("--limit", min=1, max=1_000, help="How many events at most.")
_MOST = typer.Option("--most", help="What the page may cost at most, in USDC.")

WalletFile = Annotated[
    Path | None,
    typer.Option("--wallet-file", help='JSON file with the "private_key" that pays; else KITE_WALLET_KEY, else the folder\'s wallet.'),
]
IdempotencyKey = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="16 characters or more: with the same one a repeat pays once; else one is drawn and told."),
]


@app.callback()
def pay() -> None:
    """Pay with x402: open a team, fill its wallet, buy a page of events.

    Money moves: the wallet of `kitectl wallet show` signs, and what it signs is settled on the chain. On the local chain it is worth
    nothing.
    """


@app.command(epilog="Example: kitectl pay bootstrap --source my-bot --deposit 1")
def bootstrap(
    source: Annotated[str, _SOURCE] = "my-bot", deposit: Annotated[str, _DEPOSIT] = "1", plan: Annotated[str, _PLAN] = "starter",
    keep: Annotated[bool, _KEEP] = True, wallet_file: WalletFile = None, idempotency_key: IdempotencyKey = None,
    data: DataFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Open a team by paying its first deposit: no account, no form. Its API key is kept in the data folder, or shown this once."""
    from kite_cli.pay.team import open_team

    folder, amount = chosen_data(data), atomic(deposit)
    credentials: list[tuple[str, str]] = []
    receipt = run(open_team(
        _order(folder, wallet_file, amount, idempotency_key), source, plan, amount,
        lambda team: credentials.extend(_credentials(folder, team, plan, keep=keep)),
    ))  # fmt: skip
    table, body = _table(receipt), receipt.paid.body
    table.add_row("team", str(body["team_id"]))
    table.add_row("hook endpoint", str(body["endpoint"]))
    for what, value in credentials:
        table.add_row(what, value)
    Output(as_json).result(receipt.to_json() | dict(body), table)


@app.command(epilog="Example: kitectl pay deposit 0.5")
def deposit(
    amount: Annotated[str, _AMOUNT], wallet_file: WalletFile = None, idempotency_key: IdempotencyKey = None, data: DataFolder = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Deposit into the team's wallet at Kite. The team is that of `kitectl send`."""
    from kite_cli.pay.team import deposit as deposited

    wanted = atomic(amount)
    receipt = run(deposited(_order(chosen_data(data), wallet_file, wanted, idempotency_key), wanted))
    Output(as_json).result(receipt.to_json() | dict(receipt.paid.body), _table(receipt))


@app.command(epilog="Example: kitectl pay events --limit 10")
def events(
    since: Annotated[str | None, _SINCE] = None, limit: Annotated[int, _LIMIT] = 100, most: Annotated[str, _MOST] = "1",
    wallet_file: WalletFile = None, idempotency_key: IdempotencyKey = None, data: DataFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Read a page of events. It is taken from the team's wallet; only if that cannot pay for it, this wallet does."""
    from kite_cli.conversation import event_line
    from kite_cli.pay.team import buy_events

    receipt = run(buy_events(_order(chosen_data(data), wallet_file, atomic(most), idempotency_key), since, limit))
    body, table = receipt.paid.body, _table(receipt)
    table.add_row("page", f"{_events(len(body['events']))} for {usdc(int(body['amount_charged_atomic']))}")
    if body["has_more"]:
        table.add_row("go on with", f'--since "{body["next_cursor"]}"')
    Output(as_json).result(receipt.to_json() | dict(body), *(event_line(row) for row in body["events"]), table)


def atomic(text: str) -> int:
    """USDC as people write it, in atomic units. Raises CommandFailed for what is no such amount."""
    whole, _, decimals = text.partition(".")
    if not (whole + decimals).isascii() or not (whole + decimals).isdigit() or len(decimals) > 6:
        raise CommandFailed(f"{text} is no amount of USDC", "Write it like 1 or 0.5, with at most six decimals.", 2)
    return int(whole or "0") * 1_000_000 + int(decimals.ljust(6, "0"))


def _order(data: Path, wallet_file: Path | None, most_atomic: int, idempotency_key: str | None) -> "Order":
    from kite_cli.pay.client import Terms
    from kite_cli.pay.team import Order
    from kite_cli.pay.wallet import find_wallet
    from kite_common.ids import uuid7
    from kite_common.runtime.system import SystemClock, random_bits

    key = idempotency_key or uuid7(SystemClock().unix_ms(), random_bits(74))
    return Order(data, find_wallet(data, wallet_file), Terms(most_atomic, key), _announce)


def _announce(idempotency_key: str) -> None:
    """On standard error, also with --json: whatever becomes of this process, the payer can go on from here."""
    console = Console(stderr=True, highlight=False)
    console.print(
        Text(f"paying; should no receipt follow, repeat the command with --idempotency-key {idempotency_key}: together they pay once"),
        soft_wrap=True,
    )


def _credentials(data: Path, body: Mapping[str, Any], plan: str, *, keep: bool) -> list[tuple[str, str]]:
    """Keep a new team's credentials, or tell them; in any case tell them if they cannot be kept, as nobody will again."""
    from kite_cli.pay.team import keep_team

    if not body["credentials_available"]:
        return [("API key", "not shown again: this payment is too old, or was made under another --idempotency-key")]
    shown = [("API key", str(body["api_key"])), ("hook token", str(body["hook_token"]))]
    if not keep:
        return shown
    try:
        return [("API key, hook token", f"kept in {keep_team(data, body, plan)}")]
    except OSError as error:
        return [*shown, ("NOT KEPT", f"{data} cannot be written: {error.strerror}")]


def _table(receipt: "Receipt") -> Table:
    paid = receipt.paid
    table = Table("what")
    # A transaction's hash is of no use without its end.
    table.add_column("is", overflow="fold")
    table.add_row("asked", receipt.asked)
    table.add_row("paid", "nothing" if paid.amount_atomic is None else f"{usdc(paid.amount_atomic)} on {paid.network}")
    table.add_row("transaction", paid.transaction or "-")
    table.add_row("paying wallet", receipt.wallet.address)
    table.add_row("  it had, it has", _moved(receipt.chain_before, receipt.chain_after))
    table.add_row("team's wallet at Kite", _moved(receipt.kite_before, receipt.kite_after))
    return table


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"


def _moved(before: int | None, after: int | None) -> str:
    if after is None:
        return "not known here"
    return usdc(after) if before is None else f"{usdc(before)}, {usdc(after)}"
