"""The attempt log, redrives and the test event, as a team uses them: through the gateway, by `kitectl`."""

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from standardwebhooks import Webhook

from kite_common.crypto import new_webhook_secret
from kite_common.runtime.system import random_bytes
from kite_common.testing.eventually import eventually
from kite_delivery.testing.receiver import Receiver, answer
from support.kite import Kite, Team, send
from support.kitectl import Kitectl

EVENTS = 130


async def put_config(client: httpx.AsyncClient, team: Team, receiver: Receiver, secret: str) -> None:
    body = {"url": receiver.url, "secret": secret, "event_types": ["com.github.*"]}
    answered = await client.put("/api/v1/webhook-config", params={"team_id": team.id}, headers=team.headers, json=body)
    assert answered.status_code == 200, answered.text


async def logged(client: httpx.AsyncClient, team: Team, status: str) -> int:
    """How many deliveries of the team have this status, up to 1,000."""
    query: dict[str, Any] = {"team_id": team.id, "status": status, "limit": 1_000}
    answered = await client.get("/api/v1/deliveries", params=query, headers=team.headers)
    assert answered.status_code == 200, answered.text
    return len(answered.json()["deliveries"])


async def test_what_had_no_endpoint_is_redriven_once_though_the_command_is_killed(whole: Kite, tmp_path: Path) -> None:
    [team], secret = await whole.teams(1, plan="enterprise"), new_webhook_secret(random_bytes(32))
    kitectl, environment = Kitectl(tmp_path), {"KITE_PUBLIC_URL": whole.url, "KITE_TEAM_ID": team.id, "KITE_API_KEY": team.key}
    async with httpx.AsyncClient(base_url=whole.url, timeout=30) as client, Receiver().listening() as receiver:
        sent = [await send(client, team, f"message {number}", key=f"{team.id}-{number}") for number in range(EVENTS)]
        await eventually(lambda: _all(client, team, "no_endpoint"), within_s=60, what="all deliveries are on record")
        refused = await kitectl("deliveries", "redrive", "--status", "no_endpoint", **environment)
        assert refused.code == 1
        assert "webhook_config_not_found" in refused.err
        await put_config(client, team, receiver, secret)

        # The first page is ordered at once; then the command waits, because of its rate.
        first = await kitectl.start("deliveries", "redrive", "--status", "no_endpoint", "--rate", "1", **environment)
        await eventually(lambda: bool(list(tmp_path.glob("redrive-*.json"))), within_s=60, what="the first page is ordered")
        first.send_signal(signal.SIGKILL)
        await first.communicate()
        rest = await kitectl("deliveries", "redrive", "--status", "no_endpoint", "--rate", "0", "--json", **environment)
        assert rest.code == 0, rest.err
        assert (rest.document["redriven"], rest.document["expired"], rest.document["resumed"]) == (EVENTS, 0, True)
        assert list(tmp_path.glob("redrive-*.json")) == []
        await eventually(lambda: _all(client, team, "delivered"), within_s=60, what="all are delivered")
        assert Counter(received.headers["webhook-id"] for received in receiver.received) == Counter(sent)
        shown = await kitectl("deliveries", "show", str(sent[0]), "--json", **environment)
        assert [one["response_status"] for one in shown.document["attempts"]] == [200]
        assert len((await kitectl("deliveries", "list", "--limit", "120", "--json", **environment)).documents) == 120


async def test_a_test_event_gets_a_verdict_and_is_nowhere_else(whole: Kite, tmp_path: Path) -> None:
    [team], secret = await whole.teams(1, plan="enterprise"), new_webhook_secret(random_bytes(32))
    kitectl, environment = Kitectl(tmp_path), {"KITE_PUBLIC_URL": whole.url, "KITE_TEAM_ID": team.id, "KITE_API_KEY": team.key}
    reactions = [answer(200), answer(500)]
    async with httpx.AsyncClient(base_url=whole.url, timeout=30) as client, Receiver(lambda _one: reactions.pop(0)).listening() as receiver:
        await put_config(client, team, receiver, secret)
        good = await kitectl("deliveries", "test", "--within", "60", "--json", **environment)
        bad = await kitectl("deliveries", "test", "--within", "60", "--json", **environment)
        assert (good.code, good.document["status"], good.document["kiteseq"]) == (0, "delivered", None)
        assert (bad.code, bad.document["status"], bad.document["attempt_count"]) == (1, "dead", 1)
        assert Webhook(secret).verify(receiver.received[0].body, receiver.received[0].headers)
        expired = await kitectl("deliveries", "redrive", bad.document["id"], **environment)
        assert "event_expired" in expired.err
        events = await client.get("/api/v1/events", params={"team_id": team.id}, headers=team.headers)
        usage = await client.get("/api/v1/usage", params={"team_id": team.id}, headers=team.headers)
    assert events.json()["events"] == []
    assert (usage.json()["events_used"], usage.json()["total_charged_atomic"]) == (0, 0)
    assert await whole.balances([team]) == {team.id: 10_000_000_000}


async def _all(client: httpx.AsyncClient, team: Team, status: str) -> bool:
    return await logged(client, team, status) == EVENTS
