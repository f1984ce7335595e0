"""Every metric Kite exports, as one typed list, and the registry of one process. Decides nothing.

A metric that is not in METRICS cannot be had: `Metrics.counter(name)` raises KeyError, so the list is complete by construction.
Labels have few values: never a team, an event or a URL.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from kite_common import VERSION

# Seconds of one request or one step: from a tenth of a millisecond to the publish timeout.
_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Seconds between two services, or of one webhook attempt (15 s at most).
_SLOW: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 300.0)
_SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(frozen=True, slots=True)
class MetricDef:
    """One metric: `buckets` only for histograms, in `unit`."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


def _counter(name: str, unit: str, meaning: str, *labels: str) -> MetricDef:
    return MetricDef(name, "counter", unit, labels, meaning)


def _gauge(name: str, unit: str, meaning: str, *labels: str) -> MetricDef:
    return MetricDef(name, "gauge", unit, labels, meaning)


def _histogram(name: str, unit: str, buckets: tuple[float, ...], meaning: str, *labels: str) -> MetricDef:
    return MetricDef(name, "histogram", unit, labels, meaning, buckets)


METRICS: Final[tuple[MetricDef, ...]] = (
    # every process
    _gauge("kite_up", "bool", "1 while the process serves; version and service as labels", "service", "version"),
    _gauge("kite_component_ready", "bool", "1 if the component is ready, as /readyz answers", "component"),
    _gauge("kite_consumer_lag", "records", "records behind the end of the topic", "group", "topic", "partition"),
    _gauge(
        "kite_consumer_stalled_seconds", "seconds", "time without progress while there is lag; 0 with progress or without lag",
        "group", "topic", "partition",
    ),
    _gauge("kite_consumer_look_age_seconds", "seconds", "since the member last heard of the brokers where its topics end", "group"),
    _counter("kite_consumer_restarts_total", "restarts", "partition owners that were started again after an error", "group", "reason"),
    _counter("kite_consumer_rebalances_total", "rebalances", "partitions that were assigned or taken away", "group", "change"),
    _gauge("kite_loop_age_seconds", "seconds", "since a loop that has to come round again and again last did", "loop", "partition"),
    _gauge("kite_event_loop_late_seconds", "seconds", "the longest that the process did nothing else than one thing, in the last minute"),
    _counter("kite_event_loop_blocked_total", "times", "times it did so for 5 s: nobody was answered; the log has the stack"),
    _gauge("kite_table_silent_seconds", "seconds", "since the brokers last answered for the worst partition of a table", "topic"),
    _gauge(
        "kite_publish_stalled_seconds", "seconds", "since writes to a partition are unacknowledged; 0 while none is", "topic", "partition"
    ),
    _gauge("kite_table_keys", "keys", "keys a table holds in memory", "topic"),
    _histogram("kite_publish_group_size", "writes", _SIZES, "writes that shared one record batch", "topic"),
    _histogram("kite_publish_seconds", "seconds", _FAST, "hand-over of a batch to its acknowledgement by all replicas in sync", "topic"),
    _counter("kite_publish_failures_total", "writes", "writes refused, or without an acknowledgement (open)", "topic", "outcome"),
    _histogram("kite_transaction_seconds", "seconds", _FAST, "one step: decide, write, commit", "group"),
    _counter(
        "kite_trace_spans_total", "spans", "sampled spans: exported, failed (the collector did not take them), dropped (too many at once)",
        "outcome",
    ),
    # gateway
    _counter("kite_gateway_messages_accepted_total", "events", "events answered with 202, durable", "kind"),
    _counter("kite_gateway_refused_total", "requests", "answers of 400 and above by error code", "code"),
    _histogram("kite_gateway_accept_seconds", "seconds", _FAST, "receipt of the request to its 202", "kind"),
    _gauge("kite_gateway_in_flight", "requests", "requests being worked on"),
    _histogram("kite_gateway_admission_seconds", "seconds", _FAST, "one round trip of admission to Redis"),
    _gauge("kite_gateway_stream_time_age_seconds", "seconds", "how far billing is behind, as Redis tells any gateway", "partition"),
    # billing
    _counter("kite_billing_records_total", "records", "inputs applied to accounts by record kind", "kind"),
    _gauge("kite_billing_stream_time_age_seconds", "seconds", "wall clock minus stream time, by which reservations lapse", "partition"),
    _counter("kite_billing_reservations_lapsed_total", "reservations", "reservations whose event provably never reached the log"),
    _counter("kite_billing_usages_late_total", "events", "usages appended after their reservation lapsed: the money may be spent twice"),
    _counter("kite_billing_projections_total", "accounts", "projected accounts: written, older than what stood there, or failed", "result"),
    _histogram(
        "kite_billing_event_to_balance_seconds", "seconds", _SLOW,
        "append of a step's oldest usage to its charge standing in Redis, once a step",
    ),
    _counter("kite_billing_charges_projected_total", "events", "usages whose charge stands in Redis, by how soon: 1s, later", "within"),
    _counter("kite_billing_notices_total", "events", "notices of limits and funds put into teams' streams, by kind", "kind"),
    # payments
    _gauge("kite_x402_payments", "payments", "payment keys of the partitions this process owns, by state", "state"),
    _gauge("kite_x402_oldest_unknown_seconds", "seconds", "since the last settle call of the longest unknown payment; alert over 120"),
    _gauge("kite_x402_breaker_open", "bool", "1 while no new payments are taken because settling does not work; alert after 60 s"),
    _gauge("kite_x402_unattributed_atomic", "atomic", "received, and not yet given to a team"),
    _gauge(
        "kite_x402_ledger_gap_atomic", "atomic",
        "credits ordered minus transfers seen on the chain, summed over all processes; alert if not 0 for 120 s",
    ),
    _gauge("kite_x402_facilitator_gas_wei", "wei", "what the facilitator's key has left for fees"),
    _gauge("kite_x402_scan_lag_blocks", "blocks", "blocks deep enough that are not scanned yet"),
    _gauge("kite_x402_scan_age_seconds", "seconds", "since the scanner was last at the newest block; alert over 60"),
    _gauge("kite_x402_fit", "bool", "1 once chain and facilitator are what they should be; payments are taken only then"),
    _counter("kite_x402_outcomes_total", "submissions", "outcomes told, by result and reason", "result", "reason"),
    _counter("kite_x402_steps_total", "steps", "steps of payments, by event", "event"),
    _counter("kite_x402_alerts_total", "alerts", "things somebody must look at, by kind", "kind"),
    _histogram("kite_x402_verify_seconds", "seconds", _SLOW, "one verify call", "answer"),
    _histogram("kite_x402_settle_seconds", "seconds", _SLOW, "one settle call", "answer"),
    _histogram("kite_x402_prove_seconds", "seconds", _SLOW, "one reading of evidence", "evidence"),
    _histogram("kite_x402_wait_seconds", "seconds", _SLOW, "a submission's sending to its outcome", "result"),
    # facilitator
    _counter("kite_facilitator_answers_total", "calls", "answers to verify and settle, by result", "call", "result"),
    _histogram("kite_facilitator_seconds", "seconds", _SLOW, "one verify or settle call, shared ones too", "call"),
    _gauge("kite_facilitator_gas_wei", "wei", "what its key has left for fees"),
    _gauge("kite_facilitator_gas_floor_wei", "wei", "with less nothing is settled: X402_FACILITATOR_GAS_FLOOR_WEI"),
    _gauge("kite_facilitator_unclear_in_a_row", "settles", "settles in a row that were not sent or not mined in time; a new start at 3"),
    # delivery
    _counter("kite_delivery_attempts_total", "attempts", "POSTs by outcome", "outcome"),
    _histogram("kite_delivery_attempt_seconds", "seconds", _SLOW, "one POST, connection to last byte read", "outcome"),
    _histogram("kite_delivery_first_attempt_seconds", "seconds", _SLOW, "append of the event to the start of its first attempt"),
    _counter("kite_delivery_concluded_total", "deliveries", "deliveries that ended, by status", "status"),
    _counter("kite_delivery_parked_total", "deliveries", "deliveries parked in a retry tier", "tier"),
    _gauge("kite_delivery_lanes_open", "lanes", "endpoint lanes in memory"),
    _gauge("kite_delivery_in_flight", "attempts", "POSTs being made"),
    _gauge("kite_delivery_left_alone", "endpoints", "endpoints whose breaker is not closed: nothing but a probe is sent"),
    _counter("kite_delivery_breaker_changes_total", "changes", "breakers that opened after failures in a row, or closed again", "to"),
    _counter("kite_delivery_dead_letters_total", "deliveries", "given up, by reason and fault (receiver, ours)", "reason", "fault"),
    # replay
    _counter("kite_replay_rows_archived_total", "rows", "rows inserted into ClickHouse", "table"),
    _histogram("kite_replay_archive_batch_seconds", "seconds", _FAST, "one insert", "table"),
    _histogram("kite_replay_event_to_replayable_seconds", "seconds", _SLOW, "append of an event to its visibility in GET /events"),
    _gauge("kite_archive_broken_parts", "parts", "parts that ClickHouse has set aside because it cannot read them: their rows are missing"),
    _counter("kite_replay_reads_total", "reads", "queries by kind and outcome", "kind", "outcome"),
    _histogram("kite_replay_read_seconds", "seconds", _FAST, "one query", "kind"),
    # several services
    _counter("kite_dead_letters_total", "records", "records that no reader could use, by service", "service"),
)  # fmt: skip


