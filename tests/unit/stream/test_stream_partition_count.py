"""How many partitions a topic has against what the settings say."""

import pytest
from aiokafka.errors import UnknownTopicOrPartitionError

from kite_common.errors import ConfigurationError
from kite_common.stream.partitions import check_partitions


def test_the_number_that_was_set_is_no_error() -> None:
    check_partitions("kite.commands", 3, {0, 1, 2})


@pytest.mark.parametrize("expected", [1, 2, 4, 64])
def test_any_other_number_names_the_setting_the_topic_and_both(expected: int) -> None:
    with pytest.raises(ConfigurationError, match=f"KITE_PARTITIONS: is {expected}, but kite.commands has 3 partitions"):
        check_partitions("kite.commands", expected, {0, 1, 2})


def test_a_topic_that_is_not_there_yet_has_no_wrong_number() -> None:
    with pytest.raises(UnknownTopicOrPartitionError):
        check_partitions("kite.commands", 3, None)
