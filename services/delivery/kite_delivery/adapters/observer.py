"""Observer as log lines and metrics: one wide line an attempt. No bodies, no urls (they may hold a secret), no excerpts."""

from typing import Final, Literal

from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.spans import Tracer
from kite_common.runtime.trace import TraceContext
from kite_delivery.adapters.attempt_spans import attempt_span
from kite_delivery.domain.delivery import Delivery
from kite_delivery.domain.facts import Attempt
from kite_delivery.domain.outcome import Answer
from kite_delivery.domain.retry import GiveUp, RetryAt
from kite_delivery.domain.route import End

log = get_logger("kite.delivery")

_MS: Final = 1000


class LogAndMetrics:
    """Counts by outcome, tells by delivery. With a `tracer` each attempt of a sampled trace is a span, too."""

    def __init__(self, metrics: Metrics, tracer: Tracer | None = None) -> None:
        self._tracer = tracer
        self._attempts = metrics.counter("kite_delivery_attempts_total")
        self._attempt_seconds = metrics.histogram("kite_delivery_attempt_seconds")
        self._first_seconds = metrics.histogram("kite_delivery_first_attempt_seconds")
        self._concluded = metrics.counter("kite_delivery_concluded_total")
        self._lanes = metrics.gauge("kite_delivery_lanes_open")
        self._in_flight = metrics.gauge("kite_delivery_in_flight")
        self._left_alone = metrics.gauge("kite_delivery_left_alone")
        self._changes = metrics.counter("kite_delivery_breaker_changes_total")

    def attempted(self, attempt: Attempt) -> None:
        """One line with all ids, and the numbers."""
        delivery, reply, duration_ms = attempt.delivery, attempt.reply, max(0, attempt.ended_ms - attempt.started_ms)
        self._attempts.labels(outcome=attempt.status).inc()
        self._attempt_seconds.labels(outcome=attempt.status).observe(duration_ms / _MS)
        if delivery.attempt == 1:
            self._first_seconds.observe(max(0, attempt.started_ms - delivery.appended_ms) / _MS)
        if attempt.status in ("delivered", "dead"):
            self._concluded.labels(status=attempt.status).inc()
        log.info(
            "delivery.attempted",
            team_id=delivery.team_id,
            event_id=delivery.event_id,
            event_type=delivery.event_type[:128],
            delivery_id=delivery.delivery_id,
            webhook_config_id=attempt.endpoint.config_id,
            attempt=delivery.attempt,
            status=attempt.status,
            response_status=reply.status if isinstance(reply, Answer) else None,
            error=reply.error,
            reason=attempt.step.reason if isinstance(attempt.step, GiveUp) else None,
            duration_ms=duration_ms,
            next_in_s=round((attempt.step.due_ms - attempt.ended_ms) / _MS) if isinstance(attempt.step, RetryAt) else None,
            since_append_ms=max(0, attempt.started_ms - delivery.appended_ms),
            **_trace_fields(attempt.traceparent),
        )
        if self._tracer is not None and (span := attempt_span(attempt)) is not None:
            self._tracer.sink.add(span)

    def concluded(self, delivery: Delivery, end: End) -> None:
        """Counted; told only where a person may wonder: most ends are teams that want no webhooks."""
        self._concluded.labels(status=end.status).inc()
        if end.status in ("blocked", "cancelled", "dead"):
            log.info(
                "delivery.concluded", team_id=delivery.team_id, event_id=delivery.event_id, delivery_id=delivery.delivery_id,
                webhook_config_id=end.config_id, status=end.status, reason=end.reason, attempts=delivery.attempts,
            )  # fmt: skip

    def endpoint(self, config_id: str, change: Literal["open", "closed"]) -> None:
        """Counted and told: a team whose endpoint is left alone will ask why."""
        self._changes.labels(to=change).inc()
        tell = log.warning if change == "open" else log.info
        tell("delivery.endpoint_left_alone" if change == "open" else "delivery.endpoint_back", webhook_config_id=config_id)

    def load(self, lanes: int, in_flight: int, left_alone: int) -> None:
        """The three gauges."""
        self._lanes.set(lanes)
        self._in_flight.set(in_flight)
        self._left_alone.set(left_alone)


def _trace_fields(traceparent: str | None) -> dict[str, str]:
    context = TraceContext.parse(traceparent)
    return context.log_fields() if context is not None else {}
