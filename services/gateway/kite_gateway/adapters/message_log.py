"""MessageLog over the event topic: event and usage event side by side in one atomic record batch. Returns after the acknowledgement."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from kite_common.events.codec import EVENT_RECORD, RECORD_HEADER, Record
from kite_common.events.envelope import CONTENT_TYPE_HEADER, TRACE_HEADER
from kite_common.events.usage import UsageRecorded
from kite_common.ids import TeamId
from kite_common.runtime import faults
from kite_common.runtime.spans import Tracer
from kite_common.stream.record_spans import open_send, sent
from kite_common.topics import EVENTS
from kite_gateway.adapters.place import Place

_EVENT_HEADERS: Final = ((RECORD_HEADER, EVENT_RECORD), CONTENT_TYPE_HEADER)
# From the request to the hand-over of its records: longer than admission and the publisher's queue may take, far shorter than a lapse.
_HAND_OVER_MS: Final = 5_000
_USAGE_HEADERS: Final = ((RECORD_HEADER, UsageRecorded.kind.encode()),)


class Publishes(Protocol):
    """What is needed of `kite_common.stream.publisher.Publisher`."""

    async def publish(self, partition: int, records: Sequence[Record], *, not_after_ms: int | None = None) -> int:
        """Append all records or none, none after `not_after_ms`; the offset of the first. Raises Unavailable, OutcomeOpen."""
        ...


class KafkaMessageLog:
    """The team's partition of kite.events. With a `tracer` the record of a sampled trace carries the span of its own publishing."""

    def __init__(self, publisher: Publishes, place_of: Callable[[TeamId], Place], tracer: Tracer | None = None) -> None:
        self._publisher, self._place_of, self._tracer = publisher, place_of, tracer

    async def append(self, team_id: TeamId, event: bytes, traceparent: str, usage: UsageRecorded, received_ms: int) -> None:
        """Both records, in this order, in one batch. Raises Unavailable (nothing written) or OutcomeOpen."""
        span = None if self._tracer is None else open_send(self._tracer, traceparent, EVENTS.name)
        place, traced = self._place_of(team_id), traceparent if span is None else span.context.header()
        records = (
            Record(place.record_key, event, (*_EVENT_HEADERS, (TRACE_HEADER, traced.encode()))),
            Record(place.record_key, usage.to_json(), _USAGE_HEADERS),
        )
        publishing = self._publisher.publish(place.partition, records, not_after_ms=received_ms + _HAND_OVER_MS)
        if span is None:
            await publishing
        else:
            await sent(span, publishing, EVENTS.name, place.partition, usage.event_id)
        faults.reached("message.published")
        if usage.payment_claim is not None:
            faults.reached("topup.published")
