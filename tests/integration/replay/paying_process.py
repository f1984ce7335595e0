"""Replay's paid pages as a process of its own: `paying_process.py <team> <api key> <events topic> <partitions> <chdb folder> [<fault>]`.

Kafka, Redis and the usage log are real; the archive holds EVENTS events of the team, the same in every process. Prints `port <number>` when
it is ready. A fault kills the process as SIGKILL does: `after-reserve` before the usage is handed to the log, `after-publish` once it is
durable and before the page is answered.
"""

import asyncio
import os
import signal
import sys
from typing import Any, Final

from redis.asyncio import Redis

from kite_common.auth import Peppers
from kite_common.events.credentials import CredentialIssued
from kite_common.ids import uuid7
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.http import HttpServer, operations_routes
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.system import SystemClock, random_bits, random_bytes
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.testing import make, payments
from kite_common.testing.eventually import eventually
from kite_replay.adapters.allowances import RedisAllowances
from kite_replay.adapters.clickhouse.address import InProcess
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.adapters.credentials import TableCredentials
from kite_replay.adapters.http.app import create_app, served
from kite_replay.adapters.http.deliveries import DeliveriesRoutes
from kite_replay.adapters.http.events import EventsRoute
from kite_replay.adapters.http.ledger import LedgerRoute
from kite_replay.adapters.page_charges import RedisPageCharges
from kite_replay.adapters.till import PaymentDesk
from kite_replay.adapters.usage_log import KafkaUsageLog
from kite_replay.application.charge_page import ChargePage
from kite_replay.application.read_events import ReadEvents
from kite_replay.application.read_ledger import ReadLedger
from kite_replay.application.serve_page import ServePage
from kite_replay.domain.charge import PageUsage, Reserved
from kite_replay.domain.retention import Retention
from kite_replay.domain.rows import EVENTS_TABLE
from kite_replay.testing import batch, event_rows

EVENTS: Final = 5


class Issued(dict[str, CredentialIssued]):
    """The one key there is."""

    def readiness(self) -> Readiness:
        return READY


class FaultyLog:
    """A usage log whose process dies where the fault says."""

    def __init__(self, inner: KafkaUsageLog, fault: str) -> None:
        self._inner, self._fault = inner, fault

    async def append(self, usage: PageUsage, reserved: Reserved) -> None:
        if self._fault == "after-reserve":
            os.kill(os.getpid(), signal.SIGKILL)
        await self._inner.append(usage, reserved)
        if self._fault == "after-publish":
            os.kill(os.getpid(), signal.SIGKILL)


async def main(team: str, key: str, topic: str, partitions: int, folder: str, fault: str = "") -> None:
    clock, metrics = SystemClock(), Metrics()
    redis = Redis.from_url(os.environ["KITE_REDIS_URL"], socket_timeout=5)
    archive = ClickHouseArchive(InProcess(folder), kept_days=3650)
    await archive.append(EVENTS_TABLE, [batch(event_rows(team, range(EVENTS), at_ms=clock.unix_ms()))])
    publisher = Publisher(Kafka(os.environ["KITE_KAFKA_BOOTSTRAP"]), topic, partitions)
    issued = make.credential(key, team_id=team)
    credentials = TableCredentials(Issued({issued.key: issued}), Peppers(make.PEPPER))
    allowances = RedisAllowances(redis, partitions, team_rate_limit=None, rate_unsubscribed=None)
    log = FaultyLog(KafkaUsageLog(publisher, partitions), fault)
    charge = ChargePage(RedisPageCharges(redis, partitions), log, clock, lambda unix_ms: uuid7(unix_ms, random_bits(74)))
    # Nobody shows a payment here, so nothing is ever submitted.
    desk = PaymentDesk(payments.terms(), None, clock, random_bytes)  # type: ignore[arg-type]
    events = EventsRoute(credentials, allowances, ServePage(ReadEvents(archive, Retention(90), clock), charge), desk.till_of, clock)
    # Nobody asks for deliveries either.
    unused: Any = None
    app = create_app(
        events, LedgerRoute(credentials, allowances, ReadLedger(archive), clock),
        DeliveriesRoutes(unused, unused, unused, unused, unused), operations_routes(lambda: [], metrics),
    )  # fmt: skip
    server = HttpServer(served(app, new_request_id=lambda: "id", cors_origins=()), host="127.0.0.1", port=0)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publisher.run(stop))
        tasks.create_task(server.run(stop))
        await eventually(lambda: publisher.readiness().ready and server.readiness().ready, within_s=30, what="the process is ready")
        sys.stdout.write(f"port {server.port}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), *sys.argv[5:]))
