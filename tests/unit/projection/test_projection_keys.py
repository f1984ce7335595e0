"""The times after which a reservation ends, against what they have to cover."""

from collections.abc import Sequence

from kite_common.events.codec import Record
from kite_common.ids import TeamId
from kite_common.projection import keys
from kite_common.stream.publisher import PublishLimits
from kite_common.testing import make
from kite_gateway.adapters.message_log import KafkaMessageLog
from kite_gateway.adapters.place import places

# Kafka's own default of replica.lag.time.max.ms.
REPLICA_LAG_MS = 30_000
CLOCKS_DIFFER_MS = 30_000


class Deadlines:
    """Notes until when records may be handed over."""

    def __init__(self) -> None:
        self.not_after_ms: list[int] = []

    async def publish(self, partition: int, records: Sequence[Record], *, not_after_ms: int | None = None) -> int:
        assert not_after_ms is not None
        self.not_after_ms.append(not_after_ms)
        return 0


def test_fields_of_one_hash_do_not_meet() -> None:
    fields = [field for partition in range(200) for field in (str(partition), keys.server_field(partition), f"{partition}:restored")]
    assert len(set(fields)) == len(fields)


async def test_nothing_of_a_request_is_written_after_the_publish_timeout() -> None:
    log = Deadlines()
    await KafkaMessageLog(log, places(8)).append(TeamId(make.TEAM), b"{}", "", make.usage(), make.NOW_MS)
    [not_after_ms] = log.not_after_ms
    assert not_after_ms - make.NOW_MS + PublishLimits().acknowledge_s * 1000 <= keys.PUBLISH_TIMEOUT_MS


def test_a_lapse_covers_publishing_replication_and_clocks() -> None:
    assert keys.LAPSE_MS >= keys.PUBLISH_TIMEOUT_MS + REPLICA_LAG_MS + CLOCKS_DIFFER_MS
