"""GET /api/v1/events over a real archive and a real Redis: the wire contract, sections 2 and 3.1, and its conformance list."""

from datetime import timedelta

import pytest

from kite_common import ids
from kite_common.ids import TeamId
from kite_common.projection import keys
from kite_common.testing import make
from kite_replay.adapters.clickhouse.address import Server
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.domain.cursor import timestamp
from kite_replay.testing import NOW_MS, event_id, event_record
from support.replay_api import Api, refused

DAY_MS = 86_400_000


async def test_a_page_has_the_exact_events_in_the_documented_form(api: Api) -> None:
    await api.store(2, body="é \U0001f41d")
    response = await api.get()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    (row,) = response.json()["events"]
    record = event_record(2, partition=api.partition, team=api.team, body="é \U0001f41d")
    seq = (2 << 10) | api.partition
    assert record.value is not None
    assert record.value[:-1] + b',"kiteseq":%d}' % seq in response.content
    assert row["event_id"] == row["event"]["kiteid"] == event_id(2, api.partition, api.team)
    assert row["created_at"] == timestamp(NOW_MS)
    assert row["event"]["kiteseq"] == seq
    assert response.json() | {"events": []} == {
        "events": [], "next_cursor": f"{row['created_at']}:{row['event_id']}", "has_more": False, "amount_charged_atomic": 0,
    }  # fmt: skip


async def test_an_empty_stream_is_an_empty_page(api: Api) -> None:
    assert (await api.get()).json() == {"events": [], "next_cursor": None, "has_more": False, "amount_charged_atomic": 0}


