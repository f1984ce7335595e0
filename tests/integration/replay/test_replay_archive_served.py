"""Against a server statements travel over HTTP: also those with more parameters than a URL holds, which clients send as a form."""

from kite_common.ids import DeliveryId, TeamId
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.adapters.clickhouse.deliveries import ClickHouseDeliveries
from kite_replay.domain.deliveries import DeliveryKey


async def test_the_facts_of_a_thousand_deliveries_are_asked_for_at_once(served_archive: ClickHouseArchive, team: str) -> None:
    keys = [DeliveryKey(number, DeliveryId(f"0190b7c0-0000-7000-8000-{number:012}")) for number in range(1_000)]
    assert await ClickHouseDeliveries(served_archive).facts(TeamId(team), keys) == []
