"""Who is sampled, and what spans say: pure, and agreeing with OpenTelemetry's own sampler and encoder."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from starlette.routing import Route

from kite_common.config import KiteSettings
from kite_common.errors import Unavailable
from kite_common.events.codec import EVENT_RECORD, RECORD_HEADER
from kite_common.runtime.http_spans import route_of, server_span
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.span_export import SpanExport, readable, resource_of
from kite_common.runtime.spans import Span
from kite_common.runtime.trace import TraceContext, is_sampled
from kite_common.runtime.tracing import tracing
from kite_common.stream.input import Input
from kite_common.stream.record_spans import MOST_A_BATCH, ProcessSpans, Traced, open_send, sent, traced
from kite_common.testing.eventually import eventually
from kite_common.testing.spans import KeptSpans

SAMPLED = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
UNSAMPLED = TraceContext(SAMPLED.trace_id, SAMPLED.span_id)
trace_ids = st.integers(1, (1 << 128) - 1).map(lambda number: f"{number:032x}")
ratios = st.floats(0, 1)


@given(trace_ids, ratios)
def test_sampling_is_that_of_open_telemetry(trace_id: str, ratio: float) -> None:
    decision = TraceIdRatioBased(ratio).should_sample(None, int(trace_id, 16), "any").decision
    assert is_sampled(trace_id, ratio) == (decision is Decision.RECORD_AND_SAMPLE)


@given(trace_ids, ratios, ratios)
def test_a_larger_part_has_all_of_a_smaller_one(trace_id: str, one: float, other: float) -> None:
    assert is_sampled(trace_id, min(one, other)) <= is_sampled(trace_id, max(one, other))
    assert not is_sampled(trace_id, 0)
    assert is_sampled(trace_id, 1)


@given(st.integers(0, (1 << 192) - 1), ratios)
def test_what_begins_is_sampled_by_its_trace_id_and_says_so_in_its_header(bits: int, ratio: float) -> None:
    trace = TraceContext.of(None, lambda _bits: bits, ratio)
    assert trace.sampled == is_sampled(trace.trace_id, ratio)
    assert TraceContext.parse(trace.header()) == trace


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("caller", [SAMPLED, UNSAMPLED])
def test_a_callers_decision_stands(caller: TraceContext, ratio: float) -> None:
    assert TraceContext.of(caller.header(), lambda _bits: 7, ratio) == TraceContext(caller.trace_id, f"{7:016x}", caller.sampled)


def test_there_is_no_span_of_what_is_not_sampled() -> None:
    kept = KeptSpans()
    assert kept.tracer().open(UNSAMPLED, "any", "client") is None
    assert kept.tracer().open(None, "any", "client") is None
    assert open_send(kept.tracer(), "broken", "kite.events") is None


def test_a_span_of_a_clock_that_was_set_back_is_no_shorter_than_nothing() -> None:
    kept = KeptSpans(now_ns=10)
    span = kept.tracer().open(SAMPLED, "any", "producer")
    assert span is not None
    kept.now_ns = 3
    span.end({})
    assert kept.spans == [Span(span.context, SAMPLED.span_id, "any", "producer", 11, 11, {})]


def test_an_exported_span_has_the_very_ids() -> None:
    context = TraceContext(SAMPLED.trace_id, "00000000000000aa", sampled=True)
    span = Span(context, SAMPLED.span_id, "send kite.events", "producer", 5, 9, {"a": 1, "b": "x", "c": None}, "Unavailable")
    [of_process] = encode_spans([readable(span, resource_of("gateway", "one"))]).resource_spans
    [encoded] = of_process.scope_spans[0].spans
    assert (encoded.trace_id.hex(), encoded.span_id.hex(), encoded.parent_span_id.hex()) == (
        SAMPLED.trace_id, "00000000000000aa", SAMPLED.span_id,
    )  # fmt: skip
    assert (encoded.start_time_unix_nano, encoded.end_time_unix_nano) == (5, 9)
    assert {pair.key for pair in encoded.attributes} == {"a", "b", "error.type"}
    assert {pair.key: pair.value.string_value for pair in of_process.resource.attributes}["service.name"] == "kite-gateway"


def test_what_a_caller_hid_in_an_id_is_masked() -> None:
    span = Span(SAMPLED, None, "any", "server", 1, 2, {"kite.request_id": "kite_01234567_" + "a" * 32, "lone": "\ud800"})
    assert readable(span, Resource({})).attributes == {"kite.request_id": "kite_01234567_****", "lone": "?"}


HOOK = "/hooks/{team_id}/{source}/{hook_token}"
ROUTES = [Route("/api/v1/events", lambda _request: None), Route(HOOK, lambda _request: None, methods=["POST"])]


def scope(method: str = "POST", path: str = "/hooks/team_a/acme/planted-token") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "root_path": "", "scheme": "https", "http_version": "1.1", "headers": []}


def told(status: int | None, one: dict[str, Any], caller: str | None = SAMPLED.header()) -> Span:
    return server_span(one, route_of(ROUTES, one), SAMPLED.child(9), caller, (1, 2), status, {"kite.team_id": None})


def test_a_request_is_told_of_by_its_route() -> None:
    span = told(202, scope())
    assert (span.name, span.kind, span.parent_id, span.error) == (f"POST {HOOK}", "server", SAMPLED.span_id, None)
    assert span.attributes["http.response.status_code"] == 202
    assert "planted-token" not in repr(span)


@pytest.mark.parametrize(("status", "error"), [(200, None), (404, None), (429, None), (500, "500"), (503, "503"), (None, "no_answer")])
def test_only_what_is_ours_is_an_error(status: int | None, error: str | None) -> None:
    assert told(status, scope()).error == error


def test_what_is_no_route_or_no_method_is_not_repeated() -> None:
    span = told(404, scope("BREW", "/planted/path"))
    assert (span.name, span.attributes["http.request.method"], span.attributes["http.route"]) == ("HTTP", "_OTHER", None)
    assert "planted" not in repr(span)
    assert told(404, scope(), caller=None).parent_id is None


def record(offset: int, *headers: tuple[str, bytes]) -> Input:
    return Input("kite.events", 3, offset, 1_000, b"team", b"{}", ((RECORD_HEADER, EVENT_RECORD), *headers))


def test_records_of_sampled_traces_are_found() -> None:
    records = [
        record(1, ("traceparent", SAMPLED.header().encode())), record(2), record(3, ("traceparent", UNSAMPLED.header().encode())),
        record(4, ("traceparent", b"\xff broken")),
    ]  # fmt: skip
    assert traced(records) == [Traced("kite.events", 3, 1, SAMPLED)]


def test_each_record_of_a_batch_has_a_span_under_its_sender_up_to_a_bound() -> None:
    kept = KeptSpans()
    many = [Traced("kite.events", 3, offset, SAMPLED.child(1000 + offset)) for offset in range(MOST_A_BATCH + 5)]
    ProcessSpans(kept.tracer(), "kite-billing").processed(many, 4, 500)
    assert [span.parent_id for span in kept.spans] == [one.sent_by.span_id for one in many[:MOST_A_BATCH]]
    assert kept.skipped == 5
    assert {(span.name, span.kind, span.start_ns) for span in kept.spans} == {("process kite.events", "consumer", 4)}
    assert kept.spans[2].attributes["messaging.kafka.offset"] == 2
    assert kept.spans[2].attributes["messaging.batch.message_count"] == 500


async def test_what_is_sent_ends_its_span_with_its_offset_or_its_error() -> None:
    kept = KeptSpans()

    async def appended() -> int:
        return 42

    async def refused() -> int:
        raise Unavailable("the log is away")

    for publishing in (appended(), refused()):
        span = open_send(kept.tracer(), SAMPLED.header(), "kite.events")
        assert span is not None
        try:
            await sent(span, publishing, "kite.events", 3, "an event")
        except Unavailable:
            continue
    assert [(span.attributes["messaging.kafka.offset"], span.error) for span in kept.spans] == [(42, None), (None, "Unavailable")]


@dataclass
class MemoryExporter(SpanExporter):
    """An exporter of the SDK's kind. `answers` in a row: a result, or an error to raise; then it succeeds. Waits for `let_go`."""

    answers: list[SpanExportResult | Exception] = field(default_factory=list)
    exported: list[ReadableSpan] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.let_go.wait()
        answer = self.answers.pop(0) if self.answers else SpanExportResult.SUCCESS
        if isinstance(answer, Exception):
            raise answer
        if answer is SpanExportResult.SUCCESS:
            self.exported += spans
        return answer

    def shutdown(self) -> None:
        self.let_go.set()


