"""`kitectl deliveries list`, `show`, `redrive`, `test`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kite_cli.failure import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_OK, CommandFailed
from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output

if TYPE_CHECKING:
    from kite_cli.target import ApiTarget

app = typer.Typer(no_args_is_help=True)


@app.callback()
def deliveries() -> None:
    """What became of events at the team's webhook; and delivering them once more.

    The team is that of KITE_TEAM_ID and KITE_API_KEY at KITE_PUBLIC_URL; without them the demo team of the local stack.
    """


class StatusName(StrEnum):
    """The status of a delivery."""

    PENDING = "pending"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"
    FILTERED = "filtered"
    NO_ENDPOINT = "no_endpoint"
    BLOCKED = "blocked"


_ID = typer.Argument(metavar="[DELIVERY]", help="The id of one delivery; without it --status says which.")
_EVENT = typer.Argument(metavar="EVENT", help="The id of the event.")
_STATUS = typer.Option("--status", help="Only deliveries with this status now.")
_TYPE = typer.Option("--event-type", help="Only events of exactly this type.")
_SINCE = typer.Option("--since", help="Only deliveries that began at this time or later, such as 2026-04-30T10:00:00Z.")
_UNTIL = typer.Option("--until", help="Only deliveries that began before this time.")
_LIMIT = typer.Option("--limit", min=1, help="How many at most, the newest event first.")
_RATE = typer.Option("--rate", min=0, help="How many a second at most; 0 = as fast as it goes.")
_AFRESH = typer.Option("--afresh", help="Begin anew, also if an earlier run was broken off.")
_WITHIN = typer.Option("--within", min=1, max=600, help="Seconds to wait for the verdict.")


@app.command("list", epilog="Example: kitectl deliveries list --status dead --since 2026-04-30T10:00:00Z")
def list_(
    status: Annotated[StatusName | None, _STATUS] = None, event_type: Annotated[str | None, _TYPE] = None,
    since: Annotated[str | None, _SINCE] = None, until: Annotated[str | None, _UNTIL] = None, limit: Annotated[int, _LIMIT] = 100,
    data: DataFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show deliveries, newest event first. With --json each is a line of its own."""
    from kite_cli.deliveries import delivery_line, read_deliveries
    from kite_cli.target import find_api

    output, wanted = Output(as_json), _wanted(status, event_type, since, until)
    target = find_api(chosen_data(data))

    async def shown() -> None:
        async for one in read_deliveries(target, wanted, limit):
            output.result(one, delivery_line(one))

    run(shown())


@app.command(epilog="Example: kitectl deliveries show 0196862f-5f00-7c3e-9a51-6f2b8d0c4e7a --json | jq .attempts")
def show(event: Annotated[str, _EVENT], data: DataFolder = None, as_json: AsJson = False) -> None:
    """Show what became of one event, with every attempt."""
    from kite_cli.deliveries import attempt_line, delivery_line, read_deliveries
    from kite_cli.target import find_api

    output, target = Output(as_json), find_api(chosen_data(data))

    async def shown() -> int:
        found = 0
        async for one in read_deliveries(target, {"event_id": event}, 100):
            found += 1
            output.result(one, delivery_line(one), *map(attempt_line, one["attempts"]))
        return found

    if not run(shown()):
        raise CommandFailed("nothing is on record of this event", "It takes a second or so; or the event is not this team's.")


@app.command(epilog="Example: kitectl deliveries redrive --status dead --since 2026-04-30T10:00:00Z --rate 100")
def redrive(
    delivery: Annotated[str | None, _ID] = None, status: Annotated[StatusName | None, _STATUS] = None,
    event_type: Annotated[str | None, _TYPE] = None, since: Annotated[str | None, _SINCE] = None,
    until: Annotated[str | None, _UNTIL] = None, rate: Annotated[int, _RATE] = 100, afresh: Annotated[bool, _AFRESH] = False,
    data: DataFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Deliver once more: one delivery, or all of a status, however many. Free; the receiver sees the same webhook-id.

    A run that was broken off goes on where it was when the same command is given again; nothing is delivered twice for it.
    """
    from kite_cli.deliveries import redrive_one
    from kite_cli.target import find_api

    if (delivery is None) == (status is None):
        raise CommandFailed("name a delivery, or --status, and not both", "See `kitectl deliveries redrive --help`.", EXIT_CONFIGURATION)
    folder = chosen_data(data)
    target, output = find_api(folder), Output(as_json)
    if delivery is not None:
        answer = run(redrive_one(target, delivery))
        return output.result(answer, f"ordered  {answer['id']}  of event {answer['event_id']}")
    return _redrive_many(output, folder, target, _wanted(status, event_type, since, until), rate, afresh)


@app.command("test", epilog="Example: kitectl deliveries test --json | jq .status")
def try_out(within: Annotated[float, _WITHIN] = 30.0, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Send the webhook one signed test event and show the verdict. Exit code 1 if it is not delivered."""
    from kite_cli.deliveries import attempt_line, delivery_line, send_test
    from kite_cli.target import find_api

    verdict = run(send_test(find_api(chosen_data(data)), within))
    Output(as_json).result(verdict, delivery_line(verdict), *map(attempt_line, verdict["attempts"]))
    raise typer.Exit(EXIT_OK if verdict["status"] == "delivered" else EXIT_FAILED)


def _redrive_many(
    output: Output, folder: Path, target: "ApiTarget", wanted: dict[str, str | None], rate: int, afresh: bool
) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from kite_cli.deliveries import Redriven, redrive_many

    # How many there are is not known before the last page, so the bar only says that it goes on.
    columns = (BarColumn(), TextColumn("{task.completed:,.0f} redriven"), TextColumn("{task.description}"), TimeElapsedColumn())

    async def walked() -> Redriven:
        last = Redriven(0, 0, None)
        with Progress(*columns, console=output.console, transient=True, disable=not output.console.is_terminal) as progress:
            task = progress.add_task("", total=None)
            async for last in redrive_many(target, wanted, rate, folder, afresh=afresh):
                progress.update(task, completed=last.redriven, description="went on where it was" if last.resumed else "")
        return last

    done = run(walked())
    expired = f"; the events of {done.expired:,} are not kept any more" if done.expired else ""
    document = {"redriven": done.redriven, "expired": done.expired, "resumed": done.resumed}
    output.result(document, f"redriven  {done.redriven:,} deliveries{expired}")


def _wanted(status: StatusName | None, event_type: str | None, since: str | None, until: str | None) -> dict[str, str | None]:
    return {"status": None if status is None else status.value, "event_type": event_type, "since": since, "until": until}
