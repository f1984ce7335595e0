"""Hands spans to OpenTelemetry's own OTLP exporter, in batches and in a thread. The only module that imports the SDK.

The queue is ours and not the SDK's BatchSpanProcessor because that one drops what it has no room for without a count. Whatever the
collector does, nobody waits for it: a span is put into the queue or counted, and a stop waits `FLUSH_S` for the rest.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags
from opentelemetry.trace import SpanKind as OtelKind
from opentelemetry.util.re import parse_env_headers

from kite_common import VERSION
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger, mask_text
from kite_common.runtime.spans import Span, SpanKind
from kite_common.runtime.system import pause
from kite_common.runtime.trace import TraceContext

log = get_logger("kite.traces")

# About 2 KiB each.
MOST_QUEUED: Final = 4_096
_BATCH: Final = 512
_EVERY_S: Final = 1.0
# One try with its repeats; what is made meanwhile is queued.
_EXPORT_TIMEOUT_S: Final = 10.0
FLUSH_S: Final = 2.0
_KINDS: Final[dict[SpanKind, OtelKind]] = {
    "server": OtelKind.SERVER, "client": OtelKind.CLIENT, "producer": OtelKind.PRODUCER, "consumer": OtelKind.CONSUMER,
}  # fmt: skip
_SCOPE: Final = InstrumentationScope("kite", VERSION)


class SpanExport:
    """A Component, and the SpanSink of a process. It is ready whatever the collector does: traces are for people, not for work."""

    name = "span_export"

    def __init__(self, exporter: SpanExporter, resource: Resource, metrics: Metrics, *, most_queued: int = MOST_QUEUED) -> None:
        self._exporter, self._resource, self._most_queued = exporter, resource, most_queued
        spans = metrics.counter("kite_trace_spans_total")
        self._exported, self._failed, self._dropped = (spans.labels(outcome=outcome) for outcome in ("exported", "failed", "dropped"))
        self._queue: deque[Span] = deque()
        self._due, self._closing = asyncio.Event(), False
        self._works = True

    def add(self, span: Span) -> None:
        """Queue a span, or count it as dropped if there is no room."""
        if len(self._queue) >= self._most_queued:
            self._dropped.inc()
            return
        self._queue.append(span)
        if len(self._queue) >= _BATCH:
            self._due.set()

    def skip(self, count: int) -> None:
        """Count spans that were not made."""
        self._dropped.inc(count)

    async def run(self, stop: asyncio.Event) -> None:
        """Export until stopped, then what is left, within `FLUSH_S`."""
        exporting = asyncio.create_task(self._export_all(), name=f"{self.name}.exporting")
        try:
            await stop.wait()
            self._closing = True
            self._due.set()
            await asyncio.wait({exporting}, timeout=FLUSH_S)
        finally:
            exporting.cancel()
            await asyncio.wait({exporting})
            self._dropped.inc(len(self._queue))
            self._queue.clear()
            self._exporter.shutdown()

    def readiness(self) -> Readiness:
        """Ready at once and always."""
        return READY

    async def _export_all(self) -> None:
        while self._queue or not self._closing:
            await pause(_EVERY_S, self._due)
            if not self._closing:
                self._due.clear()
            while self._queue:
                await self._export([self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))])

    async def _export(self, spans: Sequence[Span]) -> None:
        """One batch: what fails is not tried again, for the exporter has done so."""
        try:
            result = await asyncio.to_thread(self._send, spans)
        except asyncio.CancelledError:
            self._failed.inc(len(spans))
            raise
        except Exception as error:  # noqa: BLE001 - whatever a library makes of a collector's answer, the service goes on
            self._tell(works=False, reason=type(error).__name__)
            self._failed.inc(len(spans))
            return
        works = result is SpanExportResult.SUCCESS
        self._tell(works=works, reason="not taken")
        (self._exported if works else self._failed).inc(len(spans))

    def _send(self, spans: Sequence[Span]) -> SpanExportResult:
        return self._exporter.export([readable(span, self._resource) for span in spans])

    def _tell(self, *, works: bool, reason: str) -> None:
        """Once when it begins to fail, once when it works again."""
        if works is not self._works:
            self._works = works
            if works:
                log.info("traces.exported_again")
            else:
                log.warning("traces.not_exported", reason=reason)


def otlp_exporter(endpoint: str, headers: str | None) -> OTLPSpanExporter:
    """The exporter to `endpoint`/v1/traces; `headers` as OTEL_EXPORTER_OTLP_HEADERS has them.

    What else the standard has variables for (certificates, compression) the exporter reads itself.
    """
    parsed = None if headers is None else parse_env_headers(headers, liberal=True)
    return OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", headers=parsed, timeout=_EXPORT_TIMEOUT_S)


def resource_of(service: str, instance: str) -> Resource:
    """What every span of this process says of it; OTEL_RESOURCE_ATTRIBUTES adds to it."""
    return Resource.create({
        "service.name": f"kite-{service}", "service.namespace": "kite", "service.version": VERSION, "service.instance.id": instance,
    })  # fmt: skip


def readable(span: Span, resource: Resource) -> ReadableSpan:
    """The span as the SDK's exporters take it, with the ids that it has. What has the form of a secret is masked, as in logs."""
    # Only what is published has its parent in the same process.
    is_remote = span.kind != "producer"
    parent = None if span.parent_id is None else _span_context(replace(span.context, span_id=span.parent_id), is_remote=is_remote)
    attributes = {name: _masked(value) for name, value in span.attributes.items() if value is not None}
    if span.error is not None:
        attributes["error.type"] = span.error
    return ReadableSpan(
        span.name, _span_context(span.context, is_remote=False), parent, resource, attributes, kind=_KINDS[span.kind],
        instrumentation_scope=_SCOPE, status=Status(StatusCode.UNSET if span.error is None else StatusCode.ERROR),
        start_time=span.start_ns, end_time=span.end_ns,
    )  # fmt: skip


def _masked(value: str | int | float | bool) -> str | int | float | bool:
    return mask_text(value.encode(errors="replace")).decode() if isinstance(value, str) else value


def _span_context(context: TraceContext, *, is_remote: bool) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote=is_remote, trace_flags=flags)
