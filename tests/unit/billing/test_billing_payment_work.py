"""The work of an owner goes on whatever its chain says: scanning, comparing blocks, timekeeping."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import structlog

from kite_billing.adapters.chain import RpcChain
from kite_billing.adapters.facilitator import HttpFacilitator
from kite_billing.adapters.fitness import Fitness
from kite_billing.adapters.payment_work import PaymentWork, WorkParts
from kite_billing.application.ports import ChainUnreadable
from kite_billing.application.scan_chain import Scanner
from kite_billing.application.settle_payment import Desk, Shared
from kite_billing.domain.payments.evidence import Block, Log
from kite_billing.domain.payments.facts import Due, HashChanged, NoAnswer, SettleAnswer, Unclear, VerifyAnswer
from kite_billing.domain.payments.scan import RANGE_BLOCKS, Scanned, narrower, wider
from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.events.payment_record import PaymentRecord, Place, ScanCursor
from kite_common.events.payments import PaymentOutcome
from kite_common.runtime.metrics import Metrics
from kite_common.stream.local import LocalFacts, LocalQueue
from kite_common.testing.eventually import eventually
from support.payments_world import NOW_MS, TERMS, WorldChain, rules, word

LOST = Place(transaction=word(1, "f"), block=1, block_hash=word(99, "b"), log_index=0)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Tracebacks of defects that were made on purpose are for nobody, and slow to draw."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


class Down:
    """A facilitator that is not there."""

    async def verify(self, record: PaymentRecord) -> VerifyAnswer:
        return NoAnswer("down")

    async def settle(self, record: PaymentRecord) -> SettleAnswer:
        return Unclear("down", "unsent")


async def tell(outcomes: Sequence[PaymentOutcome]) -> None:
    """Nobody listens."""


@dataclass
class Strange(WorldChain):
    """A node that gives answers nobody expected so many times, and takes ranges of at most `most` blocks."""

    failures: int = 0
    most: int = 1 << 40
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def head(self) -> Block:
        if self.failures > 0:
            self.failures -= 1
            raise IndexError("tuple index out of range")
        return await super().head()

    async def transfers_to(self, pay_to: str, first: int, last: int) -> Sequence[Log]:
        self.asked.append((first, last))
        if last - first + 1 > self.most:
            raise ChainUnreadable("eth_getLogs: refused")
        return await super().transfers_to(pay_to, first, last)


class Owner:
    """Partition 0 while it is owned: what is scanned becomes the cursor, everything else is kept."""

    def __init__(self, chain: WorldChain, cursor: ScanCursor | None = None) -> None:
        self.metrics, self.facts, self.cursor = Metrics(), LocalFacts(), cursor
        self.desk = Desk(rules(), Shared(), lambda _: None)
        self.queue: LocalQueue = self.facts.open(0)
        self.reported: list[object] = []
        scanner = Scanner(chain, TERMS.asset, TERMS.pay_to, 1, 600, from_block=1)
        clock = FrozenClock(from_unix_ms(NOW_MS))
        self.work = PaymentWork(
            WorkParts(Down(), chain, scanner, tell, clock, self.metrics), rules(), Shared(fit=True, chain_fit=True), self.facts,
            watch_s=lambda: 0.01, rest_s=0.01,
        )  # fmt: skip

    def take(self) -> None:
        for fact in self.queue.take(1_000):
            if isinstance(fact, Scanned):
                self.cursor = fact.cursor
            else:
                self.reported.append(fact)

    def scanned_to(self, block: int) -> bool:
        self.take()
        return self.cursor is not None and self.cursor.block == block

    def alerts(self, kind: str) -> float:
        return self.metrics.value("kite_x402_alerts_total", kind=kind)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        self.work.owns(0, self.desk, lambda _: self.cursor)
        try:
            yield
        finally:
            self.work.releases(0)
            await asyncio.sleep(0)


async def test_scanning_goes_on_after_an_answer_nobody_expected() -> None:
    chain = Strange(failures=2)
    owner = Owner(chain)
    async with owner.at_work():
        await eventually(lambda: owner.scanned_to(2), what="the newest block is scanned")
    assert owner.alerts("scan_failed") + owner.alerts("watch_failed") == 2


async def test_who_gave_the_scan_away_no_longer_tells_how_late_it_is() -> None:
    chain, stop = Strange(failures=1 << 30), asyncio.Event()
    owner = Owner(chain)
    async with owner.at_work():
        running = asyncio.create_task(owner.work.run(stop))
        await eventually(lambda: owner.metrics.value("kite_x402_scan_age_seconds") > 0, what="the age is told")
        owner.metrics.gauge("kite_x402_scan_lag_blocks").set(7)
        owner.work.releases(0)
        assert owner.metrics.value("kite_x402_scan_age_seconds") == 0
        assert owner.metrics.value("kite_x402_scan_lag_blocks") == 0
        stop.set()
        await running
    assert owner.metrics.value("kite_x402_scan_age_seconds") == 0


async def test_blocks_are_compared_again_after_an_answer_nobody_expected() -> None:
    chain = Strange(failures=6)
    owner = Owner(chain)
    owner.desk.watched["a"] = LOST

    def told() -> bool:
        owner.take()
        return HashChanged("a") in owner.reported

    async with owner.at_work():
        await eventually(told, what="the block of another fork is told")
    assert owner.alerts("watch_failed") > 0


class Stumbling(Desk):
    """A desk with a defect that shows once, and a key whose time has come."""

    stumbled = False

    def due(self, now: int) -> list[Due]:
        if not self.stumbled:
            self.stumbled = True
            raise ValueError("a defect")
        return [Due("a")]


async def test_keys_are_woken_again_after_a_defect() -> None:
    owner = Owner(WorldChain())
    owner.desk = Stumbling(rules(), Shared(), lambda _: None)

    def woken() -> bool:
        owner.take()
        return Due("a") in owner.reported

    async with owner.at_work():
        await eventually(woken, what="a key is woken")
    assert owner.alerts("time_failed") == 1


async def test_checks_of_chain_and_facilitator_go_on_after_a_defect_and_tell_that_nothing_is_fit() -> None:
    metrics, stop = Metrics(), asyncio.Event()

    def broken() -> ScanCursor | None:
        raise ValueError("a defect")

    nobody = "http://127.0.0.1:1"
    facilitator = HttpFacilitator(nobody, None, verify_timeout_s=1, settle_timeout_s=1)
    checks = Fitness(RpcChain(nobody, TERMS.asset.address), facilitator, TERMS.asset, Shared(), broken, metrics)
    running = asyncio.create_task(checks.run(stop))
    await eventually(lambda: metrics.value("kite_x402_alerts_total", kind="check_failed") > 1, what="it is checked again")
    stop.set()
    await running
    assert b"\nkite_x402_fit 0.0\n" in metrics.exposition().body


def credited(number: int, place: Place) -> PaymentRecord:
    key = f"{TERMS.asset.network}|{TERMS.asset.address}|0x{'77' * 20}|{word(number, 'a')}"
    return PaymentRecord(payment_key=key, state="credited", payer="0x" + "77" * 20, value="1", place=place, credited_to="team")


@pytest.mark.parametrize(("log_index", "alerts"), [(0, 1), (1, 0)], ids=["same log", "another log"])
async def test_a_second_key_that_stands_for_the_same_transfer_is_an_alert_once(log_index: int, alerts: int) -> None:
    owner, stop = Owner(WorldChain()), asyncio.Event()
    places = (LOST, LOST.model_copy(update={"log_index": log_index}))
    owner.desk.open([credited(number, place) for number, place in enumerate(places)], NOW_MS)
    async with owner.at_work():
        running = asyncio.create_task(owner.work.run(stop))
        await eventually(lambda: owner.metrics.value("kite_x402_payments", state="credited") == 2, what="the gauges are there")
        stop.set()
        await running
    assert owner.alerts("transfer_credited_twice") == alerts


async def test_a_node_that_refuses_long_ranges_is_asked_for_shorter_ones_and_then_for_longer_ones_again() -> None:
    chain = Strange(most=7)
    for _ in range(40):
        chain.mine([])
    owner = Owner(chain)
    async with owner.at_work():
        await eventually(lambda: owner.scanned_to(42), what="everything is scanned")
    answered = [last - first + 1 for first, last in chain.asked if last - first + 1 <= chain.most]
    assert sum(answered) == 42
    assert max(answered) > 1


def test_ranges_grow_to_the_longest_and_never_become_empty() -> None:
    assert (narrower(RANGE_BLOCKS), narrower(1), wider(1), wider(RANGE_BLOCKS)) == (RANGE_BLOCKS // 2, 1, 2, RANGE_BLOCKS)
