"""Spans of records: one where a record is sent, one wherever a group has processed it.

A record's header names the span that sent it, so everything that becomes of it hangs under that span. Many records are processed together;
each of a sampled trace gets a span of its own over the time of all, because a link from a batch to a record is not found from the record.
"""

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from kite_common.events.envelope import TRACE_HEADER
from kite_common.runtime.spans import Attributes, OpenSpan, Tracer
from kite_common.runtime.trace import TraceContext

# A caller may have everything sampled: what one batch tells of takes neither the time of its loop nor the queue from others.
MOST_A_BATCH: Final = 32


class ReadRecord(Protocol):
    """What is looked at of `kite_common.stream.input.Input`."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]: ...


class Traced(NamedTuple):
    """A record of a sampled trace: where it stands, and the span that sent it."""

    topic: str
    partition: int
    offset: int
    sent_by: TraceContext


def traced(records: Iterable[ReadRecord]) -> list[Traced]:
    """Those of the records whose headers name a sampled trace, in their order."""
    found = []
    for record in records:
        for name, value in record.headers:
            if name == TRACE_HEADER:
                context = TraceContext.parse(value)
                if context is not None and context.sampled:
                    found.append(Traced(record.topic, record.partition, record.offset, context))
                break
    return found


@dataclass(frozen=True, slots=True)
class ProcessSpans:
    """Tells of what a consumer group has processed."""

    tracer: Tracer
    group: str

    def now_ns(self) -> int:
        """When a batch begins."""
        return self.tracer.now_ns()

    def processed(self, records: Sequence[Traced], start_ns: int, batch: int) -> None:
        """Tell of these, processed since `start_ns` together with others, `batch` in all. More than `MOST_A_BATCH` are only counted."""
        for one in records[:MOST_A_BATCH]:
            span = self.tracer.open(one.sent_by, f"process {one.topic}", "consumer", start_ns)
            if span is not None:
                span.end(_of_record("process", one.topic, one.partition, one.offset) | {
                    "messaging.consumer.group.name": self.group, "messaging.batch.message_count": batch,
                })  # fmt: skip
        if len(records) > MOST_A_BATCH:
            self.tracer.sink.skip(len(records) - MOST_A_BATCH)


def open_send(tracer: Tracer, traceparent: str | None, topic: str) -> OpenSpan | None:
    """The span of sending a record to `topic`, whose context goes into the record; None unless the trace is sampled."""
    return tracer.open(TraceContext.parse(traceparent), f"send {topic}", "producer")


async def sent(span: OpenSpan, publishing: Awaitable[int], topic: str, partition: int, event_id: str) -> int:
    """The offset that publishing a record gives, and the end of its span, whatever becomes of it."""
    try:
        offset = await publishing
    except BaseException as error:
        span.end(_of_record("send", topic, partition, None) | {"kite.event_id": event_id}, type(error).__name__)
        raise
    span.end(_of_record("send", topic, partition, offset) | {"kite.event_id": event_id})
    return offset


def _of_record(operation: str, topic: str, partition: int, offset: int | None) -> dict[str, str | int | float | bool | None]:
    attributes: Attributes = {
        "messaging.system": "kafka", "messaging.operation.name": operation, "messaging.operation.type": operation,
        "messaging.destination.name": topic, "messaging.destination.partition.id": str(partition), "messaging.kafka.offset": offset,
    }  # fmt: skip
    return dict(attributes)
