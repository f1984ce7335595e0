"""Serving pages: what is included, what the wallet pays, what is asked for, and what a payment has bought. Over fakes of the ports."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.errors import ApiError, OutcomeOpen, Unavailable
from kite_common.ids import EventId, TeamId, uuid7
from kite_replay.adapters.http.answers import answered
from kite_replay.application.charge_page import ChargePage
from kite_replay.application.ports import Paid
from kite_replay.application.read_events import ReadEvents, ReadRequest, cursor_of
from kite_replay.application.serve_page import Served, ServePage
from kite_replay.domain import cursor as cursors
from kite_replay.domain.allowance import Allowance
from kite_replay.domain.paid import Due, NotNeeded, NotSold, PaidRange, Priced
from kite_replay.domain.price import Tariff
from kite_replay.domain.query import EventQuery, Found
from kite_replay.domain.retention import Retention
from kite_replay.domain.rows import EVENTS_TABLE
from kite_replay.testing import NOW_MS, FakeWallet, MemoryArchive, MemoryUsageLog, batch, event_rows

TEAM = TeamId("team_a")


@dataclass
class ScriptedTill:
    """A Till that answers payments as the test says, and remembers what it was asked."""

    shows_payment: bool = False
    quoted: Priced | None = None
    answer: Paid | ApiError | None = None
    asked: list[Due] = field(default_factory=list)

    def payment_required(self, priced: Priced) -> ApiError:
        self.asked.append(priced)
        return ApiError("payment_required")

    async def pay(self, due: Due) -> Paid | None:
        self.asked.append(due)
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer


@dataclass
class Shop:
    """Everything behind the route, with one team that has `count` events."""

    archive: MemoryArchive = field(default_factory=MemoryArchive)
    wallet: FakeWallet = field(default_factory=FakeWallet)
    log: MemoryUsageLog = field(default_factory=MemoryUsageLog)
    clock: FrozenClock = field(default_factory=lambda: FrozenClock(from_unix_ms(NOW_MS)))
    till: ScriptedTill = field(default_factory=ScriptedTill)
    drawn: int = 0

    async def fill(self, count: int) -> None:
        if count:
            await self.archive.append(EVENTS_TABLE, [batch(event_rows(TEAM, range(count)))])

    async def get(self, tariff: Tariff | None, since: str | None = None, limit: int = 100, scopes: tuple[str, ...] = ("*",)) -> Served:
        request = ReadRequest(TEAM, None if since is None else cursors.parse(since), since, limit, scopes)
        serve = ServePage(ReadEvents(self.archive, Retention(90), self.clock), ChargePage(self.wallet, self.log, self.clock, self._draw))
        return await serve(request, Allowance(None, tariff), self.till)

    def tariff(self) -> Tariff:
        return Tariff(self.wallet.row_atomic, self.wallet.available)

    def _draw(self, unix_ms: int) -> Any:
        self.drawn += 1
        return uuid7(unix_ms, self.drawn)


async def shop_of(count: int, **given: Any) -> Shop:
    shop = Shop(**given)
    await shop.fill(count)
    return shop


def range_of(shop: Shop, first: int, count: int) -> PaidRange:
    last = event_rows(TEAM, range(first, first + count))[-1]
    return PaidRange(cursors.Cursor(last.created_at, EventId(last.event_id)), count)


async def test_an_included_page_charges_nothing() -> None:
    shop = await shop_of(3)
    served = await shop.get(Tariff())
    assert (len(served.page.rows), served.amount_charged_atomic, shop.log.appended, shop.wallet.held) == (3, 0, [], {})


async def test_a_page_from_the_wallet_is_logged_before_it_is_answered_and_charged_at_each_reading() -> None:
    shop = await shop_of(3)
    for reading in (1, 2):
        served = await shop.get(shop.tariff(), limit=2)
        assert (len(served.page.rows), served.amount_charged_atomic) == (2, 20)
        assert [(usage.rows, reserved.amount_atomic) for usage, reserved in shop.log.appended] == [(2, 20)] * reading
    assert shop.wallet.available == 1_000 - 40
    assert len({usage.usage_id for usage, _ in shop.log.appended}) == 2


async def test_an_empty_page_is_free_also_for_an_empty_wallet() -> None:
    shop = await shop_of(0, wallet=FakeWallet(balance=0))
    assert (await shop.get(shop.tariff())).amount_charged_atomic == 0


async def test_a_wallet_that_is_too_low_is_asked_for_exactly_this_page() -> None:
    shop = await shop_of(5, wallet=FakeWallet(balance=29))
    with pytest.raises(ApiError, match="payment_required"):
        await shop.get(shop.tariff(), limit=3)
    assert shop.till.asked == [Priced(range_of(shop, 0, 3), 30)]
    assert (shop.log.appended, shop.wallet.held) == ([], {})


async def test_a_wallet_that_others_emptied_meanwhile_is_asked_too_and_nothing_is_held() -> None:
    shop = await shop_of(3, wallet=FakeWallet(balance=10))
    with pytest.raises(ApiError, match="payment_required"):
        await shop.get(Tariff(10, 1_000))
    assert shop.till.asked == [Priced(range_of(shop, 0, 3), 30)]
    assert shop.wallet.held == {}


async def test_a_subscription_that_ended_or_became_flat_meanwhile_is_noticed() -> None:
    shop = await shop_of(3, wallet=FakeWallet(standing="no_subscription"))
    with pytest.raises(ApiError, match="no_active_subscription"):
        await shop.get(Tariff(10, 1_000))
    shop.wallet.standing = "clerk"
    assert (await shop.get(Tariff(10, 1_000))).amount_charged_atomic == 0
    assert shop.log.appended == []


async def test_without_a_tariff_nothing_is_read() -> None:
    with pytest.raises(ApiError, match="no_active_subscription"):
        await (await shop_of(3)).get(None, since="2020-01-01 00:00:00")


async def test_a_usage_that_surely_is_not_in_the_log_frees_its_money() -> None:
    shop = await shop_of(3, log=MemoryUsageLog(failing=[Unavailable("away")]))
    with pytest.raises(Unavailable):
        await shop.get(shop.tariff())
    assert (shop.wallet.available, shop.log.appended) == (1_000, [])


async def test_a_usage_that_may_be_in_the_log_keeps_its_money_held_for_billing() -> None:
    shop = await shop_of(3, log=MemoryUsageLog(failing=[OutcomeOpen("?")]))
    with pytest.raises(OutcomeOpen):
        await shop.get(shop.tariff())
    [(usage, _)] = shop.log.appended
    assert shop.wallet.held == {usage.usage_id: 30}


async def test_whoever_may_have_paid_a_page_is_not_told_that_repeating_is_safe() -> None:
    def failing(error: Exception) -> Callable[[Request, dict[str, str]], Awaitable[Response]]:
        async def answer(_request: Request, _limits: dict[str, str]) -> Response:
            raise error

        return answer

    request = Request({"type": "http"})
    told = [orjson.loads((await answered(request, failing(error))).body) for error in (OutcomeOpen("?"), Unavailable("away"))]
    assert [one["error"] for one in told] == ["service_unavailable"] * 2
    assert "charged again" in told[0]["message"]
    assert "is safe" in told[1]["message"]


async def test_a_caller_that_hangs_up_does_not_stop_the_release() -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryUsageLog):
        async def append(self, *given: Any) -> None:
            entered.set()
            await go_on.wait()
            raise Unavailable("away")

    shop = await shop_of(3, log=Slow())
    getting = asyncio.create_task(shop.get(shop.tariff()))
    await entered.wait()
    assert shop.wallet.available == 970
    getting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await getting
    go_on.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert shop.wallet.available == 1_000


@given(st.lists(st.tuples(st.sampled_from(["ok", "refused", "open", "settle"]), st.integers(1, 9)), max_size=30), st.integers(0, 300))
async def test_whatever_happens_the_wallet_is_never_overdrawn_and_what_is_logged_is_what_it_pays(
    steps: list[tuple[str, int]], balance: int
) -> None:
    shop = await shop_of(9, wallet=FakeWallet(balance=balance))
    settled = 0
    for step, rows in steps:
        if step == "settle":
            for usage, _ in shop.log.appended[settled:]:
                shop.wallet.settle(usage.usage_id)
            settled = len(shop.log.appended)
            continue
        shop.log.failing = [Unavailable("away")] if step == "refused" else [OutcomeOpen("?")] if step == "open" else []
        with contextlib.suppress(ApiError, Unavailable, OutcomeOpen):
            await shop.get(shop.tariff(), limit=rows)
        assert shop.wallet.available == balance - sum(reserved.amount_atomic for _, reserved in shop.log.appended) >= 0


async def test_a_payment_buys_the_page_as_it_is_and_is_told_of() -> None:
    shop = await shop_of(5, wallet=FakeWallet(balance=0))
    bought = range_of(shop, 0, 3)
    shop.till = ScriptedTill(shows_payment=True, answer=Paid(bought, 30, {"payment-response": "yes"}))
    served = await shop.get(shop.tariff(), limit=3)
    assert shop.till.asked == [Priced(bought, 30)]
    assert [row.kiteseq >> 10 for row in served.page.rows] == [0, 1, 2]
    assert (served.amount_charged_atomic, served.headers, served.page.has_more) == (30, {"payment-response": "yes"}, True)
    assert (shop.log.appended, shop.wallet.held) == ([], {})


async def test_the_same_payment_reads_the_same_range_also_when_more_has_come_and_the_subscription_has_gone() -> None:
    shop = await shop_of(3)
    bought = range_of(shop, 0, 3)
    shop.till = ScriptedTill(shows_payment=True, answer=Paid(bought, 30, {}))
    first = await shop.get(Tariff(10))
    await shop.archive.append(EVENTS_TABLE, [batch(event_rows(TEAM, [3, 4, 5]))])
    for tariff in (Tariff(10), Tariff(), Tariff(10, 10_000), None):
        again = await shop.get(tariff)
        assert (again.page.rows, again.page.next_cursor) == (first.page.rows, first.page.next_cursor)
        assert again.page.has_more
    assert [type(due) for due in shop.till.asked] == [Priced, Priced, NotNeeded, NotNeeded, NotSold]
    assert shop.log.appended == []


async def test_a_quote_fixes_range_and_amount_while_the_page_grows_and_prices_move() -> None:
    shop = await shop_of(3)
    quoted = Priced(range_of(shop, 0, 3), 30)
    await shop.archive.append(EVENTS_TABLE, [batch(event_rows(TEAM, [3, 4, 5]))])
    shop.till = ScriptedTill(shows_payment=True, quoted=quoted, answer=ApiError("settlement_pending"))
    with pytest.raises(ApiError, match="settlement_pending"):
        await shop.get(Tariff(11))
    assert shop.till.asked == [quoted]


async def test_a_payment_nobody_needs_is_left_and_the_wallet_pays() -> None:
    shop = await shop_of(3)
    shop.till = ScriptedTill(shows_payment=True)
    served = await shop.get(shop.tariff())
    assert shop.till.asked == [NotNeeded()]
    assert (served.amount_charged_atomic, served.headers) == (30, {})


@pytest.mark.parametrize(
    ("tariff", "since", "code"),
    [
        (None, None, "no_active_subscription"),
        (Tariff(10), "2020-01-01 00:00:00", "cursor_expired"),
        (Tariff(10), "2026-05-01 12:00:00:01900000-0000-7000-8000-000000000001", "invalid_cursor"),
    ],
)
async def test_what_no_payment_changes_goes_along_with_the_payment(tariff: Tariff | None, since: str | None, code: str) -> None:
    shop = await shop_of(3)
    shop.till = ScriptedTill(shows_payment=True, answer=ApiError("settlement_pending"))
    with pytest.raises(ApiError, match="settlement_pending"):
        await shop.get(tariff, since)
    [due] = shop.till.asked
    assert isinstance(due, NotSold)
    assert due.error.code == code


async def test_no_payment_is_handed_in_while_the_archive_is_away() -> None:
    class Away(MemoryArchive):
        async def find(self, query: EventQuery) -> Found:
            raise Unavailable("away")

    shop = await shop_of(0, archive=Away(), till=ScriptedTill(shows_payment=True))
    with pytest.raises(ApiError, match="replay_unavailable"):
        await shop.get(Tariff(10))
    assert shop.till.asked == []


async def test_an_archive_that_goes_away_after_the_payment_still_tells_that_the_money_has_arrived() -> None:
    shop = await shop_of(3)
    bought = PaidRange(cursors.Cursor(NOW_MS, uuid7(NOW_MS, 77)), 3)
    shop.till = ScriptedTill(shows_payment=True, answer=Paid(bought, 30, {"payment-response": "yes"}))
    with pytest.raises(ApiError, match="cursor_expired") as caught:
        await shop.get(Tariff(10))
    assert caught.value.headers["payment-response"] == "yes"
    assert "oldest_cursor" in caught.value.extra


async def test_a_bought_range_is_whole_also_where_the_archive_stops_early() -> None:
    class Cutting(MemoryArchive):
        async def find(self, query: EventQuery) -> Found:
            found = await super().find(query)
            return Found(found.rows[:2], cut=len(found.rows) > 2)

    shop = await shop_of(9, archive=Cutting())
    shop.till = ScriptedTill(shows_payment=True, answer=Paid(range_of(shop, 0, 7), 70, {}))
    served = await shop.get(Tariff(10))
    assert [row.kiteseq >> 10 for row in served.page.rows] == list(range(7))
    assert served.page.has_more


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 12))
async def test_a_range_is_the_same_rows_whatever_comes_after_it(count: int, limit: int, later: int) -> None:
    shop = await shop_of(count)
    read, request = ReadEvents(shop.archive, Retention(90), shop.clock), ReadRequest(TEAM, None, None, limit, ("*",))
    page = await read(request)
    bought = PaidRange(cursor_of(page.rows[-1]), len(page.rows))
    if later:
        await shop.archive.append(EVENTS_TABLE, [batch(event_rows(TEAM, range(count, count + later)))])
    again = await ReadEvents(shop.archive, Retention(90), shop.clock).exactly(request, bought)
    assert (again.rows, again.next_cursor) == (page.rows, page.next_cursor)
    assert again.has_more == (count + later > len(page.rows))


async def test_a_key_that_sees_more_gets_no_more_rows_for_a_payment_than_were_bought() -> None:
    shop = await shop_of(6)
    read = ReadEvents(shop.archive, Retention(90), shop.clock)
    bought = PaidRange(range_of(shop, 0, 5).end, 2)  # two rows for the key that paid
    page = await read.exactly(ReadRequest(TEAM, None, None, 100, ("*",)), bought)
    assert (len(page.rows), page.has_more) == (2, True)
