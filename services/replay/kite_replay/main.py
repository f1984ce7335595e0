"""Puts replay together: settings and resources -> components. No rules, no effect on import."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Final

from fastapi import FastAPI
from redis.asyncio import Redis

from kite_common.auth import Peppers
from kite_common.config import load_catalog, peppers_of
from kite_common.ids import EventId, uuid7
from kite_common.projection.payments import PaymentSender
from kite_common.runtime.component import Component, readiness_of
from kite_common.runtime.http import FAREWELL_S, HttpServer, operations_routes
from kite_common.runtime.http_spans import HttpSpans
from kite_common.runtime.loop_watch import LoopWatch
from kite_common.runtime.observe import Metrics
from kite_common.runtime.supervisor import run_service
from kite_common.runtime.system import SystemClock, random_bits, random_bytes
from kite_common.runtime.tracing import Tracing, tracing
from kite_common.stream.group import GroupConsumer
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.stream.pulse import Pulse
from kite_common.stream.record_spans import ProcessSpans
from kite_common.stream.table import Table as FollowedTopic
from kite_common.topics import CREDENTIALS, DEAD_LETTERS, DELIVERY_COMMANDS, ERASURES, EVENTS, PAYMENTS, WEBHOOKS
from kite_common.x402.offers import RequestFacts
from kite_common.x402_settings import terms_of
from kite_replay.adapters.allowances import RedisAllowances
from kite_replay.adapters.archive_spans import TracedArchive
from kite_replay.adapters.clickhouse.address import parse_address
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.adapters.clickhouse.clients import load_engine
from kite_replay.adapters.clickhouse.deliveries import ClickHouseDeliveries
from kite_replay.adapters.clickhouse.watch import ClickHouseWatch
from kite_replay.adapters.consumer import GROUP, ArchiveOwner
from kite_replay.adapters.credentials import TableCredentials, decode_credential
from kite_replay.adapters.delivery_orders import KafkaDeliveryOrders, TableWebhookConfigs, decode_config
from kite_replay.adapters.erasures import LoggedErasures, decode_erasure
from kite_replay.adapters.http.app import create_app, served
from kite_replay.adapters.http.deliveries import DeliveriesRoutes
from kite_replay.adapters.http.events import EventsRoute
from kite_replay.adapters.http.ledger import LedgerRoute
from kite_replay.adapters.measured import MeasuredArchive, MeasuredReader
from kite_replay.adapters.measured_deliveries import MeasuredDeliveries
from kite_replay.adapters.page_charges import RedisPageCharges
from kite_replay.adapters.quarantine import DeadLetters
from kite_replay.adapters.till import ClosedTill, PaymentDesk
from kite_replay.adapters.usage_log import KafkaUsageLog
from kite_replay.application.charge_page import ChargePage
from kite_replay.application.grouped_inserts import GroupedInserts, InsertPolicy
from kite_replay.application.ports import DeliveryReader, Till
from kite_replay.application.read_deliveries import ReadDeliveries
from kite_replay.application.read_events import ReadEvents, ReadRequest
from kite_replay.application.read_ledger import ReadLedger
from kite_replay.application.redrive_deliveries import RedriveDeliveries
from kite_replay.application.serve_page import ServePage
from kite_replay.domain.retention import Retention
from kite_replay.domain.rows import EVENTS_TABLE, TABLES
from kite_replay.settings import ReplaySettings

SERVICE: Final = "replay"
# Records wait so long at the broker for more; inserts are further apart.
_GATHER_MS: Final = 100
# Opened as they are needed: readers, and callers that wait for their payment and look for its outcome now and then.
_REDIS_CONNECTIONS: Final = 640


def build(settings: ReplaySettings) -> Sequence[Component]:
    """The parts of the service, in the order they start; the HTTP server is last, so that it is the first to stop.

    Raises ConfigurationError for an address or a plans file that cannot be used.
    """
    clock, metrics, retention = SystemClock(), Metrics(), Retention(settings.retention_days)
    metrics.up(SERVICE)
    traces = tracing(settings, SERVICE, metrics)
    kafka = Kafka(settings.kafka_bootstrap, client_id=f"kite-{SERVICE}-{settings.instance}")
    address = parse_address(settings.clickhouse_url)
    load_engine(address)
    pulse = Pulse()
    archive = ClickHouseArchive(address, retention.kept_days(), may_write=lambda: pulse.is_regular)
    dead_letters, usages, erasures = (
        Publisher(kafka, topic.name, settings.partitions, metrics) for topic in (DEAD_LETTERS, EVENTS, ERASURES)
    )
    erased = FollowedTopic(kafka, ERASURES.name, settings.partitions, decode_erasure, metrics=metrics)
    credentials = FollowedTopic(kafka, CREDENTIALS.name, settings.partitions, decode_credential, metrics=metrics, unreadable_removes=True)
    consumer = GroupConsumer(
        kafka, GROUP, tuple(table.topic for table in TABLES), settings.instance,
        _owner(settings, archive, dead_letters, LoggedErasures(erased, erasures, clock), clock, metrics, traces), metrics,
        gather_ms=_GATHER_MS, partitions=settings.partitions, pulse=pulse,
    )  # fmt: skip
    redis = _redis(settings)
    allowances, charges = _allowances(settings, redis), RedisPageCharges(redis, settings.partitions)
    keys = TableCredentials(credentials, Peppers(*peppers_of(settings)))
    reader = MeasuredReader(archive, metrics)
    serve = ServePage(
        ReadEvents(reader, retention, clock), ChargePage(charges, KafkaUsageLog(usages, settings.partitions), clock, _new_usage_id)
    )
    payments, till_of = _payments(settings, kafka, redis, clock, metrics)
    events = EventsRoute(keys, allowances, serve, till_of, clock)
    ledger = LedgerRoute(keys, allowances, ReadLedger(reader), clock)
    clickhouse = ClickHouseWatch(archive.broken_parts, metrics)
    log = MeasuredDeliveries(ClickHouseDeliveries(archive), reader)
    ordering, read, redrive = _deliveries(settings, kafka, log, clock, metrics)
    components: list[Component] = [
        *traces.components, LoopWatch(metrics), archive, clickhouse, allowances, dead_letters, usages, erasures, *payments, credentials,
        erased, *ordering,
        consumer,
    ]  # fmt: skip
    app = create_app(
        events, ledger, DeliveriesRoutes(keys, allowances, read, redrive, clock),
        operations_routes(lambda: readiness_of(components), metrics),
    )  # fmt: skip
    components.append(_server(settings, app, clock, traces))
    return components


def main() -> int:
    """Run replay until it is told to stop; the exit code."""
    return run_service(SERVICE, ReplaySettings, build)


def _owner(
    settings: ReplaySettings, archive: ClickHouseArchive, publisher: Publisher, erasures: LoggedErasures, clock: SystemClock,
    metrics: Metrics, traces: Tracing,
) -> ArchiveOwner:  # fmt: skip
    measured = MeasuredArchive(archive, clock, metrics)
    told = None if traces.tracer is None else TracedArchive(measured, ProcessSpans(traces.tracer, GROUP))
    events, facts = InsertPolicy(settings.archive_interval_s), InsertPolicy(settings.archive_facts_interval_s)
    inserts = {table: GroupedInserts(table, told or measured, events if table is EVENTS_TABLE else facts) for table in TABLES}
    return ArchiveOwner(inserts, measured, DeadLetters(publisher, clock, metrics), erasures, told)


def _redis(settings: ReplaySettings) -> Redis:
    timeout_s = settings.redis_timeout_s
    return Redis.from_url(
        settings.redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, max_connections=_REDIS_CONNECTIONS
    )


def _allowances(settings: ReplaySettings, redis: Redis) -> RedisAllowances:
    return RedisAllowances(
        redis,
        settings.partitions,
        team_rate_limit=settings.team_rate_limit,
        rate_unsubscribed=load_catalog(settings).requests_per_minute_without_subscription,
        fallback_atomic=settings.x402_replay_price_atomic if settings.x402_replay_fallback else None,
    )


def _payments(
    settings: ReplaySettings, kafka: Kafka, redis: Redis, clock: SystemClock, metrics: Metrics
) -> tuple[list[Component], Callable[[RequestFacts, ReadRequest], Till]]:
    """What payments need, and how requests come to their till; nothing, and closed tills, where no payments are taken."""
    terms = terms_of(settings)
    if terms is None:
        return [], lambda _request, _wanted: ClosedTill()
    publisher = Publisher(kafka, PAYMENTS.name, settings.partitions, metrics)
    sender = PaymentSender(redis, publisher, settings.partitions, terms.wait_s)
    return [publisher, sender], PaymentDesk(terms, sender, clock, random_bytes).till_of


def _deliveries(
    settings: ReplaySettings, kafka: Kafka, log: DeliveryReader, clock: SystemClock, metrics: Metrics
) -> tuple[list[Component], ReadDeliveries, RedriveDeliveries]:
    """What redriving needs, and the use cases about the attempt log."""
    orders = Publisher(kafka, DELIVERY_COMMANDS.name, settings.partitions, metrics)
    configs = FollowedTopic(kafka, WEBHOOKS.name, settings.partitions, decode_config, metrics=metrics)
    read = ReadDeliveries(log)
    redrive = RedriveDeliveries(
        read, log, TableWebhookConfigs(configs, settings.partitions), KafkaDeliveryOrders(orders, settings.partitions),
        Retention(settings.retention_days), clock, asyncio.Lock(),
    )  # fmt: skip
    return [orders, configs], read, redrive


def _server(settings: ReplaySettings, app: FastAPI, clock: SystemClock, traces: Tracing) -> HttpServer:
    spans = None if traces.tracer is None else HttpSpans(traces.tracer, app.router.routes)
    return HttpServer(
        served(
            app, new_request_id=lambda: uuid7(clock.unix_ms(), random_bits(74)), cors_origins=settings.cors_origins, spans=spans
        ),
        host=settings.host,
        port=settings.port,
        drain_timeout_s=settings.drain_timeout_s / 2,
        farewell_s=FAREWELL_S,
        trusted_proxies=settings.trusted_proxies,
    )


def _new_usage_id(unix_ms: int) -> EventId:
    return uuid7(unix_ms, random_bits(74))


if __name__ == "__main__":
    sys.exit(main())
