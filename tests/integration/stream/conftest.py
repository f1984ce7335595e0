"""The broker as a client of these tests sees it."""

import pytest

from kite_common.stream.kafka import Kafka
from support.stack import RunningStack


@pytest.fixture
def kafka(stack: RunningStack) -> Kafka:
    return Kafka(stack.kafka, client_id="test")
