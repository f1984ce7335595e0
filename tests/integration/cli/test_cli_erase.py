"""`kitectl team erase` on a whole Kite: what goes, what stays, whoever is killed on the way, and that no rebuild brings it back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import pytest

from kite_cli.admin import erase_team
from kite_cli.local.environment import PARTITIONS
from kite_common.events.codec import encode
from kite_common.events.fact import Fact
from kite_common.log_position import partition_of
from kite_common.runtime.system import SystemClock
from kite_common.stream.publisher import Publisher
from kite_common.testing import make
from kite_common.testing.eventually import eventually
from kite_common.topics import ALL, CREDENTIALS, ENDPOINTS, ERASURES, WEBHOOKS, Topic
from kite_delivery.testing.receiver import Receiver
from kite_replay.adapters import consumer
from support.kite import Kite, Team, kite, send, walk
from support.kitectl import Ended, Kitectl
from support.log import read_all, running

pytestmark = pytest.mark.timeout(900)
MESSAGES: Final = 12
BALANCE: Final = 1_000_000
SECRET: Final = "a secret of the team, long enough"
_KILLED: Final = -9


@dataclass
class Scene:
    """Two teams with messages, a webhook and a hook each; the first one is to go."""

    kite: Kite
    data: Path
    gone: Team
    stays: Team
    receiver: Receiver
    client: httpx.AsyncClient
    hooks: dict[str, str] = field(default_factory=dict)

    async def kitectl(self, *arguments: str, **environment: str) -> Ended:
        return await Kitectl(self.data)(*arguments, **environment)

    async def erase(self, *arguments: str, **environment: str) -> Ended:
        return await self.kitectl("team", "erase", "--team-id", self.gone.id, "--json", *arguments, **environment)

    async def status(self, team: Team) -> int:
        answer = await self.client.get("/api/v1/events", params={"team_id": team.id}, headers=team.headers)
        return answer.status_code

    async def newest(self, topic: str) -> dict[str, Any]:
        """The newest value of each key that says something about the team that is to go."""
        found: dict[str, Any] = {}
        for _, _, key, value in await read_all(self.kite.kafka, topic, range(PARTITIONS)):
            found[key] = orjson.loads(value) if value else None
        return {key: value for key, value in found.items() if value is not None and value.get("team_id") == self.gone.id}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    data = tmp_path / "erased"
    async with kite(data) as whole, Receiver().listening() as receiver, httpx.AsyncClient(base_url=whole.url, timeout=30) as client:
        gone, stays = await _neighbours(whole)
        one = Scene(whole, data, gone, stays, receiver, client)
        await _traffic(one)
        yield one


async def _neighbours(whole: Kite) -> tuple[Team, Team]:
    """Two teams of one partition, so that what is done to one could touch the other."""
    by_partition: dict[int, Team] = {}
    for team in await whole.teams(PARTITIONS + 1, balance=BALANCE):
        number = partition_of(team.id.encode(), PARTITIONS)
        if number in by_partition:
            return by_partition[number], team
        by_partition[number] = team
    raise AssertionError("more teams than partitions, and no two in one")


async def _traffic(scene: Scene) -> None:
    for team in (scene.gone, scene.stays):

        async def configured(team: Team = team) -> bool:
            wanted = {"url": scene.receiver.url, "secret": SECRET}
            answer = await scene.client.put("/api/v1/webhook-config", params={"team_id": team.id}, headers=team.headers, json=wanted)
            return answer.status_code == 200

        await eventually(configured, within_s=30, what="the key is known")
        hook = await scene.kitectl("hook", "create", "github", "--team-id", team.id, "--json")
        assert hook.code == 0, hook.err
        scene.hooks[team.id] = hook.document["hook_token"]
    for number in range(MESSAGES):
        for team in (scene.stays, scene.gone):
            assert await send(scene.client, team, f"message {number}", key=f"key-{number}") is not None
    await eventually(lambda: len(scene.receiver.received) >= 2 * MESSAGES, within_s=60, what="all is delivered")

    async def archived() -> bool:
        return [len(await walk(scene.client, team, limit=50)) for team in (scene.gone, scene.stays)] == [MESSAGES] * 2

    await eventually(archived, within_s=60, every_s=0.5, what="all is archived")


async def test_an_erased_team_is_gone_from_all_that_serves_and_its_neighbour_is_as_before(scene: Scene) -> None:
    told = await scene.erase()
    assert told.code == 1
    assert (told.document["erased_at"], told.document["keys"], told.document["hooks"], told.document["webhook"]) == (None, 1, 1, True)
    assert await scene.status(scene.gone) == 200, "nothing is done without --yes"
    assert (await scene.kitectl("team", "erase", "--team-id", "team_nobody", "--yes")).code == 1
    before = await walk(scene.client, scene.stays, limit=50)

    # Killed behind each step: what is done stays done, a repeat does the rest.
    steps = (
        erase_team.ORDERED, erase_team.REVOKED, erase_team.CLOSED, erase_team.UNHOOKED, erase_team.CANCELLED, erase_team.SETTLED
    )  # fmt: skip
    for point in steps:
        assert (await scene.erase("--yes", KITE_FAULT_POINT=point)).code == _KILLED, point
    done = await _erased_while_something_comes(scene)
    assert done.code == 0, done.err
    assert done.document["erased_at"] is not None
    assert 0 < done.document["balance_atomic"] < BALANCE
    again = await scene.erase("--yes")
    assert (again.code, again.document["erased_at"], again.document["keys"]) == (0, done.document["erased_at"], 0)

    await eventually(lambda: _is(scene, 401), within_s=30, what="its key is refused")
    hook = await scene.client.post(f"/hooks/{scene.gone.id}/github/{scene.hooks[scene.gone.id]}", json={})
    assert hook.status_code in (401, 404), hook.text
    await _nothing_is_left(scene)
    await _counted(scene)
    assert await _walked(scene, scene.stays) == before

    refused = await scene.kitectl("key", "create", "--team-id", scene.gone.id)
    assert (refused.code, "is erased" in refused.err) == (1, True)
    assert (await scene.kitectl("hook", "create", "slack", "--team-id", scene.gone.id)).code == 1
    refused = await scene.kitectl("hook", "rotate-secret", "github", "--team-id", scene.gone.id)
    assert (refused.code, "is erased" in refused.err) == (1, True)
    assert (await scene.kitectl("key", "create", "--team-id", scene.stays.id)).code == 0

    rebuilt = await scene.kitectl("rebuild", "archive", "--json")
    assert rebuilt.code == 0, rebuilt.err
    await eventually(lambda: _is_read(scene), within_s=120, every_s=0.5, what="the rebuilt archive is served")
    assert await _walked(scene, scene.stays) == before
    await _counted(scene)
    await _audited(scene)


async def test_an_archiver_that_dies_in_an_erasure_goes_on_with_it(scene: Scene) -> None:
    replay = scene.kite.local.child("replay")
    await replay.stop()
    waiting = await scene.erase("--yes", "--within", "1")
    assert waiting.code == 69, waiting.out
    assert "Repeat the command" in waiting.err
    await _audited(scene, under_way=True)
    for point in (consumer.ORDERED, consumer.REMOVED):
        process = await asyncio.create_subprocess_exec(*replay.spec.command, env=dict(replay.spec.env) | {"KITE_FAULT_POINT": point})
        async with asyncio.timeout(90):
            assert await process.wait() == _KILLED, point
    await replay.start()
    done = await scene.erase("--yes")
    assert done.code == 0, done.err
    await _counted(scene)
    await _audited(scene)


async def _erased_while_something_comes(scene: Scene) -> Ended:
    """A key that was being made when the erasure was put on record; when that is revoked another, and a webhook that was being stored."""
    publishers = {topic: Publisher(scene.kite.kafka, topic.name, PARTITIONS) for topic in (CREDENTIALS, WEBHOOKS)}

    async def put(topic: Topic, fact: Fact) -> None:
        await publishers[topic].publish(partition_of(fact.key.encode(), PARTITIONS), [encode(fact)])

    async def is_revoked() -> bool:
        return (await scene.newest(CREDENTIALS.name))[first.key]["revoked_at"] is not None

    now_ms = SystemClock().unix_ms()
    first, second = (
        make.credential(team_id=scene.gone.id, prefix=prefix, secret_hash=prefix * 8, created_at=now_ms)
        for prefix in ("aaaa0001", "aaaa0002")
    )
    async with running(*publishers.values()):
        await put(CREDENTIALS, first)
        erasing = asyncio.create_task(scene.erase("--yes"))
        await eventually(is_revoked, within_s=60, every_s=0.2, what="the first key is revoked")
        await put(CREDENTIALS, second)
        [config] = (await scene.newest(WEBHOOKS.name)).values()
        await put(WEBHOOKS, make.webhook(team_id=scene.gone.id, id=config["id"], updated_at=config["updated_at"] + 1))
        return await erasing


async def _is(scene: Scene, status: int) -> bool:
    return await scene.status(scene.gone) == status


async def _is_read(scene: Scene) -> bool:
    return await scene.status(scene.stays) == 200


async def _walked(scene: Scene, team: Team) -> list[dict[str, Any]]:
    return await walk(scene.client, team, limit=50)


async def _nothing_is_left(scene: Scene) -> None:
    """The newest records of compacted topics have no name, address or secret of it."""
    assert await scene.newest(ENDPOINTS.name) == {}
    [config] = (await scene.newest(WEBHOOKS.name)).values()
    assert (config["active"], config["url"], config["secrets"], config["event_types"]) == (False, "", [], [])
    for issued in (await scene.newest(CREDENTIALS.name)).values():
        assert (issued["name"], issued["scopes"], issued["source"]) == ("", [], None)
        assert issued["revoked_at"] is not None
    assert list(await scene.newest(ERASURES.name)) == [scene.gone.id]
    assert ERASURES in ALL


async def _counted(scene: Scene) -> None:
    rows = await scene.kite.archive_teams()
    for table in ("events", "deliveries"):
        assert scene.gone.id not in rows[table], table
        assert rows[table][scene.stays.id] >= MESSAGES, table
    assert rows["ledger"][scene.gone.id] > MESSAGES


async def _audited(scene: Scene, *, under_way: bool = False) -> None:
    """The archive is looked at while replay is stopped, because one process at a time may open the engine."""
    if not under_way:
        await eventually(lambda: _is_read(scene), within_s=60, every_s=0.5, what="replay is back")
        await scene.kite.local.child("replay").stop()
    found = await scene.kitectl("audit", "--json", "--wait", "10")
    assert found.code == 0, found.out + found.err
    notes = {check["name"]: check["note"] for check in found.document["checks"]}
    assert f"{MESSAGES} of erased teams" in notes["archive_events"] or under_way
    assert ("events of teams that are being erased" in found.document["in_flight"]) == under_way
    if not under_way:
        await scene.kite.local.child("replay").start()
