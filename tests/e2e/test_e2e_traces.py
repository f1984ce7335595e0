"""One message is one trace: request, record, billing, archive and attempts, under the ids that headers and logs have."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from kite_common.crypto import new_webhook_secret
from kite_common.runtime.system import random_bytes
from kite_common.runtime.trace import TraceContext
from kite_common.stream.record_spans import MOST_A_BATCH
from kite_common.testing.eventually import eventually
from kite_delivery.testing.receiver import Received, Receiver, answer
from support.collector import Collector, Seen
from support.kite import SERVICES, Kite, ServersFor, Team, kite, send

CALLER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
MESSAGES = "/api/v1/agents/messages"
PROCESSED = {"kite-billing", "kite-archiver"}


@dataclass
class Scene:
    """A Kite that sends its traces to a collector, and one team with a webhook."""

    whole: Kite
    collector: Collector
    receiver: Receiver
    client: httpx.AsyncClient
    team: Team

    async def send(self, body: str, traceparent: str) -> str:
        answer = await self.client.post(
            MESSAGES, params={"team_id": self.team.id}, headers=self.team.headers | {"traceparent": traceparent},
            json={"from": "planner", "to": "builder", "body": body},
        )  # fmt: skip
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def delivered(self, event_id: str) -> list[Received]:
        return [one for one in self.receiver.received if one.headers["webhook-id"] == event_id]

    def lines(self, event: str) -> list[dict[str, object]]:
        """The log lines of all services with that name."""
        logs = [self.whole.local.child(service).log.read_text("utf-8") for service in SERVICES]
        lines = [json.loads(line) for log in logs for line in log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory, servers_for: ServersFor) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("traces")
    async with Collector().listening() as collector:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=kite%20one", "KITE_TRACE_RATIO": "0",
               "KITE_LOG_LEVEL": "info"}  # fmt: skip
        async with (
            servers_for(folder) as servers, kite(folder / "data", SERVICES, env, servers) as whole, Receiver().listening() as receiver,
            httpx.AsyncClient(base_url=whole.url, timeout=30) as client,
        ):  # fmt: skip
            [team] = await whole.teams(1)
            wanted = {"url": receiver.url + "?token=planted-in-a-query", "secret": new_webhook_secret(random_bytes(32))}

            async def configured() -> bool:
                query = {"team_id": team.id}
                answer = await client.put("/api/v1/webhook-config", params=query, headers=team.headers, json=wanted)
                assert answer.status_code == 200, answer.text
                return True

            await eventually(configured, within_s=30, what="the key is known")
            yield Scene(whole, collector, receiver, client, team)


async def test_a_message_is_one_trace(scene: Scene) -> None:
    fails_once = iter([answer(500)])
    scene.receiver.behaviour = lambda _received: next(fails_once, answer(200))
    event_id = await scene.send("hello", CALLER.header())

    def trace() -> list[Seen]:
        return scene.collector.trace(CALLER.trace_id)

    await eventually(lambda: len(trace()) >= 6, within_s=60, what="request, record, two readers and two attempts are told of")
    spans = trace()
    [request] = [span for span in spans if span.kind == "server"]
    [record] = [span for span in spans if span.kind == "producer"]
    processed = [span for span in spans if span.kind == "consumer"]
    attempts = [span for span in spans if span.kind == "client"]
    assert len(spans) == 2 + len(PROCESSED) + 2
    assert (request.service, request.name, request.parent_id) == ("kite-gateway", f"POST {MESSAGES}", CALLER.span_id)
    assert request.attributes["kite.event_id"] == event_id
    assert (record.service, record.name, record.parent_id) == ("kite-gateway", "send kite.events", request.span_id)
    assert {span.attributes["messaging.consumer.group.name"] for span in processed} == PROCESSED
    assert {(span.name, span.parent_id) for span in processed} == {("process kite.events", record.span_id)}
    assert {span.attributes["messaging.kafka.offset"] for span in processed} == {record.attributes["messaging.kafka.offset"]}
    assert [(span.service, span.parent_id, span.attributes["http.response.status_code"], span.is_error) for span in attempts] == [
        ("kite-delivery", record.span_id, 500, True), ("kite-delivery", record.span_id, 200, False),
    ]  # fmt: skip
    assert all(span.start_ns <= span.end_ns for span in spans)
    # The receiver got the very ids, and so did the logs.
    sent = [TraceContext.parse(one.headers["traceparent"]) for one in scene.delivered(event_id)]
    assert sent == [TraceContext(CALLER.trace_id, span.span_id, sampled=True) for span in attempts]
    [accepted] = [line for line in scene.lines("message.accepted") if line["event_id"] == event_id]
    assert (accepted["trace_id"], accepted["span_id"]) == (CALLER.trace_id, request.span_id)
    told = [line for line in scene.lines("delivery.attempted") if line["event_id"] == event_id]
    assert [(line["trace_id"], line["span_id"]) for line in told] == [(CALLER.trace_id, span.span_id) for span in attempts]


async def test_a_page_that_is_read_is_a_trace_over_both_services(scene: Scene) -> None:
    caller = TraceContext("5" * 32, "6" * 16, sampled=True)
    query = {"team_id": scene.team.id, "limit": "1"}
    answer = await scene.client.get("/api/v1/events", params=query, headers=scene.team.headers | {"traceparent": caller.header()})
    assert answer.status_code == 200, answer.text
    await eventually(lambda: len(scene.collector.trace(caller.trace_id)) == 2, within_s=30, what="both servers are told of")
    at_gateway, at_replay = scene.collector.trace(caller.trace_id)
    assert (at_gateway.service, at_gateway.parent_id) == ("kite-gateway", caller.span_id)
    assert (at_replay.service, at_replay.parent_id) == ("kite-replay", at_gateway.span_id)
    assert at_gateway.name == at_replay.name == "GET /api/v1/events"
    assert [line["span_id"] for line in scene.lines("events.read") if line["trace_id"] == caller.trace_id] == [at_replay.span_id]


async def test_a_test_event_belongs_to_the_request_that_asked_for_it(scene: Scene) -> None:
    caller, path = TraceContext("7" * 32, "8" * 16, sampled=True), "/api/v1/webhook-config/test"
    asked = await scene.client.post(
        path, params={"team_id": scene.team.id}, headers=scene.team.headers | {"traceparent": caller.header()}
    )
    assert asked.status_code == 202, asked.text
    await eventually(lambda: len(scene.collector.trace(caller.trace_id)) == 3, within_s=30, what="request, order and attempt are told of")
    request, order, attempt = scene.collector.trace(caller.trace_id)
    assert (request.name, order.name, attempt.name) == (f"POST {path}", "send kite.deliveries.commands", "POST")
    assert (order.parent_id, attempt.parent_id) == (request.span_id, order.span_id)


async def test_what_its_caller_does_not_want_recorded_is_not(scene: Scene) -> None:
    unsampled = TraceContext("9" * 32, "a" * 16)
    event_id = await scene.send("unrecorded", unsampled.header())
    begun_here = await send(scene.client, scene.team, "no trace", key="no-trace")
    later = TraceContext("b" * 32, "c" * 16, sampled=True)
    last = await scene.send("recorded", later.header())
    await eventually(lambda: scene.delivered(last), within_s=30, what="the last one is delivered")
    await eventually(lambda: len(scene.collector.trace(later.trace_id)) == 5, within_s=30, what="its trace is whole")
    [received] = scene.delivered(event_id)
    passed_on = TraceContext.parse(received.headers["traceparent"])
    assert passed_on is not None
    assert (passed_on.trace_id, passed_on.sampled) == (unsampled.trace_id, False)
    assert scene.collector.trace(unsampled.trace_id) == []
    assert begun_here is not None
    assert begun_here not in {span.attributes.get("kite.event_id") for span in scene.collector.spans}


async def test_many_sampled_events_at_once_are_told_of_up_to_a_bound_and_counted(scene: Scene) -> None:
    """All of one team, so of one partition; each has its request, its record and its attempt, whatever becomes of the readers'."""
    count = 4 * MOST_A_BATCH
    traces = [TraceContext(f"{0xD000 + number:032x}", "e" * 16, sampled=True) for number in range(count)]
    ids = {await scene.send(f"message {number}", trace.header()) for number, trace in enumerate(traces)}
    await eventually(lambda: all(map(scene.delivered, ids)), within_s=60, what="all are delivered")

    def told(kind: str) -> int:
        wanted = {trace.trace_id for trace in traces}
        return len({span.trace_id for span in scene.collector.spans if span.trace_id in wanted and span.kind == kind})

    await eventually(lambda: told("server") == told("producer") == told("client") == count, within_s=30, what="all are told of")
    assert told("consumer") > 0


