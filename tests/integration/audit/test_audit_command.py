"""`kitectl audit` on a real Kite after real traffic: clean. Violations written straight into log, Redis and archive are named."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from kite_cli.local.environment import PARTITIONS
from kite_common.events.codec import Record, encode
from kite_common.events.usage import UsageRecorded
from kite_common.ids import EventId, TeamId, delivery_of, uuid7
from kite_common.log_position import partition_of, position_of
from kite_common.projection import keys
from kite_common.runtime.system import SystemClock
from kite_common.stream.publisher import Publisher
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_common.topics import DELIVERIES, EVENTS, LEDGER, Topic
from kite_delivery.testing.receiver import Receiver
from support.kite import Kite, Team, kite, send, walk
from support.kitectl import Ended, Kitectl
from support.log import running

pytestmark = pytest.mark.timeout(300)
MESSAGES: Final = 40
BALANCE: Final = 1_000_000


class Audited:
    """A Kite with two teams, one of which has a webhook."""

    def __init__(self, kite: Kite, data: Path, teams: list[Team]) -> None:
        self.kite, self.teams, self._kitectl = kite, teams, Kitectl(data)

    async def audit(self, *arguments: str) -> Ended:
        return await self._kitectl("audit", "--json", *arguments)

    async def append(self, topic: Topic, *records: Record) -> int:
        publisher = Publisher(self.kite.kafka, topic.name, PARTITIONS)
        async with running(publisher):
            return await publisher.publish(partition_of(records[0].key, PARTITIONS), records)


@pytest.fixture(scope="module")
async def audited(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Audited]:
    data = tmp_path_factory.mktemp("audited") / "data"
    async with kite(data) as whole:
        scene = Audited(whole, data, await whole.teams(2, balance=BALANCE))
        async with Receiver().listening() as receiver, httpx.AsyncClient(base_url=whole.url, timeout=30) as client:
            await traffic(scene, receiver, client)
            yield scene


async def traffic(scene: Audited, receiver: Receiver, client: httpx.AsyncClient) -> None:
    one = scene.teams[0]
    wanted = {"url": receiver.url, "secret": "a secret of the team, long enough"}
    configured = await client.put("/api/v1/webhook-config", params={"team_id": one.id}, headers=one.headers, json=wanted)
    assert configured.status_code == 200, configured.text
    for number in range(MESSAGES):
        assert await send(client, scene.teams[number % 2], f"message {number}", key=f"key-{number}") is not None
    await scene.kite.command(make.credit_wallet(team_id=one.id, command_id="more", amount_atomic=500))

    async def archived() -> bool:
        return len(await walk(client, one, limit=5)) == MESSAGES // 2

    await eventually(lambda: len(receiver.received) == MESSAGES // 2, within_s=60, what="all is delivered")
    await eventually(archived, within_s=60, every_s=0.5, what="all can be read, page by page, at a price")


def checks(ended: Ended) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in ended.document["checks"]}


async def test_real_traffic_is_found_clean_and_planted_violations_are_named(audited: Audited) -> None:
    running_audit = await audited.audit()
    assert running_audit.code == 0, running_audit.out + running_audit.err
    assert "stop replay" in checks(running_audit)["archive_events"]["note"]
    await audited.kite.local.child("replay").stop()
    clean = await audited.audit("--processes", "2")
    assert clean.code == 0, clean.out + clean.err
    found = checks(clean)
    assert found["accepted"]["checked"] >= 2 * MESSAGES
    assert found["charged"]["checked"] > MESSAGES, "messages and pages"
    assert found["archive_events"]["checked"] == MESSAGES
    assert found["archive_ledger"]["checked"] == found["balances"]["checked"] > MESSAGES
    assert found["archive_deliveries"]["checked"] >= MESSAGES
    assert found["redis"]["checked"] == found["snapshots"]["checked"] == 2
    assert found["positions"]["checked"] > 0
    assert clean.document["in_flight"] == {}
    recent = await audited.audit("--since", "1h")
    assert recent.code == 0, recent.out + recent.err
    await plant(audited)


async def plant(audited: Audited) -> None:
    one, other = audited.teams
    for service in ("billing", "delivery"):
        await audited.kite.local.child(service).stop()
    now_ms = SystemClock().unix_ms()
    alone, never = EventId(uuid7(now_ms, 1)), EventId(uuid7(now_ms, 2))
    usage = UsageRecorded(
        team_id=one.id, event_id=never, usage_kind="message", price_atomic=80, subscription_id="s", reserved_at=now_ms
    )  # fmt: skip
    # The usage first: should both teams share a partition, an event before it would be taken for its pair.
    usage_at = await audited.append(EVENTS, encode(usage))
    event_at = await audited.append(EVENTS, make.event_record(event_id=alone, team_id=other.id))
    entry = make.ledger_entry(team_id=one.id, event_id=EventId(uuid7(now_ms, 3)), command_id=None, balance_after_atomic=7, payment=None)
    entry_at = await audited.append(LEDGER, encode(entry))
    outcome = make.delivery_concluded(team_id=one.id, event_id=never, kiteseq=partition_of(one.id.encode(), PARTITIONS))
    outcome_at = await audited.append(DELIVERIES, encode(outcome.model_copy(update={"delivery_id": delivery_of(never, None)})))
    redis = Redis.from_url(audited.kite.local.addresses.redis_url)
    await redis.hset(keys.account(TeamId(other.id)), "balance", "12")
    await redis.aclose()
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("damage_archive.py")), audited.kite.local.addresses.clickhouse_url,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    ended = await audited.audit("--wait", "0")
    assert ended.code == 1, ended.out + ended.err
    assert not ended.document["ok"]
    named = {(one["check"], one["position"]) for one in ended.document["violations"]}
    of_one, of_other = (partition_of(team.id.encode(), PARTITIONS) for team in (one, other))
    lost, doubled = (position_of(int(seq)) for seq in output.split())
    assert named >= {
        ("accepted", f"kite.events-{of_other}@{event_at}"), ("accepted", f"kite.events-{of_one}@{usage_at}"),
        ("charged", f"kite.ledger-{of_one}@{entry_at}"), ("balances", f"kite.ledger-{of_one}@{entry_at}"),
        ("deliveries", f"kite.deliveries-{of_one}@{outcome_at}"), ("redis", keys.account(TeamId(other.id))),
        ("archive_events", f"kite.events-{lost[1]}@{lost[0]}"), ("archive_events", f"kite.events-{doubled[1]}@{doubled[0]}"),
    }
    assert {check for check, _ in named} <= {"accepted", "charged", "balances", "snapshots", "deliveries", "redis", "archive_events"}
    assert ended.document["in_flight"]["usages not charged yet"] == 1


async def test_without_a_kite_it_says_so(tmp_path: Path) -> None:
    ended = await Kitectl(tmp_path / "none")("audit", "--json")
    assert ended.code == 69
    assert "kitectl up" in ended.err