class Metrics:
    """The metrics of one process, in a registry of their own, so that two of them never share a number.

    Counters and histograms are exposed from the start, a gauge once it was asked for: a process says nothing of what it does not measure.
    """

    def __init__(self, definitions: Iterable[MetricDef] = METRICS) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        # A gauge stands at 0 from its making on: what nobody in this process sets must not be told, as 0 often means something.
        self._unasked: set[str] = set()
        self._histograms: dict[str, Histogram] = {}
        for definition in definitions:
            self._register(definition)

    def counter(self, name: str) -> Counter:
        """The counter of that name. Raises KeyError if the list has none."""
        return self._counters[name]

    def gauge(self, name: str) -> Gauge:
        """The gauge of that name, exposed from now on. Raises KeyError if the list has none."""
        if name in self._unasked:
            self._unasked.remove(name)
            self._registry.register(self._gauges[name])
        return self._gauges[name]

    def histogram(self, name: str) -> Histogram:
        """The histogram of that name. Raises KeyError if the list has none."""
        return self._histograms[name]

    def up(self, service: str) -> None:
        """Say which service and version this process is: `kite_up`."""
        self.gauge("kite_up").labels(service=service, version=VERSION).set(1)

    def exposition(self) -> Response:
        """All metrics in the Prometheus text format."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def value(self, name: str, **labels: str) -> float:
        """The present value of one counter or gauge, for tests and the stall check. 0 if nothing was counted yet.

        Raises KeyError if the list has neither.
        """
        if name not in self._counters and name not in self._gauges:
            raise KeyError(name)
        return self._registry.get_sample_value(name, labels) or 0.0

    def _register(self, definition: MetricDef) -> None:
        name, labels, meaning = definition.name, definition.labels, f"{definition.meaning} [{definition.unit}]"
        match definition.type:
            case "counter":
                self._counters[name] = Counter(name, meaning, labels, registry=self._registry)
            case "gauge":
                self._gauges[name] = Gauge(name, meaning, labels, registry=None)
                self._unasked.add(name)
            case "histogram":
                self._histograms[name] = Histogram(name, meaning, labels, buckets=definition.buckets, registry=self._registry)
