"""Replay's answers among the examples of the OpenAPI document: its app over fakes, one team with two events, at NOW_MS. No network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.events.ledger import LedgerEntry, PaymentReference
from kite_common.ids import TeamId, uuid7
from kite_common.testing import make, payments
from kite_replay.adapters.http.app import create_app, served
from kite_replay.adapters.http.events import EventsRoute
from kite_replay.adapters.http.ledger import LedgerRoute
from kite_replay.adapters.till import PaymentDesk
from kite_replay.application.charge_page import ChargePage
from kite_replay.application.read_events import ReadEvents
from kite_replay.application.read_ledger import ReadLedger
from kite_replay.application.serve_page import ServePage
from kite_replay.domain.access import Principal
from kite_replay.domain.allowance import Allowance, RateLimit
from kite_replay.domain.price import Tariff
from kite_replay.domain.retention import Retention
from kite_replay.domain.rows import EVENTS_TABLE, LEDGER_TABLE, LedgerRow, to_rows
from kite_replay.testing import FakeWallet, MemoryArchive, MemoryUsageLog, ReadRecord, batch, event_record
from support.paid_gateway import OneCreditEach, decoded
from support.paid_routes import FakePayments

TEAM: Final = TeamId(make.TEAM)
EVENTS, LEDGER = f"/api/v1/events?team_id={TEAM}", f"/api/v1/ledger?team_id={TEAM}"
KEY: Final = {"Authorization": "Bearer reader"}
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class Readers:
    """Credentials with one key."""

    def identify(self, key_text: str, now_ms: int) -> Principal | None:  # noqa: ARG002 - the port's signature
        return Principal(TEAM, ("read",), ("*",)) if key_text == "reader" else None


@dataclass
class Prices:
    """Allowances of a team whose wallet pays 10 a row, from what FakeWallet has."""

    wallet: FakeWallet

    async def take(self, team_id: TeamId) -> Allowance:  # noqa: ARG002 - the port's signature
        return Allowance(RateLimit(300, 299, 1), Tariff(self.wallet.row_atomic, self.wallet.available))


@dataclass
class Replay:
    """The app over an archive in memory; `wallet` and `payments` are what a request meets."""

    wallet: FakeWallet = field(default_factory=FakeWallet)
    payments: FakePayments = field(default_factory=lambda: FakePayments(OneCreditEach(payments.terms())))

    def __post_init__(self) -> None:
        clock, archive, prices = FrozenClock(from_unix_ms(make.NOW_MS)), MemoryArchive(), Prices(self.wallet)
        charge = ChargePage(self.wallet, MemoryUsageLog(), clock, lambda unix_ms: uuid7(unix_ms, 7))
        desk = PaymentDesk(payments.terms(), self.payments, clock, lambda count: bytes(range(count)))
        events = EventsRoute(Readers(), prices, ServePage(ReadEvents(archive, Retention(90), clock), charge), desk.till_of, clock)
        ledger = LedgerRoute(Readers(), prices, ReadLedger(archive), clock)
        self.archive = archive
        self.app = served(create_app(events, ledger, ()), new_request_id=lambda: "fresh-id", cors_origins=())

    async def get(self, url: str, headers: Mapping[str, str] = KEY) -> httpx.Response:
        """One request, to an archive that has the team's events and entries."""
        await self._fill()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://replay") as client:
            return await client.get(url, headers=dict(headers))

    async def _fill(self) -> None:
        records = [_event(offset) for offset in (11, 12)]
        await self.archive.append(EVENTS_TABLE, [batch(to_rows(EVENTS_TABLE, records, 0)[0])])
        await self.archive.append(LEDGER_TABLE, [batch([_row(number, entry) for number, entry in enumerate(_entries())], LEDGER_TABLE)])


async def answers() -> dict[str, Any]:
    """Replay's part of the operations in `openapi_examples.json`."""
    poor, paid_for = Replay(FakeWallet(balance=5)), EVENTS + "&limit=2"
    offer = await poor.get(paid_for)
    quote = decoded(offer.headers["payment-required"])["accepts"][0]["extra"]["quoteId"]
    payment = payments.header(value="20", quote_id=quote)
    wrong = payments.header(value="21", quote_id=quote, nonce="0x" + "2b" * 32)
    paid = await poor.get(paid_for, {**KEY, "x-payment": payment})
    return {
        "GET /api/v1/events": _shown(
            taken_from_the_wallet=await Replay().get(paid_for), paid=paid, payment_required=offer,
            invalid_payment=await poor.get(paid_for, {**KEY, "x-payment": wrong}),
            invalid_cursor=await Replay().get(EVENTS + "&since=yesterday"), invalid_limit=await Replay().get(EVENTS + "&limit=all"),
            invalid_filter=await Replay().get(EVENTS + "&type=com.*.push"),
            cursor_expired=await Replay().get(EVENTS + "&since=2025-01-01T00:00:00Z"), unauthorized=await Replay().get(EVENTS, {}),
            invalid_payment_header=await poor.get(paid_for, {**KEY, "x-payment": "e30="}),
        ),
        "GET /api/v1/ledger": _shown(newest_first=await Replay().get(LEDGER), invalid_cursor=await Replay().get(LEDGER + "&cursor=x")),
    }  # fmt: skip


def _shown(**answered: httpx.Response) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, answer in answered.items():
        told.setdefault(str(answer.status_code), {})[name] = answer.json()
    return {"requests": {}, "answers": told}


def _event(offset: int) -> ReadRecord:
    return event_record(offset, at_ms=make.NOW_MS - _DAY_MS, body=f"message {offset}")


def _entries() -> list[LedgerEntry]:
    paid = PaymentReference(
        network="eip155:84532", asset=payments.USDC.checksum, payer=payments.address(payments.payer()), transaction=payments.TRANSACTION
    )
    deposit = make.ledger_entry(
        id="9f0c2d1e-6b7a-5c4d-8e3f-102938475665", entry="credit", reason="deposit", contra="deposits", amount_atomic=1_000_000,
        balance_after_atomic=1_000_000, event_id=None, quantity=0, payment=paid,
    )  # fmt: skip
    return [deposit, make.ledger_entry()]


def _row(number: int, entry: LedgerEntry) -> LedgerRow:
    at_ms = make.NOW_MS - _DAY_MS + number
    return LedgerRow(TEAM, at_ms, 0, 2 * number, entry.id, entry.amount_atomic, entry.event_id or "", entry.to_json())