@pytest.mark.parametrize("built", [True, False])
async def test_pages_of_seven_walk_every_event_once(api: Api, built: bool) -> None:
    for start in range(0, 60, 6):
        await api.store(*range(start, start + 6), at_ms=NOW_MS + start // 20)
    seen: list[int] = []
    since = ""
    while True:
        page = (await api.get(f"&limit=7{since}")).json()
        seen += [row["event"]["kiteseq"] for row in page["events"]]
        if not page["has_more"]:
            break
        last = page["events"][-1]
        since = "&since=" + (f"{last['created_at']}:{last['event_id']}" if built else page["next_cursor"])
    assert seen == [(offset << 10) | api.partition for offset in range(60)]


@pytest.mark.parametrize("joined", [" ", "+", "%20", "T", "%2B"])
@pytest.mark.parametrize("end", ["", "Z", "000", "999999Z"])
async def test_all_forms_of_a_cursor_are_understood(api: Api, joined: str, end: str) -> None:
    await api.store(2, 4)
    at = timestamp(NOW_MS).replace(" ", joined) + end
    both, one = await api.get(f"&since={at}"), await api.get(f"&since={at}:{event_id(2, api.partition, api.team)}")
    assert [len(both.json()["events"]), len(one.json()["events"])] == [2, 1]


@pytest.mark.parametrize("since", ["", "x", "2026", "2026-05-01", "%00", "2026-05-01%2012:00:00+00:00", "💥", "2026-05-01T12:00:61Z"])
async def test_garbage_is_no_cursor(api: Api, since: str) -> None:
    assert refused(await api.get(f"&since={since}"), 400, "invalid_cursor")


async def test_an_id_of_another_event_time_or_team_is_no_cursor(api: Api) -> None:
    await api.store(2)
    mine, at = event_id(2, api.partition, api.team), timestamp(NOW_MS)
    assert (await api.get(f"&since={at}:{mine}")).status_code == 200
    assert refused(await api.get(f"&since={timestamp(NOW_MS + 1)}:{mine}"), 400, "invalid_cursor")
    assert refused(await api.get(f"&since={at}:{event_id(3, api.partition, api.team)}"), 400, "invalid_cursor")


async def test_an_expired_cursor_names_one_that_works(api: Api) -> None:
    await api.store(2, at_ms=NOW_MS - 89 * DAY_MS)
    response = await api.get("&since=2020-01-01T00:00:00Z")
    assert refused(response, 410, "cursor_expired")
    api.clock.advance(timedelta(minutes=10))
    assert len((await api.get(f"&since={response.json()['oldest_cursor']}")).json()["events"]) == 1


@pytest.mark.parametrize(("limit", "rows"), [("0", 1), ("-3", 1), ("5000", 5), ("3", 3), ("99999999999999999999999", 5)])
async def test_limits_are_clamped(api: Api, limit: str, rows: int) -> None:
    await api.store(1, 2, 3, 4, 5)
    assert len((await api.get(f"&limit={limit}")).json()["events"]) == rows


@pytest.mark.parametrize("limit", ["x", "", "1.5", "1e2", "%31%30%30x", "null"])
async def test_a_limit_that_is_no_integer_is_refused(api: Api, limit: str) -> None:
    assert refused(await api.get(f"&limit={limit}"), 400, "invalid_limit")


async def test_a_missing_bad_dead_or_foreign_kind_of_key_is_unauthorized(api: Api) -> None:
    token = "khk_0badcafe_" + "0" * 32
    api.hold(make.credential(token, team_id=api.team))
    texts = ["", "Bearer", "Bearer x", f"Basic {api.key}", f"Bearer {api.key[:-1]}1", f"Bearer {token}", "Bearer kite_0badcafe_" + "0" * 32]
    texts += [f"Bearer {api.issue('000000e1', expires_at=NOW_MS)}", f"Bearer {api.issue('000000e2', revoked_at=NOW_MS - 1)}"]
    for text in texts:
        response = await api.client.get(f"/api/v1/events?team_id={api.team}", headers={"authorization": text})
        assert refused(response, 401, "unauthorized"), text
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["message"] == "Invalid or expired API key"


async def test_the_scheme_is_case_insensitive(api: Api) -> None:
    assert (await api.get(authorization=f"bEaReR  {api.key}")).status_code == 200


async def test_checks_come_in_the_order_of_the_contract(api: Api) -> None:
    await api.redis.delete(keys.account(TeamId(api.team)))
    bearer = {"authorization": f"Bearer {api.issue('00000001', permissions=())}"}
    for path, status, code in [
        ("/api/v1/events?limit=x", 400, "missing_team_id"),
        ("/api/v1/events?team_id=&limit=x", 400, "missing_team_id"),
        ("/api/v1/events?team_id=other&limit=x", 403, "forbidden"),
        (f"/api/v1/events?team_id={api.team}&limit=x", 403, "insufficient_permissions"),
    ]:
        assert refused(await api.client.get(path, headers=bearer), status, code), path
    assert refused(await api.client.get("/api/v1/events?limit=x"), 401, "unauthorized")
    assert refused(await api.get("&limit=x"), 400, "invalid_limit")
    await api.project(status="none", rate_per_min=0)
    assert refused(await api.get("&since=2020-01-01T00:00:00Z"), 403, "no_active_subscription")


@pytest.mark.parametrize("permissions", [("read",), ("write",), ("admin",), ("*",)])
async def test_every_permission_from_read_up_may_read(api: Api, permissions: tuple[str, ...]) -> None:
    assert (await api.get(key=api.issue("00000002", permissions=permissions))).status_code == 200


async def test_a_keys_scopes_narrow_the_rows(api: Api) -> None:
    await api.store(1, to="builder")
    await api.store(2, to="tester")
    seen = {
        scope: [row["event"]["data"]["to"] for row in (await api.get(key=api.issue("00000003", scopes=(scope,)))).json()["events"]]
        for scope in ("agent_to:tester", "agent_to:test", "type:agent.message", "bogus:x")
    }
    assert seen == {"agent_to:tester": ["tester"], "agent_to:test": [], "type:agent.message": ["builder", "tester"], "bogus:x": []}


async def test_the_rate_is_told_on_every_answer_and_enforced(api: Api) -> None:
    await api.project(rate_per_min=2)
    first, second, third = await api.get(), await api.get("&since=2020-01-01T00:00:00Z"), await api.get()
    assert [first.status_code, second.status_code, third.status_code] == [200, 410, 429]
    assert [one.headers["ratelimit-remaining"] for one in (first, second, third)] == ["1", "0", "0"]
    assert all(one.headers["ratelimit-limit"] == "2" and int(one.headers["ratelimit-reset"]) <= 60 for one in (first, second, third))
    assert third.json()["retry_after_secs"] == int(third.headers["retry-after"]) >= 1


async def test_answers_are_private_and_carry_a_request_id(api: Api) -> None:
    for response in (await api.get(), await api.get("&limit=x"), await api.get(key="bad")):
        assert response.headers["cache-control"] == "private, no-store"
        assert response.headers["x-request-id"] == "fresh-id"
    assert (await api.get(**{"x-request-id": "my.id_7"})).headers["x-request-id"] == "my.id_7"
    assert (await api.get(**{"x-request-id": "no spaces"})).headers["x-request-id"] == "fresh-id"


@pytest.mark.parametrize("path", ["/", "/api/v1/event", "/api/v1/events/", "/api/v1/events/x", "/openapi.json", "/docs"])
async def test_other_paths_are_not_found_and_nothing_redirects(api: Api, path: str) -> None:
    response = await api.client.get(path)
    assert refused(response, 404, "not_found")
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_not_allowed(api: Api, method: str) -> None:
    response = await api.client.request(method, "/api/v1/events")
    assert refused(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET"


async def test_unknown_keys_and_unknown_accounts_are_503_while_things_start(api: Api) -> None:
    api.issued.ready = False
    response = await api.get()
    assert refused(response, 503, "service_unavailable")
    assert response.json()["retry_after_secs"] == int(response.headers["retry-after"])
    api.issued.ready = True
    await api.redis.delete(keys.account(TeamId(api.team)))
    assert refused(await api.get(), 503, "service_unavailable")


async def test_an_archive_that_is_away_is_503_replay_unavailable(api: Api) -> None:
    away = ClickHouseArchive(Server("127.0.0.1", 9, secure=False, username="default", password="x"), kept_days=91)
    broken = Api(away, api.redis, api.team, api.partition)
    response = await broken.get()
    assert refused(response, 503, "replay_unavailable")
    assert response.headers["retry-after"] == "1"
    assert "127.0.0.1" not in response.text
    await broken.client.aclose()
    away.close()


async def test_a_team_id_with_a_colon_works_raw_and_encoded(archive: ClickHouseArchive, api: Api) -> None:
    other = Api(archive, api.redis, f"clerk-user:{api.team}", api.partition)
    await other.project()
    await other.store(1)
    bearer = {"authorization": f"Bearer {other.key}"}
    for team in (other.team, other.team.replace(":", "%3A")):
        assert len((await other.client.get(f"/api/v1/events?team_id={team}", headers=bearer)).json()["events"]) == 1
    await other.client.aclose()


async def test_only_allowed_origins_may_read_answers(archive: ClickHouseArchive, api: Api) -> None:
    other = Api(archive, api.redis, api.team, api.partition, origins=("https://app.example",))
    allowed, foreign = await other.get(origin="https://app.example"), await other.get(origin="https://evil.example")
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "x-request-id" in allowed.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in foreign.headers
    assert "access-control-allow-origin" not in (await api.get(origin="https://app.example")).headers
    await other.client.aclose()


async def test_operators_routes_are_served(api: Api) -> None:
    assert (await api.client.get("/livez")).status_code == 200
    assert (await api.client.get("/readyz")).status_code == 200


def test_event_ids_of_the_tests_are_uuids() -> None:
    assert ids.is_uuid(event_id(1))
