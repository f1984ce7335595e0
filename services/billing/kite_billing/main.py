"""Puts billing together: settings in, components out. No rules, no effect on import."""

import sys
from typing import Final

from redis.asyncio import Redis

from kite_billing.adapters.consumer import BillingProcessor, TopicNames
from kite_billing.adapters.payments_setup import PaymentsSetup, payments
from kite_billing.adapters.usage_log import KafkaUsageLog
from kite_billing.domain.account import Rules
from kite_billing.settings import BillingSettings
from kite_common.config import load_catalog
from kite_common.errors import ConfigurationError
from kite_common.projection.keys import LAPSE_MS
from kite_common.projection.redis import AccountProjector
from kite_common.runtime.component import Component, readiness_of
from kite_common.runtime.http import HttpServer, operations_app
from kite_common.runtime.loop_watch import LoopWatch
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.supervisor import run_service
from kite_common.runtime.system import SystemClock
from kite_common.runtime.tracing import tracing
from kite_common.stream.group import GroupConsumer
from kite_common.stream.kafka import Kafka
from kite_common.stream.record_spans import ProcessSpans
from kite_common.stream.transaction import TransactionalOwner
from kite_common.x402_settings import terms_of

GROUP: Final = "kite-billing"
# Usage records wait so long at the broker for more; nobody waits for a charge, because admission counts reservations.
_GATHER_MS: Final = 50


def build(settings: BillingSettings, prefix: str = "", hold_ms: int = LAPSE_MS) -> list[Component]:
    """The components in the order they start; they stop in reverse, so the projection outlives what feeds it.

    `prefix` stands before the names of all topics and the group: tests that share a broker keep apart by it. `hold_ms`: how long nobody is
    admitted after Redis lost its data; nothing shorter is safe outside of tests.
    """
    metrics, clock, group, topics = Metrics(), SystemClock(), prefix + GROUP, TopicNames.behind(prefix)
    metrics.up("billing")
    traces = tracing(settings, "billing", metrics)
    spans = None if traces.tracer is None else ProcessSpans(traces.tracer, group)
    kafka = Kafka(settings.kafka_bootstrap, client_id="kite-billing")
    redis = Redis.from_url(settings.redis_url, socket_timeout=settings.redis_timeout_s, socket_connect_timeout=settings.redis_timeout_s)
    projector = AccountProjector(redis, KafkaUsageLog(kafka, topics.events, group), clock, metrics, hold_ms=hold_ms)
    rules = Rules(load_catalog(settings), settings.clerk_paid_plans)
    processor = BillingProcessor(rules, projector, clock, metrics, topics, settings.partitions)
    inputs = (topics.events, topics.commands)
    owner = TransactionalOwner(kafka, group, inputs, topics.accounts, processor, metrics, ticker=processor, spans=spans)
    member = GroupConsumer(
        kafka, group, inputs, settings.instance, owner, metrics, gather_ms=_GATHER_MS, partitions=settings.partitions
    )
    components: list[Component] = [*traces.components, LoopWatch(metrics), projector, member]
    setup = payments_setup(settings)
    if setup is not None:
        components += payments(setup, kafka, redis, metrics, clock, prefix)
    operations = operations_app(lambda: readiness_of(components), metrics)
    return [*components, HttpServer(operations, host=settings.host, port=settings.port, name="operations")]


def payments_setup(settings: BillingSettings) -> PaymentsSetup | None:
    """What the payments processor is built from, None while payments are off. Raises ConfigurationError if they are on and cannot run."""
    if not settings.x402_enabled:
        return None
    terms, rpc_url = terms_of(settings), settings.x402_rpc_url or settings.x402_facilitator_rpc_url
    if terms is None or rpc_url is None or settings.x402_facilitator_url is None:
        raise ConfigurationError(settings.problems())
    token, pepper = settings.x402_facilitator_token, settings.api_key_pepper
    return PaymentsSetup(
        terms=terms, rpc_url=rpc_url, facilitator_url=settings.x402_facilitator_url,
        facilitator_token=None if token is None else token.get_secret_value(),
        pepper=None if pepper is None else pepper.get_secret_value().encode(), verify_timeout_s=settings.x402_verify_timeout_s,
        confirmations=settings.x402_confirmations, confirmations_large=settings.x402_confirmations_large,
        large_atomic=settings.x402_large_atomic, watch_blocks=settings.x402_watch_blocks, scan_from_block=settings.x402_scan_from_block,
        partitions=settings.partitions, instance=settings.instance, plans=frozenset(plan.id for plan in load_catalog(settings).plans),
    )  # fmt: skip


def main() -> int:
    """Run billing until it is told to stop; the exit code."""
    return run_service("billing", BillingSettings, build)


if __name__ == "__main__":
    sys.exit(main())
