"""Replay's served app with one team, over a real archive and a real Redis, and what a test changes about it."""

import asyncio
from typing import Any, Final

import httpx
from redis.asyncio import Redis

from kite_common.auth import Peppers
from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.events.credentials import CredentialIssued
from kite_common.ids import TeamId, uuid7
from kite_common.projection import keys
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.http import operations_routes
from kite_common.runtime.observe import Metrics
from kite_common.runtime.system import random_bits
from kite_common.testing import make
from kite_gateway.testing import vouch
from kite_replay.adapters.allowances import RedisAllowances
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from kite_replay.adapters.clickhouse.deliveries import ClickHouseDeliveries
from kite_replay.adapters.credentials import TableCredentials
from kite_replay.adapters.http.app import create_app, served
from kite_replay.adapters.http.deliveries import DeliveriesRoutes
from kite_replay.adapters.http.events import EventsRoute
from kite_replay.adapters.http.ledger import LedgerRoute
from kite_replay.adapters.page_charges import RedisPageCharges
from kite_replay.adapters.till import ClosedTill, PaymentDesk
from kite_replay.application.charge_page import ChargePage
from kite_replay.application.read_deliveries import ReadDeliveries
from kite_replay.application.read_events import ReadEvents
from kite_replay.application.read_ledger import ReadLedger
from kite_replay.application.redrive_deliveries import RedriveDeliveries
from kite_replay.application.serve_page import ServePage
from kite_replay.domain.retention import Retention
from kite_replay.domain.rows import EVENTS_TABLE, LEDGER_TABLE, to_rows
from kite_replay.testing import NOW_MS, HeldConfigs, MemoryOrders, MemoryUsageLog, batch, event_record, ledger_rows


class Issued(dict[str, CredentialIssued]):
    """The followed topic of credentials."""

    ready = True

    def readiness(self) -> Readiness:
        return READY if self.ready else Readiness(ready=False, reason="reading")


PARTITIONS: Final = 8


class Api:
    """The served app with one team, and what a test changes about it."""

    def __init__(
        self, archive: ClickHouseArchive, redis: Redis, team: str, partition: int, origins: tuple[str, ...] = (),
        *, desk: PaymentDesk | None = None, fallback_atomic: int | None = None,
    ) -> None:  # fmt: skip
        self.archive, self.redis, self.team, self.partition = archive, redis, team, partition
        self.clock = FrozenClock(from_unix_ms(NOW_MS))
        self.issued = Issued()
        self.key = self.issue("a1b2c3d4")
        allowances = RedisAllowances(
            redis, PARTITIONS, team_rate_limit=None, rate_unsubscribed=60, fallback_atomic=fallback_atomic
        )  # fmt: skip
        self.log, credentials = MemoryUsageLog(), TableCredentials(self.issued, Peppers(make.PEPPER))
        charge = ChargePage(RedisPageCharges(redis, PARTITIONS), self.log, self.clock, lambda unix_ms: uuid7(unix_ms, random_bits(74)))
        serve = ServePage(ReadEvents(archive, Retention(90), self.clock), charge)
        events = EventsRoute(credentials, allowances, serve, desk.till_of if desk else lambda _request, _wanted: ClosedTill(), self.clock)
        ledger = LedgerRoute(credentials, allowances, ReadLedger(archive), self.clock)
        log, self.orders, self.webhooks = ClickHouseDeliveries(archive), MemoryOrders(), HeldConfigs({TeamId(team): make.CONFIG_ID})
        read = ReadDeliveries(log)
        redrive = RedriveDeliveries(read, log, self.webhooks, self.orders, Retention(90), self.clock, asyncio.Lock())
        deliveries = DeliveriesRoutes(credentials, allowances, read, redrive, self.clock)
        app = create_app(events, ledger, deliveries, operations_routes(lambda: [], Metrics()))
        asgi = served(app, new_request_id=lambda: "fresh-id", cors_origins=origins)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://replay")

    def issue(self, prefix: str, **given: Any) -> str:
        text = f"kite_{prefix}_{'0' * 32}"
        self.hold(make.credential(text, team_id=self.team, **given))
        return text

    def hold(self, credential: CredentialIssued) -> None:
        self.issued[credential.key] = credential

    async def project(self, **fields: Any) -> None:
        account: dict[Any, Any] = {"status": "active", "rate_per_min": 0} | fields
        await self.redis.hset(keys.account(TeamId(self.team)), mapping=account)
        await vouch(self.redis, PARTITIONS)

    async def store(self, *offsets: int, at_ms: int = NOW_MS, **given: Any) -> None:
        records = [event_record(offset, partition=self.partition, team=self.team, at_ms=at_ms, **given) for offset in offsets]
        rows, _ = to_rows(EVENTS_TABLE, records, 0)
        await self.archive.append(EVENTS_TABLE, [batch(rows)])

    async def get(self, query: str = "", key: str | None = None, **headers: str) -> httpx.Response:
        authorization = {"authorization": f"Bearer {key or self.key}"}
        return await self.client.get(f"/api/v1/events?team_id={self.team}{query}", headers=authorization | headers)

    async def call(self, method: str, path: str, query: str = "", key: str | None = None) -> httpx.Response:
        """Another route of replay."""
        return await self.client.request(
            method, f"{path}?team_id={self.team}{query}", headers={"authorization": f"Bearer {key or self.key}"}
        )

    async def ledger(self, query: str = "") -> httpx.Response:
        return await self.client.get(f"/api/v1/ledger?team_id={self.team}{query}", headers={"authorization": f"Bearer {self.key}"})

    async def enter(self, *amounts: int, first: int = 0) -> None:
        """Store ledger entries of these amounts."""
        rows = ledger_rows(self.team, amounts, partition=self.partition, first=first)
        await self.archive.append(LEDGER_TABLE, [batch(rows, LEDGER_TABLE)])

    async def held(self) -> tuple[int, int]:
        """Pages that are reserved, and the total of all that is."""
        team_id = TeamId(self.team)
        return await self.redis.zcard(keys.replays(team_id)), int(await self.redis.hget(keys.reserved(team_id), "total") or 0)


def refused(response: httpx.Response, status: int, code: str) -> bool:
    body = response.json()
    return response.status_code == status and body["error"] == code and bool(body["message"])
