"""Puts the gateway together: settings -> components. No rules, no effect on import."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Final

from pydantic import SecretStr

from kite_common.auth import Peppers
from kite_common.config import load_catalog, peppers_of
from kite_common.crypto import parse_cipher_keys
from kite_common.projection.outcomes import CommandSender
from kite_common.projection.payments import PaymentSender
from kite_common.runtime.component import Component, readiness_of
from kite_common.runtime.http import FAREWELL_S, HttpServer
from kite_common.runtime.loop_watch import LoopWatch
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.supervisor import run_service
from kite_common.runtime.system import SystemClock, random_bits, random_bytes
from kite_common.runtime.tracing import tracing
from kite_common.stream.ends import Ends
from kite_common.stream.exclusive import ExclusiveWriter
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.stream.table import Table
from kite_common.topics import COMMANDS, CREDENTIALS, DELIVERY_COMMANDS, ENDPOINTS, EVENTS, PAYMENTS, WEBHOOKS
from kite_common.x402_settings import terms_of
from kite_gateway.adapters.arrivals import PolledArrivals
from kite_gateway.adapters.credentials import TableCredentials, decode_credential
from kite_gateway.adapters.delivery_commands import KafkaDeliveryCommands
from kite_gateway.adapters.hooks import TableHooks, decode_endpoint
from kite_gateway.adapters.http.accounts import Accounts
from kite_gateway.adapters.http.app import Surface, create_app
from kite_gateway.adapters.http.bearer import Bearer
from kite_gateway.adapters.http.ingest import Ingest
from kite_gateway.adapters.http.paid import Paid
from kite_gateway.adapters.http.proxy import ReplayProxy
from kite_gateway.adapters.http.public import Public
from kite_gateway.adapters.ids import RandomIds
from kite_gateway.adapters.message_log import KafkaMessageLog
from kite_gateway.adapters.payment_results import LoggedPaymentResults
from kite_gateway.adapters.place import places
from kite_gateway.adapters.reservations import Limits, RedisRateLimits, RedisReservations
from kite_gateway.adapters.scripts import ScriptRunner, connect
from kite_gateway.adapters.standings import RedisClientRateLimits, RedisStandings, RedisSubscriptionChanges
from kite_gateway.adapters.stream_time import StreamTime
from kite_gateway.adapters.webhook_configs import CipherSeal, TableWebhookConfigs, decode_webhook_config
from kite_gateway.application.accept_message import AcceptMessage
from kite_gateway.application.accept_paid import AcceptPaid
from kite_gateway.application.change_subscription import ChangeSubscription
from kite_gateway.application.checkout import Checkout
from kite_gateway.application.configure_webhook import ConfigureWebhook
from kite_gateway.application.open_hook import OpenHook
from kite_gateway.application.send_test_event import SendTestEvent
from kite_gateway.settings import GatewaySettings

SERVICE: Final = "gateway"
# Longest wait until a config can be seen after it was stored, or before it is read.
_CONFIG_TIMEOUT_S: Final = 5.0


def build(settings: GatewaySettings) -> list[Component]:
    """The components in the order they start; the HTTP server is last, so it stops first and drains over the others."""
    metrics, clock, ids, place_of = Metrics(), SystemClock(), RandomIds(), places(settings.partitions)
    metrics.up(SERVICE)
    traces = tracing(settings, SERVICE, metrics)
    kafka = Kafka(settings.kafka_bootstrap, f"kite-{SERVICE}-{settings.instance}")
    redis = connect(settings.redis_url, settings.redis_timeout_s)
    stream_time = StreamTime(redis, settings.redis_timeout_s, metrics)
    runner = ScriptRunner(redis, settings.redis_timeout_s, metrics)
    catalog = load_catalog(settings)
    limits = Limits(settings.team_rate_limit, catalog.requests_per_minute_without_subscription or 0, settings.max_billing_lag_s)
    credentials = Table(kafka, CREDENTIALS.name, settings.partitions, decode_credential, metrics=metrics, unreadable_removes=True)
    endpoints = Table(kafka, ENDPOINTS.name, settings.partitions, decode_endpoint, metrics=metrics)
    configs = Table(kafka, WEBHOOKS.name, settings.partitions, decode_webhook_config, metrics=metrics)
    events = Publisher(kafka, EVENTS.name, settings.partitions, metrics)
    commands = Publisher(kafka, COMMANDS.name, settings.partitions, metrics)
    sender = CommandSender(redis, commands, settings.partitions)
    orders = Publisher(kafka, DELIVERY_COMMANDS.name, settings.partitions, metrics)
    config_writes = ExclusiveWriter(kafka, WEBHOOKS.name)
    webhook_configs = TableWebhookConfigs(configs, config_writes, place_of, _CONFIG_TIMEOUT_S)
    payments = Publisher(kafka, PAYMENTS.name, settings.partitions, metrics)
    payment_sender = PaymentSender(redis, payments, settings.partitions, settings.x402_wait_s)
    checkout = Checkout(terms_of(settings), payment_sender, clock, random_bytes)
    paying: Sequence[Component] = (payments, payment_sender) if checkout.terms is not None else ()
    replay = ReplayProxy(settings.replay_url, settings.replay_timeout_s) if settings.replay_url else None
    components: list[Component] = [
        *traces.components, LoopWatch(metrics), stream_time, credentials, endpoints, configs, events, orders, commands, sender, *paying,
        *([replay] if replay else []),
    ]  # fmt: skip
    peppers = Peppers(*peppers_of(settings))
    known = TableCredentials(credentials, peppers)
    public = Public(RedisClientRateLimits(runner))
    standings = RedisStandings(runner, place_of, stream_time.of, stream_time.server_of)
    changes = RedisSubscriptionChanges(runner, place_of, stream_time.of, stream_time.server_of)
    arrivals = PolledArrivals(runner, place_of, known, clock)
    accept_message = AcceptMessage(
        RedisReservations(runner, place_of, limits, stream_time.of, stream_time.lag_s, stream_time.server_of),
        KafkaMessageLog(events, place_of, traces.tracer), clock, ids,
    )  # fmt: skip
    surface = Surface(
        bearer=Bearer(known, RedisRateLimits(runner, place_of, limits), clock),
        ingest=Ingest(accept_message, AcceptPaid(accept_message, arrivals, LoggedPaymentResults(payment_sender)), checkout),
        open_hook=OpenHook(TableHooks(endpoints, credentials, peppers, _cipher_keys(settings.hook_secret_cipher_key)), clock),
        configure_webhook=ConfigureWebhook(
            webhook_configs,
            CipherSeal(_cipher_keys(settings.webhook_secret_cipher_key), random_bytes),
            clock,
            ids,
        ),
        send_test_event=SendTestEvent(
            webhook_configs, KafkaDeliveryCommands(orders, place_of, partial(Ends, kafka, EVENTS.name), traces.tracer), clock, ids
        ),
        accounts=Accounts(
            public, standings, ChangeSubscription(standings, changes, sender, clock), catalog, x402=checkout.terms is not None
        ),
        paid=Paid(public, checkout, standings, arrivals, catalog),
        replay=replay,
        readiness=lambda: readiness_of(components),
        metrics=metrics,
        random_bits=random_bits,
        cors_origins=settings.cors_origins,
        allow_private_targets=settings.allow_private_targets,
        max_in_flight=settings.max_in_flight,
        public_url=settings.public_url,
        signing_roots=_cipher_keys(settings.webhook_signing_key),
        tracer=traces.tracer,
    )
    server = HttpServer(
        create_app(surface), host=settings.host, port=settings.port, drain_timeout_s=settings.drain_timeout_s, farewell_s=FAREWELL_S,
        trusted_proxies=settings.trusted_proxies,
    )  # fmt: skip
    components.append(server)
    return components


def main() -> None:
    """Run the gateway until it is told to stop."""
    sys.exit(run_service(SERVICE, GatewaySettings, build))


def _cipher_keys(secret: SecretStr | None) -> Sequence[bytes]:
    return () if secret is None else parse_cipher_keys(secret.get_secret_value())


if __name__ == "__main__":
    main()
