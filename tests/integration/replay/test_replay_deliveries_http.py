"""The attempt log and redrives over a real engine and a real Redis."""

import pytest

from kite_common.ids import TeamId
from kite_common.log_position import kiteseq
from kite_common.testing import make
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.adapters.clickhouse.deliveries import ClickHouseDeliveries
from kite_replay.domain.rows import DELIVERIES_TABLE
from kite_replay.testing import DeliveryBehaviour, batch, delivery_rows, event_id
from support.replay_api import Api, refused

PATH = "/api/v1/deliveries"


class TestClickHouseDeliveries(DeliveryBehaviour):
    @pytest.fixture
    def deliveries(self, archive: ClickHouseArchive) -> ClickHouseDeliveries:
        return ClickHouseDeliveries(archive)


async def filled(api: Api, *statuses: str) -> None:
    """One delivery each event, of these statuses."""
    await api.store(*range(len(statuses)))
    facts = [
        make.delivery_attempted(
            team_id=api.team, event_id=event_id(offset, api.partition, api.team), kiteseq=kiteseq(offset, api.partition),
            delivery_id=delivery_id(api, offset), status=status, next_attempt_at=None,
        )
        for offset, status in enumerate(statuses)
    ]  # fmt: skip
    await api.archive.append(DELIVERIES_TABLE, [batch(delivery_rows(*facts, partition=api.partition), DELIVERIES_TABLE)])


def delivery_id(api: Api, offset: int) -> str:
    return event_id(offset, 900 + api.partition, api.team)


async def test_the_log_is_walked_newest_first_by_status_and_by_event(api: Api) -> None:
    await filled(api, "dead", "delivered", "dead", "retrying", "dead")
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await api.call("GET", PATH, f"&status=dead&limit=1{cursor}")).json()
        seen += [one["id"] for one in page["deliveries"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [delivery_id(api, offset) for offset in (4, 2, 0)]
    [one] = (await api.call("GET", PATH, f"&event_id={event_id(1, api.partition, api.team)}")).json()["deliveries"]
    assert (one["status"], one["kiteseq"], one["attempt_count"]) == ("delivered", kiteseq(1, api.partition), 1)
    assert one["attempts"][0]["response_status"] == 200


async def test_scopes_narrow_the_log(api: Api) -> None:
    await filled(api, "delivered")
    to_others, to_builder = api.issue("b1b2c3d4", scopes=("agent_to:other",)), api.issue("c1b2c3d4", scopes=("agent_to:builder",))
    assert (await api.call("GET", PATH, key=to_others)).json()["deliveries"] == []
    assert len((await api.call("GET", PATH, key=to_builder)).json()["deliveries"]) == 1


async def test_a_redrive_orders_the_archived_bytes_and_says_pending(api: Api) -> None:
    await filled(api, "dead")
    answer = await api.call("POST", f"{PATH}/{delivery_id(api, 0)}/redrive")
    assert (answer.status_code, answer.json()) == (
        202, {"id": delivery_id(api, 0), "event_id": event_id(0, api.partition, api.team), "status": "pending"}
    )  # fmt: skip
    [order] = api.orders.given.values()
    [event] = (await api.get()).json()["events"]
    assert order.body.encode() == (await ClickHouseDeliveries(api.archive).events(TeamId(api.team), [order.kiteseq]))[order.kiteseq].body
    assert event["event_id"] == order.event_id


async def test_a_redrive_of_many_goes_page_by_page(api: Api) -> None:
    await filled(api, "dead", "delivered", "dead", "dead")
    first = await api.call("POST", PATH + "/redrive", "&status=dead&limit=2")
    assert first.status_code == 202
    page = first.json()
    assert (page["redriven"], page["expired"], page["has_more"]) == (2, 0, True)
    rest = (await api.call("POST", PATH + "/redrive", f"&status=dead&limit=2&cursor={page['next_cursor']}")).json()
    assert (rest["redriven"], rest["has_more"]) == (1, False)
    assert {order.kiteseq >> 10 for order in api.orders.given.values()} == {0, 2, 3}


async def test_each_refusal_has_its_code(api: Api) -> None:
    await filled(api, "dead", "retrying")
    reader = api.issue("d1b2c3d4", permissions=("read",))
    for query, code in (
        ("&status=lost", "invalid_status"), ("&event_id=1", "invalid_event_id"),
        ("&cursor=x", "invalid_cursor"), ("&limit=x", "invalid_limit"),
        ("&since=yesterday", "invalid_time"), ("&until=2026-04-30T10:00:00", "invalid_time"),
    ):  # fmt: skip
        assert refused(await api.call("GET", PATH, query), 400, code), query
    assert refused(await api.call("POST", PATH + "/redrive", "&status=pending"), 400, "invalid_status")
    assert refused(await api.call("POST", f"{PATH}/{delivery_id(api, 0)}/redrive", key=reader), 403, "insufficient_permissions")
    assert refused(await api.call("POST", f"{PATH}/x/redrive"), 404, "delivery_not_found")
    assert refused(await api.call("POST", f"{PATH}/{delivery_id(api, 7)}/redrive"), 404, "delivery_not_found")
    assert refused(await api.call("POST", f"{PATH}/{delivery_id(api, 1)}/redrive"), 409, "delivery_in_progress")
    api.webhooks.clear()
    assert refused(await api.call("POST", f"{PATH}/{delivery_id(api, 0)}/redrive"), 404, "webhook_config_not_found")
    assert refused(await api.call("POST", PATH + "/redrive", "&status=dead"), 404, "webhook_config_not_found")
    assert api.orders.given == {}
