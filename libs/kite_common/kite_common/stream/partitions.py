"""Whether a topic has as many partitions as the settings say. Creates and changes nothing.

Keys are placed by that number. With a wrong one a record goes where its readers do not look: a team opened so is served and never charged.
"""

from collections.abc import Collection
from typing import Any, Final

from aiokafka.errors import KafkaConnectionError, UnknownTopicOrPartitionError

from kite_common.errors import ConfigurationError

_QUESTIONS: Final = 2


async def expect_partitions(client: Any, topic: str, expected: int) -> None:
    """Ask the brokers over a client that is connected. Raises ConfigurationError for another number than expected.

    Raises KafkaError if the brokers do not answer, or if there is no such topic yet: ask again before anything is written to it or read.
    """
    client.add_topic(topic)
    # An answer that was under way already knows nothing of this topic.
    for _ in range(_QUESTIONS):
        if client.cluster.partitions_for_topic(topic) is None and not await client.force_metadata_update():
            raise KafkaConnectionError
    check_partitions(topic, expected, client.cluster.partitions_for_topic(topic))


def check_partitions(topic: str, expected: int, found: Collection[int] | None) -> None:
    """Compare with what the brokers say. Raises ConfigurationError for another number, UnknownTopicOrPartitionError for no topic (None)."""
    if found is None:
        raise UnknownTopicOrPartitionError(topic)
    if len(found) != expected:
        raise ConfigurationError([
            f"KITE_PARTITIONS: is {expected}, but {topic} has {len(found)} partitions: set it to what the topics were created with"
        ])  # fmt: skip
