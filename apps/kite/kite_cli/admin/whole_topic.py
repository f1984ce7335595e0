"""Reads what a topic holds at this moment, committed records only. Joins no group, commits nothing."""

from collections.abc import Sequence

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.target import LogTarget
from kite_common.stream.input import Input, input_of
from kite_common.stream.kafka import Kafka
from kite_common.stream.partitions import expect_partitions
from kite_common.topics import Topic


async def read_topic(target: LogTarget, topic: Topic, partitions: Sequence[int]) -> list[Input]:
    """Everything in these partitions up to their ends, partition by partition.

    Raises CommandFailed if Kafka does not answer or has no such topic, ConfigurationError if the topic has other partitions than the target
    says: what is looked for would be missed.
    """
    consumer, name = Kafka(target.kafka_bootstrap, client_id="kitectl").consumer(), target.prefix + topic.name
    found: list[Input] = []
    try:
        await consumer.start()
        await expect_partitions(consumer._client, name, target.partitions)
        places = [TopicPartition(name, number) for number in partitions]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        for place in places:
            while await consumer.position(place) < ends[place]:
                found += map(input_of, (await consumer.getmany(place, timeout_ms=200)).get(place, []))
    except UnknownTopicOrPartitionError as error:
        advice = "Run `kitectl topics apply`: it makes what this version needs and the one before had not."
        raise CommandFailed(f"there is no topic {name}", advice, EXIT_UNAVAILABLE) from error
    except KafkaError as error:
        advice = "See what runs with `kitectl status`, or check KITE_KAFKA_BOOTSTRAP."
        raise CommandFailed(f"Kafka at {target.kafka_bootstrap} does not answer", advice, EXIT_UNAVAILABLE) from error
    finally:
        await consumer.stop()
    return found
