"""Writing until it is written: what delivery records must be in the log before it counts, however long the log is away."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.codec import Record
from kite_common.runtime.observe import get_logger

log = get_logger("kite.delivery")

_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 2.0


class Publishes(Protocol):
    """What is needed of `kite_common.stream.publisher.Publisher`: one topic, acknowledged writes."""

    async def publish(self, partition: int, records: Sequence[Record]) -> int:
        """Append the records together; raises Unavailable (nothing written) or OutcomeOpen."""
        ...


async def publish_durably(publisher: Publishes, partition: int, records: Sequence[Record]) -> None:
    """Publish and try again until acknowledged. What is written twice then is the same fact, which readers take once if it stands near.

    Waiting is the right answer to a broker that is away: what is not recorded is not handled, and reading stops by itself when
    memory is used up. Only cancelling ends it.
    """
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            await publisher.publish(partition, records)
        except (Unavailable, OutcomeOpen) as error:
            log.warning("delivery.record_delayed", partition=partition, records=len(records), kind=type(error).__name__)
            await asyncio.sleep(wait_s)
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)
        else:
            return
