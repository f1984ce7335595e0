"""Against a server statements travel over HTTP: with more parameters than a URL holds, as a form; with many rows, in several frames."""

from kite_common.ids import DeliveryId, TeamId
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.adapters.clickhouse.deliveries import ClickHouseDeliveries
from kite_replay.domain.deliveries import DeliveryKey
from kite_replay.domain.rows import EVENTS_TABLE
from kite_replay.testing import batch, event_rows


async def test_the_facts_of_a_thousand_deliveries_are_asked_for_at_once(served_archive: ClickHouseArchive, team: str) -> None:
    keys = [DeliveryKey(number, DeliveryId(f"0190b7c0-0000-7000-8000-{number:012}")) for number in range(1_000)]
    assert await ClickHouseDeliveries(served_archive).facts(TeamId(team), keys) == []


async def test_an_insert_of_many_blocks_is_stored_whole(served_archive: ClickHouseArchive, team: str, partition: int) -> None:
    rows = 20_000
    await served_archive.append(EVENTS_TABLE, [batch(event_rows(team, range(rows), partition=partition))])
    counting = "SELECT count() FROM events WHERE team_id = {team:String}"
    stored = await served_archive.read(lambda client: client.query(counting, {"team": team}).result_rows)
    assert list(stored) == [(rows,)]