def counts(metrics: Metrics) -> dict[str, float]:
    return {outcome: metrics.value("kite_trace_spans_total", outcome=outcome) for outcome in ("exported", "failed", "dropped")}


def a_span(number: int) -> Span:
    return Span(SAMPLED.child(number + 1), SAMPLED.span_id, "any", "client", 1, 2, {})


async def test_spans_that_nobody_takes_fail_and_later_ones_are_exported() -> None:
    exporter, metrics, stop = MemoryExporter([SpanExportResult.FAILURE, RuntimeError("a defect")]), Metrics(), asyncio.Event()
    exporter.let_go.set()
    export = SpanExport(exporter, Resource({}), metrics)
    running = asyncio.create_task(export.run(stop))
    for number, outcome in enumerate(("failed", "failed", "exported")):
        before = counts(metrics)[outcome]
        export.add(a_span(number))
        await eventually(lambda before=before, outcome=outcome: counts(metrics)[outcome] > before, within_s=20, what="it is counted")  # type: ignore[misc]
    stop.set()
    await running
    assert counts(metrics) == {"exported": 1, "failed": 2, "dropped": 0}
    assert export.readiness().ready


async def test_a_stop_exports_what_is_left() -> None:
    exporter, metrics, stop = MemoryExporter(), Metrics(), asyncio.Event()
    exporter.let_go.set()
    export = SpanExport(exporter, Resource({}), metrics)
    for number in range(1_300):
        export.add(a_span(number))
    stop.set()
    await export.run(stop)
    assert counts(metrics) == {"exported": 1_300, "failed": 0, "dropped": 0}
    assert len(exporter.exported) == 1_300


