"""Where a record stands in the log: the partition of a key, and kiteseq. Pure; knows no client library.

The partition of a key is computed here and nowhere else, because client libraries differ in theirs.
"""

from typing import Final

# kiteseq keeps 10 bits for the partition, so a topic has at most this many (architecture, section 2).
MAX_PARTITIONS: Final = 1024


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: murmur2, positive part, modulo; the same as Kafka's Java default partitioner."""
    return (murmur2(key) & 0x7FFF_FFFF) % partitions


def kiteseq(offset: int, partition: int) -> int:
    """`(offset << 10) | partition`: unique over all teams, increasing within a team, needs no counter."""
    return (offset << 10) | partition


def position_of(seq: int) -> tuple[int, int]:
    """The (offset, partition) a kiteseq was made of."""
    return seq >> 10, seq & 0x3FF


def murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bit, with the seed Kafka uses (org.apache.kafka.common.utils.Utils.murmur2). Unsigned."""
    m, mask, length = 0x5BD1E995, 0xFFFF_FFFF, len(data)
    h = (0x9747B28C ^ length) & mask
    for i in range(0, length - 3, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    if tail := data[length & ~3 :]:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return h ^ (h >> 15)
