"""Two gateways, as main builds them, change one team's webhook config at the same time: every change is on top of all before it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition

from kite_common.events.codec import decode_as
from kite_common.events.webhooks import WebhookConfigured
from kite_common.ids import TeamId
from kite_common.log_position import partition_of
from kite_common.runtime.system import SystemClock, token_hex
from kite_common.stream.exclusive import ExclusiveWriter
from kite_common.stream.kafka import Kafka
from kite_common.stream.table import Table
from kite_common.testing import make
from kite_common.topics import WEBHOOKS
from kite_gateway.adapters.place import places
from kite_gateway.adapters.webhook_configs import TableWebhookConfigs, decode_webhook_config
from support.gateway import CONFIG, PARTITIONS, Gateway, Team, running, running_gateway
from support.stack import RunningStack

ROTATE = CONFIG + "/rotate-secret"
URL = "https://hooks.example.com/x"


async def test_two_gateways_at_once_lose_no_change(gateway: Gateway, stack: RunningStack) -> None:
    async with running_gateway(stack) as other:
        team = await gateway.open()
        await other._known(team.bearer(), team.url(CONFIG))
        await _ask(gateway, team, "PUT", CONFIG, {"url": URL, "secret": "secret 0"})
        gateways = (gateway, other)
        answers = await asyncio.gather(
            *(_ask(gateways[number % 2], team, "POST", ROTATE, {"secret": f"secret {number}"}) for number in range(1, 7)),
            _ask(other, team, "PUT", CONFIG, {"url": URL + "/moved", "secret": "put"}),
        )
        # Whoever was overtaken for too long was told that it is not known to be done.
        assert {status for status, _ in answers} <= {200, 503}
        chain = await _configs(stack, team)
        assert len(chain) > sum(status == 200 for status, _ in answers)
        _assert_each_stands_on_the_one_before(chain)
        assert answers[-1][0] == 503 or chain[-1].url == URL + "/moved"
        shown = [await _ask(one, team, "GET", CONFIG) for one in gateways]
        assert shown[0] == shown[1]


async def test_a_config_is_stored_only_in_place_of_the_one_it_was_decided_on(gateway: Gateway) -> None:
    kafka, late_ms, team_id = Kafka(gateway.stack.kafka), SystemClock().unix_ms() + 60_000, TeamId(f"team_{token_hex(16)}")
    first, second, third = (make.webhook(team_id=team_id, updated_at=make.NOW_MS + number) for number in range(3))
    table = Table(kafka, WEBHOOKS.name, PARTITIONS, decode_webhook_config)
    configs = TableWebhookConfigs(table, ExclusiveWriter(kafka, WEBHOOKS.name), places(PARTITIONS), 5.0)
    async with running([table]):
        assert await configs.store(first, instead_of=None, not_after_ms=late_ms)
        assert await configs.store(second, instead_of=first, not_after_ms=late_ms)
        for overtaken in (first, None):
            assert not await configs.store(third, instead_of=overtaken, not_after_ms=late_ms)
        assert await configs.current(team_id) == second


async def test_a_rotation_that_is_repeated_elsewhere_is_one_rotation(gateway: Gateway, stack: RunningStack) -> None:
    async with running_gateway(stack) as other:
        team = await gateway.open()
        await other._known(team.bearer(), team.url(CONFIG))
        await _ask(gateway, team, "PUT", CONFIG, {"url": URL, "secret": "first"})
        body = {"secret": "second", "overlap_secs": 60}
        answers = [await _ask(one, team, "POST", ROTATE, body) for one in (gateway, other, gateway)]
        assert answers[0] == answers[1] == answers[2]
        assert len(await _configs(stack, team)) == 2


async def _ask(gateway: Gateway, team: Team, method: str, path: str, body: object = None) -> tuple[int, Any]:
    status, _, answer = await gateway.ask(method, team.url(path), headers=team.bearer(), json=body)
    return status, answer


def _assert_each_stands_on_the_one_before(chain: Sequence[WebhookConfigured]) -> None:
    for before, after in zip(chain, chain[1:], strict=False):
        assert after.updated_at > before.updated_at
        if len(after.secrets) == 2:
            assert (after.secrets[1].sealed, after.url) == (before.secrets[0].sealed, before.url)


async def _configs(stack: RunningStack, team: Team) -> list[WebhookConfigured]:
    """All configs the team has had, as readers of committed records find them."""
    consumer = Kafka(stack.kafka).consumer()
    await consumer.start()
    try:
        place = TopicPartition(WEBHOOKS.name, partition_of(team.id.encode(), PARTITIONS))
        consumer.assign([place])
        end, found = (await consumer.end_offsets([place]))[place], []
        while await consumer.position(place) < end:
            found += (await consumer.getmany(place, timeout_ms=200)).get(place, [])
    finally:
        await consumer.stop()
    return [decode_as(WebhookConfigured, one.value) for one in found if one.key == team.id.encode()]
