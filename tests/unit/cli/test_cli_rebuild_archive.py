"""What `kitectl rebuild archive` says may be removed."""

from dataclasses import replace

import pytest

from kite_cli.admin.rebuild_archive import grace_for, place_of
from kite_cli.failure import CommandFailed
from kite_replay.adapters.clickhouse.address import InProcess, parse_address
from kite_replay.adapters.rebuild import RebuiltArchive

SERVER = parse_address("http://user:secret@127.0.0.1:8123/kite")


def rebuilt(kept: object, before: int) -> RebuiltArchive:
    return RebuiltArchive(before + 1, 10, 0, 1.0, kept, before)  # type: ignore[arg-type]


def test_of_the_first_database_the_tables_may_go_and_not_the_list_of_generations() -> None:
    """Who removed the database as told made every process begin with an empty archive."""
    assert place_of(rebuilt(SERVER, 0)) == "tables events, deliveries, ledger in database kite"


def test_a_later_database_may_go_whole() -> None:
    assert place_of(rebuilt(replace(SERVER, database="kite_g1"), 1)) == "database kite_g1"


def test_a_folder_may_go_whole() -> None:
    assert place_of(rebuilt(InProcess("/data/clickhouse"), 0)) == "/data/clickhouse"


@pytest.mark.parametrize(("drain_timeout_s", "grace_s"), [(20.0, 15.0), (2.0, 6.0), (70.0, 40.0)])
def test_the_old_archive_may_be_served_for_as_long_as_replay_drains(drain_timeout_s: float, grace_s: float) -> None:
    assert grace_for(drain_timeout_s) == grace_s


def test_a_replay_that_drains_for_longer_than_taking_over_may_last_is_refused_before_anything_is_closed() -> None:
    with pytest.raises(CommandFailed, match="KITE_DRAIN_TIMEOUT_S"):
        grace_for(71.0)
