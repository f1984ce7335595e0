"""A process whose KITE_PARTITIONS is not what the topics were created with writes nothing and reads nothing: it ends."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest

from kite_cli.admin.erase_team import look
from kite_cli.admin.erasures import erasures_of, refuse_erased
from kite_cli.admin.teams import TeamOrder, create_team
from kite_cli.admin.whole_topic import read_topic
from kite_cli.failure import CommandFailed
from kite_cli.local.environment import PARTITIONS as KITES_OWN
from kite_cli.target import LogTarget
from kite_common.errors import ConfigurationError, Unavailable
from kite_common.ids import TeamId
from kite_common.plans import shipped_catalog
from kite_common.runtime.component import Component
from kite_common.stream.admin import ensure_topics
from kite_common.stream.group import Feed, GroupConsumer
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.stream.table import Table
from kite_common.testing.eventually import eventually
from kite_common.testing.make import TEAM
from kite_common.topics import ALL, ERASURES, LEDGER, Topic
from support.log import PARTITIONS, new_topic, read_all, record, running
from support.stack import RunningStack

WRONG = (PARTITIONS - 1, PARTITIONS + 1)


class Never:
    """An owner that is not to be asked."""

    async def own(self, partition: int, feed: Feed) -> None:
        raise AssertionError(f"partition {partition} was given to an owner")


Make = Callable[[Kafka, str, int], Component]
MAKE: dict[str, Make] = {
    "publisher": lambda kafka, topic, number: Publisher(kafka, topic, number),
    "table": lambda kafka, topic, number: Table(kafka, topic, number, lambda one: one.value, only=(0,)),
    "group": lambda kafka, topic, number: GroupConsumer(kafka, f"group-{uuid.uuid4().hex}", (topic,), "a", Never(), partitions=number),
}


@pytest.mark.parametrize("number", WRONG)
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
async def test_a_wrong_number_ends_the_component_and_names_the_setting(kafka: Kafka, make: Make, number: int) -> None:
    topic = await new_topic(kafka, "compact")
    with pytest.raises(ConfigurationError, match=f"KITE_PARTITIONS: is {number}, but {topic} has {PARTITIONS} partitions"):
        async with asyncio.timeout(30):
            await make(kafka, topic, number).run(asyncio.Event())


async def test_a_topic_that_is_created_later_is_waited_for(kafka: Kafka) -> None:
    topic = Topic(f"test.{uuid.uuid4().hex}", "any", "delete", None, "a test's records")
    publisher = Publisher(kafka, topic.name, PARTITIONS)
    async with running(publisher, ready=False):
        with pytest.raises(Unavailable):
            await publisher.publish(0, [record("early")])
        await ensure_topics(kafka, [topic], PARTITIONS, 1)
        await eventually(lambda: publisher.readiness().ready, within_s=30, what="it is connected")
        await publisher.publish(1, [record("now")])
    assert [key for _, _, key, _ in await read_all(kafka, topic.name)] == ["now"]


async def test_no_team_is_opened_and_no_topic_is_read_with_a_wrong_number(stack: RunningStack, kafka: Kafka) -> None:
    await ensure_topics(kafka, ALL, KITES_OWN, 1)
    target = LogTarget(stack.kafka, stack.redis_url, 8 * KITES_OWN, 1, "a pepper of a test")
    with pytest.raises(ConfigurationError, match="KITE_PARTITIONS"):
        await create_team(target, TeamOrder(), shipped_catalog())
    with pytest.raises(ConfigurationError, match="KITE_PARTITIONS"):
        await read_topic(target, LEDGER, range(KITES_OWN))


@pytest.mark.parametrize("command", ["key create", "team erase", "rebuild archive"])
async def test_without_the_topic_of_erasures_commands_name_it(stack: RunningStack, kafka: Kafka, command: str) -> None:
    """A story: after an upgrade without `kitectl topics apply` they said that Kafka does not answer."""
    target = LogTarget(stack.kafka, stack.redis_url, KITES_OWN, 1, "a pepper of a test", prefix=f"t{uuid.uuid4().hex[:8]}.")
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        "key create": lambda: refuse_erased(target, TEAM), "team erase": lambda: look(target, TeamId(TEAM)),
        "rebuild archive": lambda: erasures_of(target),
    }  # fmt: skip
    with pytest.raises(CommandFailed, match=f"there is no topic {target.prefix}{ERASURES.name}\nRun `kitectl topics apply`"):
        await asked[command]()
