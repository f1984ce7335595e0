"""What the archive does not have yet, as against what it has no more.

A delivery's facts may be archived before its event is: they are rows of two tables, each filled at its own pace. Whoever passes over what
is missing must know that it is gone, or it is passed over for ever.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from kite_common.errors import Unavailable
from kite_common.ids import time_of
from kite_common.log_position import position_of
from kite_replay.application.ports import DeliveryReader
from kite_replay.domain.deliveries import Delivery

FoundT = TypeVar("FoundT")


async def found_or_gone(
    reader: DeliveryReader, look: Callable[[Sequence[int]], Awaitable[Mapping[int, FoundT]]], wanted: Sequence[Delivery], oldest_ms: int
) -> Mapping[int, FoundT]:
    """What `look` finds of the events of these deliveries, by kiteseq; what is left out is not kept any more.

    Events from before `oldest_ms` are not waited for. Raises Unavailable while the archive has not come as far as one that is missing.
    """
    seqs = [one.kiteseq for one in wanted if one.kiteseq is not None]
    found = await look(seqs) if seqs else {}
    missing = sorted({
        one.kiteseq for one in wanted
        if one.kiteseq is not None and one.kiteseq not in found and _is_young(one, oldest_ms)
    })  # fmt: skip
    if not missing:
        return found
    archived_to = {partition: await reader.archived_to(partition) for partition in sorted({position_of(seq)[1] for seq in missing})}
    # Looked for once more: what was archived in between is behind these ends, too, and is not gone.
    found = {**found, **await look(missing)}
    if any(seq not in found and not _is_archived(seq, archived_to) for seq in missing):
        raise Unavailable("an event is not archived yet")
    return found


def _is_young(delivery: Delivery, oldest_ms: int) -> bool:
    made_ms = time_of(delivery.decided.event_id)
    return made_ms is None or made_ms >= oldest_ms


def _is_archived(seq: int, archived_to: Mapping[int, int | None]) -> bool:
    offset, partition = position_of(seq)
    end = archived_to[partition]
    return end is not None and offset <= end
