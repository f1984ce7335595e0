"""The span of an attempt: the id its receiver got, what came of it, and nothing of the url but host and port."""

from dataclasses import replace

import pytest

from kite_common.runtime.metrics import Metrics
from kite_common.runtime.trace import TraceContext
from kite_common.testing.spans import KeptSpans
from kite_delivery.adapters.attempt_spans import attempt_span
from kite_delivery.adapters.observer import LogAndMetrics
from kite_delivery.domain.facts import Attempt, bound
from kite_delivery.domain.outcome import Answer, Delivered, Failure, Reply, Transient
from kite_delivery.domain.retry import Done, NextStep, RetryAt
from kite_delivery.testing import a_delivery, an_endpoint

SENT_BY = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
OWN = SENT_BY.child(9)
ENDPOINT = an_endpoint(url="https://user:planted@hooks.example.com:8443/in/planted?token=planted#planted")


def an_attempt(reply: Reply, step: NextStep, *, own: TraceContext | None = OWN, sent_by: TraceContext | None = SENT_BY) -> Attempt:
    delivery = replace(bound(a_delivery(), ENDPOINT), attempts=1, traceparent=None if sent_by is None else sent_by.header())
    outcome = Delivered() if isinstance(step, Done) else Transient()
    return Attempt(delivery, ENDPOINT, reply, outcome, step, 2_000, 2_007, None if own is None else own.header())


def test_a_delivered_attempt() -> None:
    span = attempt_span(an_attempt(Answer(204), Done()))
    assert span is not None
    assert (span.context, span.parent_id, span.name, span.kind, span.error) == (OWN, SENT_BY.span_id, "POST", "client", None)
    assert (span.start_ns, span.end_ns) == (2_000_000_000, 2_007_000_000)
    wanted = {"http.response.status_code": 204, "server.address": "hooks.example.com", "server.port": 8443, "kite.delivery.attempt": 2}
    assert wanted.items() <= span.attributes.items()
    assert "planted" not in repr(span)


@pytest.mark.parametrize(
    ("reply", "error", "status"),
    [(Answer(503), "503", 503), (Answer(500, error="body_cut"), "body_cut", 500), (Failure("tls"), "tls", None)],
)
def test_one_that_failed_says_how(reply: Reply, error: str, status: int | None) -> None:
    span = attempt_span(an_attempt(reply, RetryAt(9_000)))
    assert span is not None
    assert (span.error, span.attributes["http.response.status_code"]) == (error, status)


@pytest.mark.parametrize("url", ["https://hooks.example.com:planted/in", "https://[planted/in", ""])
def test_a_url_that_nobody_can_read_is_not_repeated(url: str) -> None:
    span = attempt_span(replace(an_attempt(Failure("protocol"), RetryAt(9_000)), endpoint=an_endpoint(url=url)))
    assert span is not None
    assert "planted" not in repr(span)


def test_one_whose_trace_begins_with_it_has_no_parent() -> None:
    span = attempt_span(an_attempt(Answer(200), Done(), sent_by=None))
    assert span is not None
    assert span.parent_id is None


@pytest.mark.parametrize("own", [None, replace(OWN, sampled=False)])
def test_one_that_is_not_sampled_is_not_told_of(own: TraceContext | None) -> None:
    assert attempt_span(an_attempt(Answer(200), Done(), own=own)) is None


def test_the_observer_tells_of_each_once_and_of_none_where_tracing_is_off() -> None:
    kept = KeptSpans()
    LogAndMetrics(Metrics(), kept.tracer()).attempted(an_attempt(Answer(200), Done()))
    LogAndMetrics(Metrics()).attempted(an_attempt(Answer(200), Done()))
    assert [span.context for span in kept.spans] == [OWN]
