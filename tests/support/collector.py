"""A collector of traces for tests: takes OTLP over HTTP on loopback, as any does, and keeps what it was sent."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1 import trace_pb2

_KINDS: Final = {
    trace_pb2.Span.SPAN_KIND_SERVER: "server", trace_pb2.Span.SPAN_KIND_CLIENT: "client",
    trace_pb2.Span.SPAN_KIND_PRODUCER: "producer", trace_pb2.Span.SPAN_KIND_CONSUMER: "consumer",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as it came over the wire; ids are hex, `parent_id` "" for none."""

    service: str
    scope: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    is_error: bool


@dataclass
class Collector:
    """What came. While `status` is not 200 it takes nothing; `hanging` set, it answers nobody."""

    status: int = 200
    hanging: bool = False
    port: int = 0
    spans: list[Seen] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self.port}"

    def trace(self, trace_id: str) -> list[Seen]:
        """The spans of one trace, in the order they began."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start_ns)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Collector"]:
        """Collect while inside, on a free port."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/traces", self._take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.hanging:
            await asyncio.Event().wait()
        if self.status != 200:
            return web.Response(status=self.status)
        self.bodies.append(body)
        self.spans += _seen(ExportTraceServiceRequest.FromString(body))
        return web.Response(body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf")


def _seen(request: Any) -> Iterable[Seen]:
    for of_process in request.resource_spans:
        service = _attributes(of_process.resource.attributes)["service.name"]
        for of_scope in of_process.scope_spans:
            for span in of_scope.spans:
                yield Seen(
                    service, of_scope.scope.name, span.name, _KINDS[span.kind], span.trace_id.hex(), span.span_id.hex(),
                    span.parent_span_id.hex(), span.start_time_unix_nano, span.end_time_unix_nano, _attributes(span.attributes),
                    span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                )  # fmt: skip


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
