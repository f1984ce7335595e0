"""`kitectl payments show`, `list`, `assign`, `audit`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from kite_cli.failure import EXIT_FAILED, EXIT_OK
from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output, printable, usdc

if TYPE_CHECKING:
    from kite_cli.admin.payments import Told

app = typer.Typer(no_args_is_help=True)


@app.callback()
def payments() -> None:
    """x402 payments: what became of them, and whether the money adds up. No command credits anything the chain has not paid."""


class StateName(StrEnum):
    """The state of a payment."""

    CLAIMED = "claimed"
    SETTLING = "settling"
    UNKNOWN = "unknown"
    SETTLED = "settled"
    CREDITED = "credited"
    REJECTED = "rejected"
    DEAD = "dead"
    REVERSED = "reversed"
    OBSERVED = "observed"


_NAME = typer.Argument(metavar="PAYMENT", help="The payment's id, pay_ and 26 characters, as answers and logs have it; or its key.")
_STATE = typer.Option("--state", help="Only payments in this state; may be given several times.")
_OF_TEAM = typer.Option("--team-id", help="Only payments whose money is in this team's wallet.")
_LIMIT = typer.Option("--limit", min=1, help="How many at most, the newest change first.")
_TEAM = typer.Option("--team-id", help="The team that shall have the money.")
_NOTE = typer.Option("--note", help="Why, for those who read the log later.")
_BEFORE = typer.Option(
    "--before", help="What the paid addresses have that is none of Kite's, atomic: what was there before, less what was withdrawn since."
)
_WITHIN = typer.Option("--within", min=0, max=600, help="Seconds to wait for log and chain to agree, as payments may be under way.")


@app.command(epilog="Example: kitectl payments show pay_4t6c3s2kq7x5m1n8w9v0b2d4f6")
def show(payment: Annotated[str, _NAME], data: DataFolder = None, as_json: AsJson = False) -> None:
    """Show a payment and every step it took."""
    from kite_cli.admin.payments import show_payment
    from kite_cli.target import find_log

    told = run(show_payment(find_log(chosen_data(data)), payment))
    document = told.to_json()
    steps = [f"  {one['seq']:>3}  {one['at']}  {one['event']:<9}  {printable(one['why'] or '')}".rstrip() for one in document["steps"]]
    Output(as_json).result(document, _line(told), f"key  {told.record.payment_key}", *steps)


@app.command("list", epilog="Example: kitectl payments list --state unknown --state observed")
def list_(
    state: Annotated[list[StateName] | None, _STATE] = None, team_id: Annotated[str | None, _OF_TEAM] = None,
    limit: Annotated[int, _LIMIT] = 100, data: DataFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show payments, the newest change first."""
    from kite_cli.admin.payments import list_payments
    from kite_cli.target import find_log

    found = run(list_payments(find_log(chosen_data(data)), [one.value for one in state or ()], team_id))
    shown = found[:limit]
    lines = [_line(one) for one in shown] or ["there are none"]
    more = [f"and {len(found) - limit} more"] if len(found) > limit else []
    documents = [{name: value for name, value in one.to_json().items() if name != "steps"} for one in shown]
    Output(as_json).result({"payments": documents, "found": len(found)}, *lines, *more)


@app.command(epilog="Example: kitectl payments assign pay_4t6c3s2kq7x5m1n8w9v0b2d4f6 --team-id team_acme --note 'ticket 4711'")
def assign(
    payment: Annotated[str, _NAME], team_id: Annotated[str, _TEAM], note: Annotated[str, _NOTE] = "", data: DataFolder = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Give money that came in without a request, or whose request can never be answered, to a team.

    Doing it again changes nothing.
    """
    from kite_cli.admin.payments import assign_payment
    from kite_cli.admin.team_ids import wanted_team_id
    from kite_cli.target import find_log

    told = run(assign_payment(find_log(chosen_data(data)), payment, wanted_team_id(team_id), note))
    Output(as_json).result(told.to_json(), _line(told))


@app.command(epilog="Example: kitectl payments audit --json | jq .gap_atomic")
def audit(
    before: Annotated[int, _BEFORE] = 0, within: Annotated[float, _WITHIN] = 10.0, data: DataFolder = None, as_json: AsJson = False
) -> None:
    """Compare what payments have credited with what the chain says was paid. Exit code 1 on a difference.

    The chain is that of X402_RPC_URL, X402_PAY_TO and their like, or that of the local stack.
    """
    from kite_cli.admin.payments_audit import audit_payments, find_paid_at
    from kite_cli.target import find_log, is_of_environment

    folder = chosen_data(data)
    found = run(audit_payments(find_log(folder), find_paid_at(folder, not is_of_environment()), before, within))
    on_chain = f"{usdc(found.chain_atomic)}{f' less {usdc(found.before_atomic)}' if found.before_atomic else ''}"
    Output(as_json).result(
        found.to_json(),
        f"ledger    {usdc(found.ledger_atomic)}  (of it waits unclaimed: {usdc(found.unattributed_atomic)})",
        f"payments  {usdc(found.records_atomic)}  ({found.in_flight} under way)",
        f"chain     {on_chain}",
        "all the same" if found.ok else f"DIFFERENT: credited less paid is {usdc(found.gap_atomic)}",
    )
    raise typer.Exit(EXIT_OK if found.ok else EXIT_FAILED)


def _line(told: "Told") -> str:
    shown = told.to_json()
    where = f"  {shown['team_id']}" if shown["team_id"] else ""
    why = f"  {printable(shown['reason'])}" if shown["reason"] else ""
    tx = f"  {shown['transaction']}" if shown["transaction"] else ""
    return f"{shown['payment_id']}  {shown['state']:<8}  {usdc(shown['amount_atomic'])}  {shown['changed_at']}{where}{tx}{why}"
