"""Batches hold every record they are made for, or say so: none is left out and acknowledged all the same."""

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer
from hypothesis import given
from hypothesis import strategies as st

from kite_common.errors import Malformed
from kite_common.events.codec import Record
from kite_common.stream.kafka import MAX_BATCH_BYTES, Kafka, abandon, appended, batch_size_of, size_together
from kite_common.stream.publisher import batch_of
from kite_common.stream.transaction import batches_of
from kite_common.topics import MAX_MESSAGE_BYTES

HALF = Record(b"k", b"v" * (MAX_BATCH_BYTES // 2), ())
HEADERS = st.lists(st.tuples(st.text("abc-", max_size=300), st.binary(max_size=300)), max_size=5).map(tuple)


@pytest.fixture
async def producer() -> AsyncIterator[AIOKafkaProducer]:
    """One that is never started: making batches needs no broker."""
    made = Kafka("127.0.0.1:1").producer()
    yield made
    await abandon(made)


def test_what_fits_together_in_no_batch_is_refused_before_it_waits_for_its_turn() -> None:
    assert size_together([HALF]) == batch_size_of(HALF.key, HALF.value, HALF.headers)
    with pytest.raises(Malformed, match="2 records of .* are larger together"):
        size_together([HALF, HALF])


async def test_calls_of_the_largest_size_fit_whole_into_a_batch_the_topics_take(producer: AIOKafkaProducer) -> None:
    pair = [Record(b"k", b"v" * (MAX_BATCH_BYTES // 2 - 200), (("kite-record", b"event"),))] * 2
    assert size_together(pair) > MAX_BATCH_BYTES - 500
    batch = batch_of(producer, pair)
    assert (batch.record_count(), batch.size() < MAX_MESSAGE_BYTES) == (2, True)


async def test_a_batch_that_is_full_before_its_last_record_is_an_error_and_not_a_shorter_batch(producer: AIOKafkaProducer) -> None:
    with pytest.raises(RuntimeError, match="took 2 of 3 records"):
        batch_of(producer, [HALF] * 3)


async def test_a_full_batch_says_no_and_keeps_what_it_has(producer: AIOKafkaProducer) -> None:
    batch = producer.create_batch()
    assert [appended(batch, HALF) for _ in range(3)] == [True, True, False]
    assert batch.record_count() == 2


async def test_the_records_of_a_step_are_in_its_batches_in_their_order_however_many_it_takes(producer: AIOKafkaProducer) -> None:
    records = [("a" if number % 3 else "b", 5, HALF) for number in range(12)]
    counts = {place: [batch.record_count() for batch in batches] for place, batches in batches_of(producer, records).items()}
    assert counts == {("b", 5): [2, 2], ("a", 5): [2, 2, 2, 2]}


async def test_a_step_with_a_record_that_no_batch_can_hold_says_so_itself(producer: AIOKafkaProducer) -> None:
    with pytest.raises(Malformed, match="larger than the log takes"):
        batches_of(producer, [("a", 0, Record(b"k", b"v" * MAX_MESSAGE_BYTES, ()))])


@given(st.binary(max_size=300), st.binary(max_size=2_000), HEADERS, st.integers(1, 40))
async def test_a_record_takes_at_most_what_is_reckoned(
    key: bytes, value: bytes, headers: tuple[tuple[str, bytes], ...], times: int
) -> None:
    producer = Kafka("127.0.0.1:1").producer()
    batch, empty = producer.create_batch(), producer.create_batch()
    record = Record(key, value, headers)
    assert all(appended(batch, record) for _ in range(times))
    assert batch.size() - empty.size() <= size_together([record] * times)
    await abandon(producer)
