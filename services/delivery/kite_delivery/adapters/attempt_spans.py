"""The span of one attempt: a POST, from its beginning to the last byte read of its answer. Of the url it tells host and port only."""

from typing import Final
from urllib.parse import urlsplit

from kite_common.runtime.spans import Attributes, Span
from kite_common.runtime.trace import TraceContext
from kite_delivery.domain.facts import Attempt
from kite_delivery.domain.outcome import Answer

_NS_PER_MS: Final = 1_000_000


def attempt_span(attempt: Attempt) -> Span | None:
    """The span whose id the receiver was sent as `traceparent`; None unless its trace is sampled.

    Events that shared a POST have a span each, of the same time; a receiver of many events at once is sent none of their ids.
    """
    context, parent = TraceContext.parse(attempt.traceparent), TraceContext.parse(attempt.delivery.traceparent)
    if context is None or not context.sampled:
        return None
    start_ns, end_ns = attempt.started_ms * _NS_PER_MS, max(attempt.started_ms, attempt.ended_ms) * _NS_PER_MS
    parent_id = parent.span_id if parent is not None else None
    return Span(context, parent_id, "POST", "client", start_ns, end_ns, _attributes(attempt), _error(attempt))


def _attributes(attempt: Attempt) -> Attributes:
    delivery = attempt.delivery
    return {
        **_place(attempt.endpoint.url),
        "http.request.method": "POST",
        "http.response.status_code": attempt.reply.status if isinstance(attempt.reply, Answer) else None,
        "http.request.resend_count": delivery.attempts or None,
        "kite.team_id": delivery.team_id,
        "kite.event_id": delivery.event_id,
        "kite.delivery_id": delivery.delivery_id,
        "kite.webhook_config_id": attempt.endpoint.config_id,
        "kite.delivery.attempt": delivery.attempt,
        "kite.delivery.status": attempt.status,
    }


def _place(url: str) -> Attributes:
    """Where a url leads; nothing of one that nobody can read, to which nothing was sent either."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return {}
    return {"url.scheme": parts.scheme, "server.address": host, "server.port": port}


def _error(attempt: Attempt) -> str | None:
    """What the log calls it, or the status of an answer that was no success."""
    if attempt.status == "delivered":
        return None
    return attempt.reply.error or str(attempt.reply.status)