async def test_spans_are_ours_alone_and_say_nothing_secret(scene: Scene) -> None:
    assert {span.scope for span in scene.collector.spans} == {"kite"}
    assert all(headers["x-tenant"] == "kite one" for headers in scene.collector.headers)
    sent = b"".join(scene.collector.bodies)
    for secret in (scene.team.key, "planted-in-a-query", "hello"):
        assert secret.encode() not in sent


@pytest.mark.timeout(180)
async def test_a_collector_that_hangs_holds_nobody_up(scene: Scene) -> None:
    """Messages are accepted and delivered meanwhile, and what could not be told is counted; the service stops as it should."""
    scene.collector.hanging = True
    traces = [TraceContext(f"{0xF000 + number:032x}", "e" * 16, sampled=True) for number in range(20)]
    ids = {await scene.send("meanwhile", trace.header()) for trace in traces}
    await eventually(lambda: all(map(scene.delivered, ids)), within_s=60, what="all are delivered")

    async def failed() -> bool:
        text = (await scene.client.get("/metrics")).text
        return 'kite_trace_spans_total{outcome="failed"}' in text and 'kite_trace_spans_total{outcome="failed"} 0.0' not in text

    await eventually(failed, within_s=60, every_s=0.5, what="the gateway counts what it could not tell")
    await scene.send("once more", traces[0].header())
    await scene.whole.local.child("gateway").stop()
    assert "traces.not_exported" in {line["event"] for line in scene.lines("traces.not_exported")}
    [stopped] = scene.lines("service.stopped")
    assert stopped["clean"] is True
