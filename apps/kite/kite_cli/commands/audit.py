"""`kitectl audit`."""

import os
import re
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from kite_cli.failure import EXIT_FAILED, EXIT_OK
from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output
from kite_common.clock import to_unix_ms
from kite_common.runtime.system import SystemClock

_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DAY_MS: Final = 86_400_000


def since_of(text: str | None) -> int | None:
    """`24h`, `7d`, `90m`, or an RFC 3339 time, as milliseconds since 1970. Raises BadParameter."""
    if text is None:
        return None
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return max(1, SystemClock().unix_ms() - int(match[1]) * _UNITS_MS[match[2]])
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("a duration such as 24h or 7d, or a time such as 2026-11-26T10:00:00Z") from None
    return max(1, to_unix_ms(at if at.tzinfo is not None else at.replace(tzinfo=UTC)))


_SINCE = typer.Option("--since", help="Only what was appended since then: 24h, 7d, or a time. Sums of whole wallets are not checked.")
_WAIT = typer.Option("--wait", min=0, max=3600, help="Seconds to wait for services to catch up; then what they have not done is told.")
_PROCESSES = typer.Option("--processes", min=1, max=64, help="How many partitions are read at once.", show_default="one a core")
_SHOW = typer.Option("--show", min=1, max=1000, help="How many violations of each check are shown.")
_BEFORE = typer.Option(
    "--before", help="What the paid addresses have that is none of Kite's, atomic: what was there before, less what was withdrawn since."
)


def audit(
    since: Annotated[str | None, _SINCE] = None, wait: Annotated[float, _WAIT] = 60.0,
    processes: Annotated[int | None, _PROCESSES] = None, show: Annotated[int, _SHOW] = 20, before: Annotated[int, _BEFORE] = 0,
    data: DataFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Read the log from the beginning and check that nothing is lost, doubled or wrong, in Redis and the archive too.

    Changes nothing. Exit code 0 if all is well, 1 if anything is not, 69 if it could not be looked at.
    """
    from kite_cli.admin.audit.places import find_archive, find_chain
    from kite_cli.admin.audit.progress import Stages
    from kite_cli.admin.audit.run import Audit, Options
    from kite_cli.admin.audit.table import shown
    from kite_cli.target import find_log, is_of_environment
    from kite_common.config import KiteSettings, load

    folder, output, named = chosen_data(data), Output(as_json), is_of_environment()
    options = Options(
        wait, since_of(since), SystemClock().unix_ms() - load(KiteSettings).retention_days * _DAY_MS, processes or os.cpu_count() or 1,
        show, before,
    )  # fmt: skip
    work = Audit(find_log(folder), find_archive(folder, named), find_chain(folder, named), options, Stages(output.console))
    report = run(work.run())
    output.result(report.to_json(), *shown(report))
    raise typer.Exit(EXIT_OK if report.ok else EXIT_FAILED)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: kitectl audit --since 24h --json | jq .violations")(audit)
