"""Where the audit looks for the archive of a stack that does not run."""

from pathlib import Path

from kite_cli.admin.audit.places import find_archive
from kite_cli.local.environment import clickhouse_url
from kite_replay.adapters.clickhouse.address import parse_address
from kite_replay.adapters.clickhouse.generations import generations_of
from kite_replay.domain.generation import Generation


def test_an_archive_is_found_also_when_its_first_folder_was_removed_after_a_rebuild(tmp_path: Path) -> None:
    """A story: the audit said that there was no archive, because the one of before, which may go, had gone."""
    assert find_archive(tmp_path, of_environment=False).url is None
    url = clickhouse_url(tmp_path)
    generations_of(parse_address(url)).write(Generation(1, 0, opened=True, at_ms=1))
    assert find_archive(tmp_path, of_environment=False).url == url


def test_a_first_archive_is_found(tmp_path: Path) -> None:
    (tmp_path / "clickhouse").mkdir()
    assert find_archive(tmp_path, of_environment=False).url == clickhouse_url(tmp_path)
