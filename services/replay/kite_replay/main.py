"""Puts replay together: settings and resources -> components. No rules, no effect on import."""

import sys
from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis

from kite_common.config import load_catalog
from kite_common.ids import uuid7
from kite_common.runtime.component import Component, readiness_of
from kite_common.runtime.http import HttpServer, operations_routes
from kite_common.runtime.observe import Metrics
from kite_common.runtime.supervisor import run_service
from kite_common.runtime.system import SystemClock, random_bits
from kite_common.stream.group import GroupConsumer
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.stream.table import Table as FollowedTopic
from kite_common.topics import CREDENTIALS, DEAD_LETTERS
from kite_replay.adapters.allowances import RedisAllowances
from kite_replay.adapters.clickhouse.address import parse_address
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.adapters.consumer import GROUP, ArchiveOwner
from kite_replay.adapters.credentials import TableCredentials, decode_credential
from kite_replay.adapters.http.app import create_app, served
from kite_replay.adapters.http.events import EventsRoute
from kite_replay.adapters.measured import MeasuredArchive, MeasuredReader
from kite_replay.adapters.quarantine import DeadLetters
from kite_replay.application.grouped_inserts import GroupedInserts, InsertPolicy
from kite_replay.application.read_events import ReadEvents
from kite_replay.domain.retention import Retention
from kite_replay.domain.rows import EVENTS_TABLE, TABLES
from kite_replay.settings import ReplaySettings

SERVICE: Final = "replay"
# Records wait so long at the broker for more; inserts are further apart.
_GATHER_MS: Final = 100


def build(settings: ReplaySettings) -> Sequence[Component]:
    """The parts of the service, in the order they start; the HTTP server is last, so that it is the first to stop.

    Raises ConfigurationError for an address or a plans file that cannot be used.
    """
    clock, metrics, retention = SystemClock(), Metrics(), Retention(settings.retention_days)
    metrics.up(SERVICE)
    kafka = Kafka(settings.kafka_bootstrap, client_id=f"kite-{SERVICE}-{settings.instance}")
    archive = ClickHouseArchive(parse_address(settings.clickhouse_url), retention.kept_days())
    dead_letters = Publisher(kafka, DEAD_LETTERS.name, settings.partitions, metrics)
    credentials = FollowedTopic(kafka, CREDENTIALS.name, settings.partitions, decode_credential, metrics=metrics, unreadable_removes=True)
    consumer = GroupConsumer(
        kafka, GROUP, tuple(table.topic for table in TABLES), settings.instance,
        _owner(settings, archive, dead_letters, clock, metrics), metrics, gather_ms=_GATHER_MS,
    )  # fmt: skip
    allowances = _allowances(settings)
    route = EventsRoute(
        TableCredentials(credentials, settings.api_key_pepper.get_secret_value().encode()),
        allowances,
        ReadEvents(MeasuredReader(archive, metrics), retention, clock),
        clock,
    )
    components: list[Component] = [archive, allowances, dead_letters, credentials, consumer]
    components.append(_server(settings, route, components, metrics, clock))
    return components


def main() -> int:
    """Run replay until it is told to stop; the exit code."""
    return run_service(SERVICE, ReplaySettings, build)


def _owner(
    settings: ReplaySettings, archive: ClickHouseArchive, publisher: Publisher, clock: SystemClock, metrics: Metrics
) -> ArchiveOwner:
    measured = MeasuredArchive(archive, clock, metrics)
    events, facts = InsertPolicy(settings.archive_interval_s), InsertPolicy(settings.archive_facts_interval_s)
    inserts = {table: GroupedInserts(table, measured, events if table is EVENTS_TABLE else facts) for table in TABLES}
    return ArchiveOwner(inserts, measured, DeadLetters(publisher, clock, metrics))


def _allowances(settings: ReplaySettings) -> RedisAllowances:
    free = load_catalog(settings).by_name("free")
    redis = Redis.from_url(
        settings.redis_url, socket_timeout=settings.redis_timeout_s, socket_connect_timeout=settings.redis_timeout_s, max_connections=64
    )
    return RedisAllowances(
        redis, team_rate_limit=settings.team_rate_limit, rate_unsubscribed=free.requests_per_minute if free is not None else 60
    )


def _server(
    settings: ReplaySettings, route: EventsRoute, others: Sequence[Component], metrics: Metrics, clock: SystemClock
) -> HttpServer:
    checked = tuple(others)
    app = create_app(route, operations_routes(lambda: readiness_of(checked), metrics))
    return HttpServer(
        served(app, new_request_id=lambda: uuid7(clock.unix_ms(), random_bits(74)), cors_origins=settings.cors_origins),
        host=settings.host,
        port=settings.port,
        drain_timeout_s=settings.drain_timeout_s / 2,
        trusted_proxies=settings.trusted_proxies,
    )


if __name__ == "__main__":
    sys.exit(main())
