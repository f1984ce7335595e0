"""`kitectl topics apply`, `check`."""

import typer

from kite_cli.failure import EXIT_FAILED, EXIT_OK
from kite_cli.options import AsJson, DataFolder, chosen_data, run
from kite_cli.output import Output

app = typer.Typer(no_args_is_help=True)


@app.callback()
def topics() -> None:
    """The topics of the log."""


@app.command(epilog="Example: KITE_KAFKA_BOOTSTRAP=kafka:9092 KITE_PARTITIONS=64 KITE_REPLICATION=3 kitectl topics apply")
def apply(data: DataFolder = None, as_json: AsJson = False) -> None:
    """Create the topics that are missing. Changes and deletes nothing; may run as often as one likes.

    Partitions and copies come from KITE_PARTITIONS and KITE_REPLICATION. The number of partitions stays for ever.
    """
    from kite_cli.target import find_log
    from kite_common.stream.admin import ensure_topics
    from kite_common.stream.kafka import Kafka
    from kite_common.topics import ALL

    log = find_log(chosen_data(data))
    created = run(ensure_topics(Kafka(log.kafka_bootstrap, client_id="kitectl"), ALL, log.partitions, log.replication))
    lines = [f"created  {name}" for name in created] or [f"all {len(ALL)} topics are there"]
    Output(as_json).result({"created": created, "topics": [topic.name for topic in ALL]}, *lines)


@app.command(epilog="Example: kitectl topics check --json | jq .problems")
def check(data: DataFolder = None, as_json: AsJson = False) -> None:
    """Say what is wrong with the topics (missing ones, partitions, settings) and with the brokers' settings. Exit code 1 if anything is."""
    from kite_cli.target import find_log
    from kite_common.stream.admin import check_brokers, check_topics
    from kite_common.stream.kafka import Kafka
    from kite_common.topics import ALL

    log = find_log(chosen_data(data))
    kafka = Kafka(log.kafka_bootstrap, client_id="kitectl")
    problems = run(check_topics(kafka, ALL, log.partitions, log.replication)) + run(check_brokers(kafka))
    lines = problems or [f"all {len(ALL)} topics are as they should be ({log.partitions} partitions, replication {log.replication})"]
    Output(as_json).result({"ok": not problems, "problems": problems}, *lines)
    raise typer.Exit(EXIT_FAILED if problems else EXIT_OK)
