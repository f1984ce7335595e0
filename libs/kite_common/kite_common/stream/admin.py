"""Creates the topics that are missing, says what is wrong with those that are there and with the brokers. Changes and deletes nothing."""

from collections.abc import Mapping, Sequence
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError

from kite_common.errors import Unavailable
from kite_common.stream.kafka import Kafka
from kite_common.topics import OFFSETS_RETENTION_MINUTES, Topic

_OFFSETS_RETENTION: Final = "offsets.retention.minutes"


async def ensure_topics(kafka: Kafka, topics: Sequence[Topic], partitions: int, replication: int) -> list[str]:
    """Create the topics that do not exist; the names of those created. May run in several places at once.

    Raises Unavailable if the brokers do not answer or refuse.
    """
    async with _Admin(kafka) as admin:
        present = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in present]
        return [topic.name for topic in missing if await _create(admin, topic, partitions, replication)]


async def check_topics(kafka: Kafka, topics: Sequence[Topic], partitions: int, replication: int) -> list[str]:
    """What differs from what is expected, one line each; empty if all is well. Raises Unavailable if the brokers do not answer."""
    async with _Admin(kafka) as admin:
        present = {one["topic"]: len(one["partitions"]) for one in await admin.describe_topics()}
        problems = [f"{topic.name}: does not exist" for topic in topics if topic.name not in present]
        there = [topic for topic in topics if topic.name in present]
        for topic in there:
            if present[topic.name] != partitions:
                problems.append(f"{topic.name}: has {present[topic.name]} partitions, expected {partitions}")
            problems += _differences(topic, replication, await _settings(admin, ConfigResourceType.TOPIC, topic.name))
        return problems


async def check_brokers(kafka: Kafka) -> list[str]:
    """What each broker is set to that would lose something, one line each. Raises Unavailable if the brokers do not answer."""
    async with _Admin(kafka) as admin:
        numbers = sorted(one["node_id"] for one in (await admin.describe_cluster())["brokers"])
        found = [(number, await _settings(admin, ConfigResourceType.BROKER, str(number))) for number in numbers]
        return [problem for number, settings in found for problem in broker_problems(number, settings)]


def broker_problems(number: int, settings: Mapping[str, str]) -> list[str]:
    """What is wrong with a broker's settings. One that does not tell them, for lack of a permission, may be set wrong."""
    value = settings.get(_OFFSETS_RETENTION, "unknown")
    if value.isdigit() and int(value) >= OFFSETS_RETENTION_MINUTES:
        return []
    return [
        f"broker {number}: {_OFFSETS_RETENTION} is {value}, expected at least {OFFSETS_RETENTION_MINUTES}: "
        "a service that is stopped for longer loses its position in the log"
    ]


class _Admin:
    """The admin client, its errors made ours."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka

    async def __aenter__(self) -> AIOKafkaAdminClient:
        self._admin = self._kafka.admin()
        try:
            await self._admin.start()
        except KafkaError as error:
            await self._admin.close()
            raise Unavailable(f"Kafka at {self._kafka.bootstrap} does not answer: {type(error).__name__}") from error
        return self._admin

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._admin.close()
        if isinstance(error, KafkaError):
            raise Unavailable(f"Kafka refused: {type(error).__name__}: {error}") from error


async def _create(admin: AIOKafkaAdminClient, topic: Topic, partitions: int, replication: int) -> bool:
    """Create one; False if somebody else was faster."""
    new = NewTopic(topic.name, partitions, replication, topic_configs=topic.config(replication))
    answer = await admin.create_topics([new])
    for name, code, *message in answer.topic_errors:
        if code == TopicAlreadyExistsError.errno:
            return False
        if code:
            raise Unavailable(f"Kafka did not create {name}: error {code} {' '.join(map(str, message))}")
    return True


async def _settings(admin: AIOKafkaAdminClient, kind: ConfigResourceType, name: str) -> dict[str, str]:
    answers = await admin.describe_configs([ConfigResource(kind, name)])
    return {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}


def _differences(topic: Topic, replication: int, found: dict[str, str]) -> list[str]:
    expected = topic.config(replication)
    return [
        f"{topic.name}: {name} is {found.get(name, 'not set')}, expected {value}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
