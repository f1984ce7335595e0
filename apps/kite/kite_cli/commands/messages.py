"""`kitectl send`, `events`: the API as an agent uses it."""

import sys
from typing import Annotated

import typer

from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output

_BODY = typer.Argument(metavar="TEXT", help="The text of the message; `-` reads it from standard input.")
_FROM = typer.Option("--from", help="Id of the sending agent.")
_TO = typer.Option("--to", help="Id of the receiving agent.")
_THREAD = typer.Option("--thread", help="Id of a thread the message belongs to.")
_REPLY = typer.Option("--reply-to", help="Id of the message this one answers.")
_IDEMPOTENCY = typer.Option("--idempotency-key", help="With the same key a repeat is the same message; without it a new one is drawn.")
_SINCE = typer.Option("--since", help="Begin after this cursor, or at this time (2026-04-30T10:00:00Z); without it at the oldest.")
_LIMIT = typer.Option("--limit", min=1, help="How many events at most; without effect on --follow.")
_TYPE = typer.Option("--type", help="Only events of this type, or, as com.github.*, of types that begin so; may be repeated.")
_AGENT = typer.Option("--agent", help="Only messages from or to this agent; may be repeated.")
_SENDER = typer.Option("--from", help="Only messages from this agent; may be repeated.")
_RECEIVER = typer.Option("--to", help="Only messages to this agent; may be repeated.")
_FOLLOW = typer.Option("--follow", "-f", help="Go on with new events as they come, until Ctrl-C.")


def send(
    body: Annotated[str, _BODY],
    from_: Annotated[str, _FROM] = "kitectl",
    to: Annotated[str, _TO] = "everybody",
    thread: Annotated[str | None, _THREAD] = None,
    reply_to: Annotated[str | None, _REPLY] = None,
    idempotency_key: Annotated[str | None, _IDEMPOTENCY] = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Send a message. What is said to be accepted is durable.

    The team is that of KITE_TEAM_ID and KITE_API_KEY at KITE_PUBLIC_URL; without them the demo team of the local stack.
    """
    from kite_cli.conversation import Draft, send_message, sent_line
    from kite_cli.target import find_api

    text = sys.stdin.read() if body == "-" else body
    answer = run(send_message(find_api(chosen_data(data)), Draft(from_, to, text, thread, reply_to), idempotency_key))
    Output(as_json).result(answer, sent_line(answer))


def events(
    since: Annotated[str | None, _SINCE] = None,
    limit: Annotated[int, _LIMIT] = 100,
    follow: Annotated[bool, _FOLLOW] = False,
    type_: Annotated[list[str] | None, _TYPE] = None,
    agent: Annotated[list[str] | None, _AGENT] = None,
    sender: Annotated[list[str] | None, _SENDER] = None,
    receiver: Annotated[list[str] | None, _RECEIVER] = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Read a team's events, oldest first; with --follow also those that come. With --json each is a line of its own.

    The team is that of KITE_TEAM_ID and KITE_API_KEY at KITE_PUBLIC_URL; without them the demo team of the local stack.
    """
    from kite_cli.conversation import event_line, more_line, read_events
    from kite_cli.target import find_api

    output, target = Output(as_json), find_api(chosen_data(data))
    filters = {"type": type_ or [], "agent": agent or [], "from": sender or [], "to": receiver or []}

    async def show() -> str | None:
        rest = None
        async for row, cursor in read_events(target, since, None if follow else limit, follow=follow, filters=filters):
            output.result(row, event_line(row))
            rest = cursor
        return rest

    cursor = run(show())
    if cursor is not None:
        output.console.print(more_line(cursor), style="dim", markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog='Example: kitectl send "build is green" --from ci --to planner')(send)
    app.command(epilog="Example: kitectl events --follow --json | jq .event.data")(events)
