"""What the gateway tells of requests and of what it publishes, and the ids it passes on."""

from collections.abc import Sequence
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kite_common.errors import OutcomeOpen
from kite_common.events.codec import Record
from kite_common.events.deliveries import DeliveryOrdered
from kite_common.ids import TeamId
from kite_common.runtime.http_spans import HttpSpans
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.trace import TraceContext
from kite_common.testing import make
from kite_common.testing.spans import KeptSpans
from kite_gateway.adapters.delivery_commands import KafkaDeliveryCommands
from kite_gateway.adapters.http.context import context_of
from kite_gateway.adapters.http.cors import Cors
from kite_gateway.adapters.http.edge import Edge
from kite_gateway.adapters.message_log import KafkaMessageLog
from kite_gateway.adapters.place import places

CALLER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
PATH = "/hooks/{team_id}/{source}/{hook_token}"


async def endpoint(request: Request) -> Response:
    context = context_of(request.scope)
    context.team_id, context.event_id = "team_a", "an event"
    if request.path_params.get("source") == "broken":
        raise RuntimeError("a defect")
    return JSONResponse({"trace": context.trace.header()}, 202)


class Scene:
    """An edge before one route; `ratio` None: tracing is off."""

    def __init__(self, ratio: float | None = 0.0) -> None:
        self.kept = KeptSpans()
        app = Starlette(routes=[Route(PATH, endpoint, methods=["POST"]), Route("/health", endpoint)])
        spans = None if ratio is None else HttpSpans(self.kept.tracer(ratio), app.router.routes)
        self.app = Edge(
            app, max_in_flight=8, cors=Cors(("https://app.example",)), metrics=Metrics(), random_bits=lambda bits: (1 << bits) // 3,
            spans=spans,
        )  # fmt: skip

    async def ask(self, path: str = "/hooks/team_a/acme/planted", method: str = "POST", **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://kite") as client:
            return await client.request(method, path, headers=headers)


async def test_a_sampled_request_is_told_of_under_the_id_that_its_work_gets() -> None:
    scene = Scene()
    answer = await scene.ask(traceparent=CALLER.header())
    [span] = scene.kept.spans
    assert answer.json() == {"trace": span.context.header()}
    assert (span.name, span.parent_id, span.context.trace_id, span.error) == (f"POST {PATH}", CALLER.span_id, CALLER.trace_id, None)
    assert {"http.response.status_code": 202, "kite.team_id": "team_a", "kite.event_id": "an event"}.items() <= span.attributes.items()
    assert "planted" not in repr(span)


async def test_a_defect_is_an_error_of_ours_and_a_refusal_is_none() -> None:
    scene = Scene()
    await scene.ask("/hooks/team_a/broken/planted", traceparent=CALLER.header())
    await scene.ask("/hooks/nowhere", traceparent=CALLER.header())
    assert [(span.name, span.error, span.attributes["http.response.status_code"]) for span in scene.kept.spans] == [
        (f"POST {PATH}", "500", 500), ("POST", None, 404),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ratio", "path", "method", "headers"),
    [
        (0.0, "/hooks/team_a/acme/t", "POST", {}),
        (1.0, "/hooks/team_a/acme/t", "POST", {"traceparent": replace(CALLER, sampled=False).header()}),
        (1.0, "/health", "GET", {"traceparent": CALLER.header()}),
        (1.0, "/hooks/team_a/acme/t", "OPTIONS", {"origin": "https://app.example", "access-control-request-method": "POST"}),
        (None, "/hooks/team_a/acme/t", "POST", {"traceparent": CALLER.header()}),
    ],
)
async def test_what_is_not_told_of(ratio: float | None, path: str, method: str, headers: dict[str, str]) -> None:
    scene = Scene(ratio)
    answer = await scene.ask(path, method, **headers)
    assert answer.status_code in (202, 204)
    assert scene.kept.spans == []


async def test_what_begins_here_is_sampled_by_the_ratio() -> None:
    scene = Scene(1.0)
    begun = TraceContext.parse((await scene.ask()).json()["trace"])
    assert begun is not None
    assert begun.sampled
    assert [(span.context, span.parent_id) for span in scene.kept.spans] == [(begun, None)]


class FakePublisher:
    """Keeps records; `error` is raised instead."""

    def __init__(self, error: Exception | None = None) -> None:
        self.records: list[Record] = []
        self.error = error

    async def publish(self, partition: int, records: Sequence[Record], *, not_after_ms: int | None = None) -> int:
        if self.error is not None:
            raise self.error
        self.records += records
        return 42


async def test_a_record_carries_the_span_of_its_own_publishing() -> None:
    kept, publisher = KeptSpans(), FakePublisher()
    log = KafkaMessageLog(publisher, places(8), kept.tracer())
    await log.append(TeamId(make.TEAM), b"{}", CALLER.header(), make.usage(), make.NOW_MS)
    [span] = kept.spans
    assert dict(publisher.records[0].headers)["traceparent"].decode() == span.context.header()
    assert "traceparent" not in dict(publisher.records[1].headers)
    assert (span.name, span.kind, span.parent_id) == ("send kite.events", "producer", CALLER.span_id)
    assert (span.attributes["messaging.kafka.offset"], span.attributes["kite.event_id"]) == (42, make.usage().event_id)


async def test_an_order_carries_it_too() -> None:
    kept, publisher = KeptSpans(), FakePublisher()
    commands = KafkaDeliveryCommands(publisher, places(8), lambda: pytest.fail("no place is asked for"), kept.tracer())
    order = make.delivery_ordered(traceparent=CALLER.header())
    await commands.give(order, not_after_ms=1)
    [span] = kept.spans
    given = DeliveryOrdered.model_validate_json(publisher.records[0].value)
    assert given == order.model_copy(update={"traceparent": span.context.header()})
    assert (span.name, span.parent_id) == ("send kite.deliveries.commands", CALLER.span_id)


async def test_publishing_that_fails_is_told_of_as_what_it_is() -> None:
    kept = KeptSpans()
    log = KafkaMessageLog(FakePublisher(OutcomeOpen("no acknowledgement")), places(8), kept.tracer())
    with pytest.raises(OutcomeOpen):
        await log.append(TeamId(make.TEAM), b"{}", CALLER.header(), make.usage(), make.NOW_MS)
    assert [span.error for span in kept.spans] == ["OutcomeOpen"]


@pytest.mark.parametrize("is_on", [True, False])
async def test_a_trace_that_is_not_sampled_goes_on_as_it_came(*, is_on: bool) -> None:
    kept, publisher = KeptSpans(), FakePublisher()
    unsampled = replace(CALLER, sampled=False).header()
    log = KafkaMessageLog(publisher, places(8), kept.tracer() if is_on else None)
    await log.append(TeamId(make.TEAM), b"{}", unsampled, make.usage(), make.NOW_MS)
    assert dict(publisher.records[0].headers)["traceparent"].decode() == unsampled
    assert kept.spans == []
