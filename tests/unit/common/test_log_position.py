"""Partitions and kiteseq: the same as Kafka's own default partitioner, and reversible."""

import pytest
from aiokafka.partitioner import murmur2 as murmur2_of_aiokafka
from hypothesis import given
from hypothesis import strategies as st

from kite_common.log_position import MAX_PARTITIONS, kiteseq, murmur2, partition_of, position_of


@pytest.mark.parametrize(
    ("key", "signed"),
    # The vectors of Apache Kafka's own test of Utils.murmur2.
    [
        (b"21", -973_932_308),
        (b"foobar", -790_332_482),
        (b"a-little-bit-long-string", -985_981_536),
        (b"a-little-bit-longer-string", -1_486_304_829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        (b"abc", 479_470_107),
    ],
)
def test_murmur2_gives_what_kafka_gives(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFF_FFFF


@given(st.binary(max_size=100))
def test_murmur2_agrees_with_an_independent_implementation(key: bytes) -> None:
    assert murmur2(key) == murmur2_of_aiokafka(key) & 0xFFFF_FFFF


@given(st.binary(max_size=100), st.integers(1, MAX_PARTITIONS))
def test_every_key_has_a_partition_that_exists(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions


@given(st.integers(0, (1 << 43) - 1), st.integers(0, MAX_PARTITIONS - 1))
def test_kiteseq_can_be_taken_apart_and_stays_below_2_to_53(offset: int, partition: int) -> None:
    seq = kiteseq(offset, partition)
    assert position_of(seq) == (offset, partition)
    assert 0 <= seq < 1 << 53


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(0, MAX_PARTITIONS - 1))
def test_kiteseq_rises_with_the_offset_within_a_partition(one: int, other: int, partition: int) -> None:
    assert (kiteseq(one, partition) < kiteseq(other, partition)) == (one < other)


def test_the_first_record_of_partition_0_has_seq_0() -> None:
    assert kiteseq(0, 0) == 0
