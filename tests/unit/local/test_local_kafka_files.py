"""The pinned list of Kafka's jars, and the broker's configuration."""

from pathlib import Path

from kite_cli.local.kafka import KafkaNode, broker_properties, forget_half_format, mark_formatted
from kite_cli.local.kafka_jars import VERSION, class_path, missing, parse_pins, pins


def node_in(folder: Path) -> KafkaNode:
    """A node that is never started."""
    return KafkaNode(folder, folder / "jars", 20_001, 20_002)


def test_every_pin_is_whole_and_named_once() -> None:
    found = pins()
    assert len({pin.filename for pin in found}) == len(found) > 40
    assert all(len(bytes.fromhex(pin.sha256)) == 32 for pin in found)
    assert f"kafka_2.13-{VERSION}.jar" in {pin.filename for pin in found}


def test_comments_and_empty_lines_are_no_pins() -> None:
    assert parse_pins("# a comment\n\ng:a:1.0  00\n")[0].filename == "a-1.0.jar"


def test_an_absent_or_altered_jar_is_missing(tmp_path: Path) -> None:
    (tmp_path / pins()[0].filename).write_bytes(b"not the jar")
    assert missing(tmp_path) == pins()


def test_the_class_path_keeps_the_order_of_the_list(tmp_path: Path) -> None:
    assert [Path(part).name for part in class_path(tmp_path).split(":")] == [pin.filename for pin in pins()]


def test_the_broker_listens_on_loopback_and_makes_no_topics_by_itself(tmp_path: Path) -> None:
    properties = broker_properties(node_in(tmp_path))
    assert properties["listeners"] == "PLAINTEXT://127.0.0.1:20001,CONTROLLER://127.0.0.1:20002"
    assert properties["advertised.listeners"] == "PLAINTEXT://127.0.0.1:20001"
    assert properties["auto.create.topics.enable"] == "false"


def test_only_a_folder_that_was_never_started_is_removed(tmp_path: Path) -> None:
    node = node_in(tmp_path)
    (tmp_path / "data").mkdir()
    forget_half_format(node)
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir()
    mark_formatted(node)
    forget_half_format(node)
    assert (tmp_path / "data").exists()
