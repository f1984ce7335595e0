"""`kitectl archive migrate`."""

import typer

from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output

app = typer.Typer(no_args_is_help=True)


@app.callback()
def archive() -> None:
    """The archive in ClickHouse, from which events are replayed."""


@app.command(epilog="Example: KITE_ENV_FILE=production.env kitectl archive migrate")
def migrate(data: DataFolder = None, as_json: AsJson = False) -> None:
    """Create the database and its tables, or what a newer version adds to them. Deletes nothing; may run as often as one likes.

    Replay does the same when it starts; as a step of its own it shows before a roll-out whether ClickHouse lets it.
    """
    from kite_cli.admin.migrate_archive import migrate_archive
    from kite_cli.admin.rebuild_archive import find_archive

    migrated = run(migrate_archive(find_archive(chosen_data(data))))
    Output(as_json).result({"archive": migrated}, f"archive  {migrated} is up to date")
