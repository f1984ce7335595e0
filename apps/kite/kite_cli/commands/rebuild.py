"""`kitectl rebuild redis`, `archive`, `accounts`."""

from typing import Annotated

import typer

from kite_cli.failure import EXIT_FAILED, EXIT_OK, CommandFailed
from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output, printable

app = typer.Typer(no_args_is_help=True)
_SHOWN: int = 20


@app.callback()
def rebuild() -> None:
    """Make again from the log what is not the truth itself, or see that it could be. docs/rebuilds.md says when and what clients see."""


_WITHIN = typer.Option("--within", min=1, max=86_400, help="Seconds to wait; the rebuild goes on by itself after them.")
_CHECK = typer.Option("--check", help="Compare only; there is nothing else to do, the accounts are part of the log.")


@app.command(epilog="Example: kitectl rebuild redis")
def redis(within: Annotated[float, _WITHIN] = 1_800.0, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Let billing project all accounts and Idempotency-Keys into Redis anew, and wait until messages are admitted again.

    The gateway answers 503 meanwhile, 90 seconds or more: what was admitted before must be in the log or have lapsed. Interrupt and
    repeat it as you like: a rebuild that has begun goes on by itself, and is watched by who repeats the command.
    """
    from kite_cli.admin.rebuild_redis import lines_of, rebuild_redis
    from kite_cli.progress import bar
    from kite_cli.target import find_log
    from kite_common.projection.keys import LAPSE_MS

    output = Output(as_json)
    with bar(output.console, "redis") as told:
        done = run(rebuild_redis(
            find_log(chosen_data(data)), within,
            lambda seen: told(min(seen.closed_ms, LAPSE_MS) + seen.open * 1_000, LAPSE_MS + seen.partitions * 1_000),
        ))  # fmt: skip
    document = {
        "begun": done.begun, "closed_ms": done.closed_ms, "partitions": done.partitions, "accounts": done.accounts,
    }  # fmt: skip
    output.result(document, *lines_of(done))


@app.command(epilog="Example: kitectl rebuild archive")
def archive(data: DataFolder = None, as_json: AsJson = False) -> None:
    """Make the archive anew from all that the log retains, beside the one that is served, and let it take over.

    GET /events goes on from the old archive meanwhile, and answers 503 while replay's processes change over: 15 seconds to a minute.
    Cursors stay valid. The old archive stays where it is; remove it yourself. Interrupt and repeat it as you like: it goes on where it was.
    """
    from kite_cli.admin.rebuild_archive import find_archive, place_of, rebuild
    from kite_cli.progress import bar
    from kite_cli.target import find_log

    output, folder = Output(as_json), chosen_data(data)
    with bar(output.console, "archive") as told:
        done = run(rebuild(
            find_log(folder), find_archive(folder), lambda now: told(now.done, now.whole),
            lambda: output.console.print("changing over: readers get 503 until replay has the new archive", highlight=False),
        ))  # fmt: skip
    document = {
        "generation": done.number, "records": done.records, "bad": done.bad, "closed_s": round(done.closed_s, 1), "old": place_of(done),
    }  # fmt: skip
    output.result(
        document, f"archive  rebuilt from {done.records:,} records ({done.bad:,} of them unusable, as before)",
        f"closed   readers got 503 for at most {done.closed_s:.1f} s, and until replay is up again",
        f"old      {place_of(done)}: nobody uses it any more; remove it when you have seen that all is well",
    )  # fmt: skip


@app.command(epilog="Example: kitectl rebuild accounts --check --json | jq .differing")
def accounts(check: Annotated[bool, _CHECK] = False, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Make every account again from ledger and commands, and compare it with the one billing keeps. Exit code 1 if one differs.

    Set KITE_PLANS_FILE and KITE_CLERK_PAID_PLANS to what billing has. Billing may go on meanwhile.
    """
    from kite_cli.admin.rebuild_accounts import compare_accounts, rules_of_environment
    from kite_cli.progress import bar
    from kite_cli.target import find_log

    if not check:
        raise CommandFailed("accounts are part of the log: billing reads them there, nothing is to be written", "Compare with --check.")
    output = Output(as_json)
    with bar(output.console, "accounts") as told:
        found = run(compare_accounts(find_log(chosen_data(data)), rules_of_environment(), told))
    differing = [{"team_id": one.team_id, "partition": one.partition, "problems": list(one.problems)} for one in found.differing]
    document = {
        "ok": found.ok, "entries": found.entries, "commands": found.commands, "equal": found.equal, "by_balance": found.by_balance,
        "differing": differing,
    }  # fmt: skip
    lines = [f"{one.team_id}  {printable(problem)}" for one in found.differing[:_SHOWN] for problem in one.problems]
    output.result(
        document, f"read       {found.entries:,} ledger entries, {found.commands:,} commands",
        f"equal      {found.equal:,} accounts; of {found.by_balance:,} more, opened before kite.commands begins, only the balance is known",
        f"differing  {len(found.differing):,}", *lines,
    )  # fmt: skip
    raise typer.Exit(EXIT_OK if found.ok else EXIT_FAILED)
