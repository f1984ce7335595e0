"""Puts delivery together: settings in, components out. No rules, no effect on import."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from pydantic import SecretStr

from kite_common.crypto import parse_cipher_keys
from kite_common.runtime.component import Component, readiness_of
from kite_common.runtime.http import HttpServer, operations_app
from kite_common.runtime.loop_watch import LoopWatch
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.supervisor import run_service
from kite_common.runtime.system import SystemClock, jitter, monotonic_s, random_bits
from kite_common.runtime.trace import TraceContext
from kite_common.runtime.tracing import tracing
from kite_common.stream.exclusive import ExclusiveWriter
from kite_common.stream.group import GroupConsumer
from kite_common.stream.kafka import Kafka
from kite_common.stream.progress import STALLED_S
from kite_common.stream.publisher import Publisher
from kite_common.stream.table import Table
from kite_common.topics import DEAD_LETTERS, DELIVERIES, DELIVERY_COMMANDS, EVENTS, RETRIES, WEBHOOKS
from kite_delivery.adapters.commands_consumer import CommandsOwner
from kite_delivery.adapters.delivery_log import KafkaDeliveryLog
from kite_delivery.adapters.endpoints import ConfigAt, TableEndpoints, decode_config
from kite_delivery.adapters.events_consumer import EventsOwner
from kite_delivery.adapters.http_sender import HttpSender
from kite_delivery.adapters.lane_keeper import LaneKeeper
from kite_delivery.adapters.observer import LogAndMetrics
from kite_delivery.adapters.partition_loop import LoopTimes
from kite_delivery.adapters.retries_consumer import RetriesOwner
from kite_delivery.adapters.retry_topics import RetryTopics
from kite_delivery.adapters.start_position import has_outcomes
from kite_delivery.application.budget import Budget
from kite_delivery.application.deliver_message import DeliverMessage
from kite_delivery.application.lanes import Lanes
from kite_delivery.application.partition_work import PartitionWork
from kite_delivery.domain.breaker import BreakerLimits
from kite_delivery.domain.lane import LaneLimits
from kite_delivery.domain.retry import RetryPolicy
from kite_delivery.settings import DeliverySettings

EVENTS_GROUP: Final = "kite-delivery"
RETRIES_GROUP: Final = "kite-delivery-retries"
COMMANDS_GROUP: Final = "kite-delivery-commands"
# The part of the memory that is for deliveries out of the retry tiers: one in so many.
_AGAIN: Final = 4
# From the end of an attempt to its offset being committed.
_RECORDED_WITHIN_S: Final = 3.0


def build(settings: DeliverySettings, prefix: str = "") -> list[Component]:
    """The components in the order they start; they stop in reverse, so what records outlives what sends.

    `prefix` stands before the names of all topics and groups: tests that share a broker keep apart by it.
    """
    metrics, clock = Metrics(), SystemClock()
    metrics.up("delivery")
    traces = tracing(settings, "delivery", metrics)
    kafka = Kafka(settings.kafka_bootstrap, client_id="kite-delivery")
    publishers = _publishers(kafka, settings, prefix, metrics)
    configs: Table[ConfigAt] = Table(kafka, prefix + WEBHOOKS.name, settings.partitions, decode_config, only=(), metrics=metrics)
    endpoints = TableEndpoints(
        configs, ExclusiveWriter(kafka, prefix + WEBHOOKS.name),
        _keys(settings.webhook_secret_cipher_key), _keys(settings.webhook_signing_key),
    )  # fmt: skip
    sender = HttpSender(timeout_s=settings.delivery_attempt_timeout_s, allow_private=settings.allow_private_targets, now_s=monotonic_s)
    log = KafkaDeliveryLog(publishers[DELIVERIES.name], publishers[DEAD_LETTERS.name], metrics)
    delays_ms, observer = _milliseconds(settings.delivery_tiers_s), LogAndMetrics(metrics, traces.tracer)
    retries = RetryTopics(
        [publishers[topic.name] for topic in RETRIES], delays_ms,
        aside_most_ms=round(settings.delivery_aside_most_s * 1000), clock=clock, metrics=metrics,
    )  # fmt: skip
    lanes = Lanes(_lane_limits(settings), settings.delivery_max_in_flight, monotonic_s, observer.endpoint)
    deliver = DeliverMessage(
        endpoints, sender, log, retries, observer, policy=_retry_policy(settings), clock=clock, jitter=jitter,
        trace=partial(_child_trace, traces.ratio), most_in_batch=settings.delivery_concurrency,
    )  # fmt: skip
    first_time, again = _budgets(settings)
    new_work = partial(PartitionWork, deliver, lanes, capacity=settings.delivery_window)
    times = LoopTimes(settings.delivery_commit_every_s, settings.delivery_release_within_s)
    events_topic, retry_topics = prefix + EVENTS.name, tuple(prefix + topic.name for topic in RETRIES)
    events = EventsOwner(
        endpoints, partial(new_work, first_time), log, clock, times, has_outcomes(kafka, prefix + DELIVERIES.name), topic=events_topic
    )
    parked = RetriesOwner(endpoints, partial(new_work, again), log, clock, times, topics=retry_topics, delays_ms=delays_ms)
    commands_topic = prefix + DELIVERY_COMMANDS.name
    ordered = CommandsOwner(endpoints, partial(new_work, again), log, clock, times, topic=commands_topic)
    components: list[Component] = [
        *traces.components, LoopWatch(metrics), *publishers.values(), configs, sender, LaneKeeper(lanes, observer),
        GroupConsumer(
            kafka, prefix + EVENTS_GROUP, (events_topic,), settings.instance, events, metrics, partitions=settings.partitions,
            stalled_s=_stalled_s(settings, 0),
        ),
        GroupConsumer(
            kafka, prefix + RETRIES_GROUP, retry_topics, settings.instance, parked, metrics, partitions=settings.partitions,
            stalled_s=_stalled_s(settings, settings.delivery_tiers_s[0]),
        ),
        GroupConsumer(
            kafka, prefix + COMMANDS_GROUP, (commands_topic,), settings.instance, ordered, metrics, partitions=settings.partitions,
            stalled_s=_stalled_s(settings, 0),
        ),
    ]  # fmt: skip
    operations = operations_app(lambda: readiness_of(components), metrics)
    return [*components, HttpServer(operations, host=settings.host, port=settings.port, name="operations")]


def main() -> int:
    """Run delivery until it is told to stop; the exit code."""
    return run_service("delivery", DeliverySettings, build)


def _publishers(kafka: Kafka, settings: DeliverySettings, prefix: str, metrics: Metrics) -> Mapping[str, Publisher]:
    topics = (DELIVERIES, DEAD_LETTERS, *RETRIES)
    return {topic.name: Publisher(kafka, prefix + topic.name, settings.partitions, metrics) for topic in topics}


def _keys(secret: SecretStr | None) -> Sequence[bytes]:
    return () if secret is None else parse_cipher_keys(secret.get_secret_value())


def _budgets(settings: DeliverySettings) -> tuple[Budget, Budget]:
    """For first attempts and for what comes back from a tier: however much comes back, it takes no memory from an event's first attempt."""
    held, held_bytes = settings.delivery_max_held, settings.delivery_max_held_mib * 1024 * 1024
    again = Budget(max(1, held // _AGAIN), held_bytes // _AGAIN)
    return Budget(max(1, held - held // _AGAIN), held_bytes - held_bytes // _AGAIN), again


def _retry_policy(settings: DeliverySettings) -> RetryPolicy:
    return RetryPolicy(settings.delivery_retry_waits_s, settings.delivery_retry_jitter, settings.delivery_retry_after_max_s)


def _lane_limits(settings: DeliverySettings) -> LaneLimits:
    return LaneLimits(
        concurrency=settings.delivery_concurrency,
        queue=settings.delivery_queue,
        queue_wait_s=settings.delivery_queue_wait_s,
        rate_per_s=settings.delivery_rate_per_s,
        burst=settings.delivery_burst,
        breaker=BreakerLimits(
            failures=settings.delivery_breaker_failures,
            open_s=settings.delivery_breaker_open_s,
            open_most_s=settings.delivery_breaker_open_most_s,
            look_s=settings.delivery_tiers_s[0],
            hold_most_s=settings.delivery_aside_most_s,
        ),
    )


def _stalled_s(settings: DeliverySettings, held_s: float) -> float:
    """How long a partition may stand at one offset for no other reason than its receiver: held until it is due, waiting, one attempt."""
    return max(STALLED_S, held_s + settings.delivery_queue_wait_s + settings.delivery_attempt_timeout_s + _RECORDED_WITHIN_S)


def _milliseconds(seconds: Sequence[float]) -> tuple[int, ...]:
    return tuple(round(one * 1000) for one in seconds)


def _child_trace(ratio: float, parent: str | None) -> str:
    """The span of one POST: a child of the event's, or the beginning of a trace."""
    return TraceContext.of(parent, random_bits, ratio).header()


if __name__ == "__main__":
    sys.exit(main())
