"""The list of topics: names are unique, settings are what Kafka takes, and a batch of the gateway fits."""

import pytest

from kite_common.stream.publisher import PublishLimits
from kite_common.topics import ALL, BY_NAME, CREDENTIALS, EVENTS, LEDGER, MAX_MESSAGE_BYTES, WEBHOOKS, Topic


def test_every_topic_has_a_name_of_its_own() -> None:
    assert list(BY_NAME.values()) == list(ALL)
    assert all(name.startswith("kite.") for name in BY_NAME)


@pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
def test_records_get_the_time_of_their_append(topic: Topic) -> None:
    assert topic.config(3)["message.timestamp.type"] == "LogAppendTime"


@pytest.mark.parametrize(("replication", "in_sync"), [(1, "1"), (2, "1"), (3, "2")])
def test_one_replica_may_be_away_where_there_are_several(replication: int, in_sync: str) -> None:
    assert EVENTS.config(replication)["min.insync.replicas"] == in_sync


def test_what_is_kept_for_ever_says_so_and_state_is_compacted() -> None:
    assert (LEDGER.config(3)["retention.ms"], EVENTS.config(3)["retention.ms"]) == ("-1", str(90 * 24 * 3_600 * 1_000))
    for topic in (CREDENTIALS, WEBHOOKS):
        assert (topic.config(3)["cleanup.policy"], topic.config(3)["retention.ms"]) == ("compact", "-1")
    assert "segment.ms" not in EVENTS.config(3)


def test_the_largest_batch_of_the_gateway_fits() -> None:
    assert PublishLimits().group_bytes < MAX_MESSAGE_BYTES