async def test_what_has_no_room_is_counted_and_a_stop_waits_for_no_collector() -> None:
    exporter, metrics, stop = MemoryExporter([SpanExportResult.FAILURE] * 9), Metrics(), asyncio.Event()
    export = SpanExport(exporter, Resource({}), metrics, most_queued=600)
    running = asyncio.create_task(export.run(stop))
    for number in range(600):
        export.add(a_span(number))
    await eventually(exporter.entered.is_set, within_s=20, what="the first batch is on its way, and hangs")
    for number in range(700):
        export.add(a_span(number))
    export.skip(3)
    assert counts(metrics)["dropped"] == 700 - 512 + 3
    stop.set()
    await running
    found = counts(metrics)
    assert found["exported"] == 0
    assert sum(found.values()) == 600 + 700 + 3


def test_without_a_collector_there_is_no_tracer() -> None:
    off = tracing(KiteSettings(), "gateway", Metrics())
    assert (off.tracer, off.components, off.ratio) == (None, (), 0.0)


async def test_with_a_collector_there_is_one() -> None:
    settings = KiteSettings(otel_exporter_otlp_endpoint="http://127.0.0.1:4318/", trace_ratio=0.25)
    on = tracing(settings, "gateway", Metrics())
    assert on.ratio == 0.25
    assert [component.name for component in on.components] == ["span_export"]


@pytest.mark.parametrize("form", ["OTEL_EXPORTER_OTLP_ENDPOINT", "KITE_TRACE_RATIO"])
def test_what_is_no_url_and_no_part_is_refused(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(form, "collector:4317")
    with pytest.raises(ValueError, match=r"otel_exporter|OTEL_EXPORTER|trace_ratio"):
        KiteSettings()
