"""Does what payments order, for one process: calls of the facilitator, looks at the chain, outcomes, time, scanning, watching. No rules.

Everything that comes back goes into the queue of its partition. What is done for a partition ends with its ownership; a settle call that is
on its way then is harmless: the next owner finds the record settling, and asks the chain.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from kite_billing.adapters.payment_faults import (
    LOOK_ENDED,
    OUTCOME_TOLD,
    SCAN_ENDED,
    SETTLE_BEFORE,
    SETTLE_ENDED,
    VERIFY_BEFORE,
    VERIFY_ENDED,
)
from kite_billing.application.compare_blocks import compared
from kite_billing.application.ports import Chain, ChainUnreadable, Facilitator
from kite_billing.application.prove_payment import LOG_MISSING, prove
from kite_billing.application.scan_chain import Scanner
from kite_billing.application.settle_payment import Desk, Shared
from kite_billing.domain.payments.facts import (
    Effect,
    Evidence,
    EvidenceRead,
    Look,
    NoAnswer,
    Settle,
    SettleEnded,
    Unclear,
    Unreadable,
    Verified,
    Verify,
)
from kite_billing.domain.payments.rules import Rules
from kite_billing.domain.payments.scan import RANGE_BLOCKS, narrower, wider
from kite_common.clock import Clock
from kite_common.errors import Unavailable
from kite_common.events.payment_record import PaymentRecord, ScanCursor
from kite_common.events.payments import PaymentOutcome
from kite_common.runtime import faults
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.pulse import LATE_AFTER_S, Pulse
from kite_common.runtime.system import monotonic_s
from kite_common.stream.local import LocalFacts
from kite_common.x402.key import payment_id

log = get_logger("kite.payments")

_TICK_S: Final = 0.05
_SCAN_S: Final = 2.0
_TAKEN_S: Final = 5.0
_MEASURE_S: Final = 1.0
# A node is asked about so many keys at once; the rest wait their turn.
_LOOKS_AT_ONCE: Final = 32


class Tells(Protocol):
    """Where outcomes go: `kite_common.projection.payments.tell` with its client."""

    def __call__(self, outcomes: Sequence[PaymentOutcome]) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class WorkParts:
    """What the work is done with."""

    facilitator: Facilitator
    chain: Chain
    scanner: Scanner
    tell: Tells
    clock: Clock
    metrics: Metrics


@dataclass(slots=True)
class _Owned:
    desk: Desk
    cursor: Callable[[str], ScanCursor | None]
    tasks: set["asyncio.Task[None]"]


class PaymentWork:
    """Component and `kite_billing.adapters.payments.Works`. `watch_s`: how often blocks are compared for reorganisations; `rest_s`: the
    rest after a scan that found no more to read, and after whatever went wrong."""

    name = "payments"

    def __init__(
        self, parts: WorkParts, rules: Rules, shared: Shared, facts: LocalFacts, *, watch_s: Callable[[], float], rest_s: float = _SCAN_S
    ) -> None:
        self._parts, self._rules, self._shared, self._facts, self._watch_s = parts, rules, shared, facts, watch_s
        self._owned: dict[int, _Owned] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._looks = asyncio.Semaphore(_LOOKS_AT_ONCE)
        self._rest_s = rest_s
        self._range = RANGE_BLOCKS
        self._measured: set[str] = set()
        self._pulses: set[Pulse] = set()
        self._doubled: set[str] = set()

    def readiness(self) -> Readiness:
        """Ready while all its loops come round. Without chain or facilitator accounts go on, and payments are answered `not taken`."""
        late = next((late for pulse in self._pulses if (late := pulse.late) is not None), None)
        return READY if late is None else Readiness(ready=False, reason=late)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the gauges until stopped; then let what is being told be told."""
        measuring = asyncio.create_task(self._again_and_again("measure", self._measure, None), name="payments.measure")
        try:
            await stop.wait()
        finally:
            measuring.cancel()
            for partition in list(self._owned):
                self.releases(partition)
            if self._telling:
                await asyncio.wait(self._telling, timeout=_TAKEN_S)
            await asyncio.gather(measuring, return_exceptions=True)

    def cursor(self) -> ScanCursor | None:
        """The scan cursor, if this process owns it."""
        owned = self._owned.get(0)
        return None if owned is None else owned.cursor(self._parts.scanner.key)

    def owns(self, partition: int, desk: Desk, cursor: Callable[[str], ScanCursor | None]) -> None:
        """Begin to work for a partition."""
        self._owned[partition] = _Owned(desk, cursor, set())
        self._do(partition, self._again_and_again("time", lambda: self._keep_time(partition, desk), partition))
        self._do(partition, self._again_and_again("watch", lambda: self._watch(partition, desk), partition))
        if partition == 0:
            self._scanned_at = monotonic_s()
            self._compare_genesis(cursor(self._parts.scanner.key))
            self._do(partition, self._again_and_again("scan", lambda: self._scan(partition, cursor), partition))

    def begin(self, partition: int, effect: Effect, record: PaymentRecord) -> None:
        """Do one thing that was ordered."""
        match effect:
            case Verify(key):
                self._do(partition, self._verify(partition, key, record))
            case Settle(key):
                self._do(partition, self._settle(partition, key, record))
            case Look():
                self._do(partition, self._look(partition, effect))

    def tell(self, outcomes: Sequence[PaymentOutcome]) -> None:
        """Tell callers, also if the partition is given away meanwhile: what happened stays what it is."""
        task = asyncio.create_task(self._tell(outcomes), name="payments.tell")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def releases(self, partition: int) -> None:
        """Drop everything that is being done for a partition."""
        owned = self._owned.pop(partition, None)
        for task in owned.tasks if owned is not None else ():
            task.cancel()
        if partition == 0 and owned is not None:
            # Another process scans now, and tells how late that is.
            for name in ("kite_x402_scan_age_seconds", "kite_x402_scan_lag_blocks"):
                self._parts.metrics.gauge(name).set(0)

    def _do(self, partition: int, work: Coroutine[object, object, None]) -> None:
        owned = self._owned.get(partition)
        if owned is None:
            work.close()
            return
        task = asyncio.create_task(work, name=f"payments.{partition}")
        owned.tasks.add(task)
        task.add_done_callback(owned.tasks.discard)

    def _compare_genesis(self, cursor: ScanCursor | None) -> None:
        """On another chain than the one that was scanned every credit would look as if it had never been paid."""
        if cursor is not None and self._shared.genesis not in (None, cursor.genesis):
            self._shared.fit = self._shared.chain_fit = False

    def _alert(self, kind: str) -> None:
        self._parts.metrics.counter("kite_x402_alerts_total").labels(kind=kind).inc()

    async def _verify(self, partition: int, key: str, record: PaymentRecord) -> None:
        began = monotonic_s()
        faults.reached(VERIFY_BEFORE)
        try:
            answer = await self._parts.facilitator.verify(record)
        except Exception as error:
            # A key must never wait for an answer that cannot come.
            log.exception("payment.verify_failed", paymentId=payment_id(key))
            self._alert("verify_failed")
            answer = NoAnswer(type(error).__name__)
        faults.reached(VERIFY_ENDED)
        self._observe("kite_x402_verify_seconds", began, answer=type(answer).__name__)
        if isinstance(answer, NoAnswer):
            log.warning("payment.verify_unanswered", paymentId=payment_id(key), reason=answer.why)
        self._facts.put(partition, Verified(key, answer))

    async def _settle(self, partition: int, key: str, record: PaymentRecord) -> None:
        began = monotonic_s()
        faults.reached(SETTLE_BEFORE)
        try:
            answer = await self._parts.facilitator.settle(record)
        except Exception:
            log.exception("payment.settle_failed", paymentId=payment_id(key))
            self._alert("settle_failed")
            answer = Unclear("defect", "cut")
        faults.reached(SETTLE_ENDED)
        self._observe("kite_x402_settle_seconds", began, answer=type(answer).__name__)
        if isinstance(answer, Unclear):
            log.warning("payment.settle_unclear", paymentId=payment_id(key), reason=answer.why, end=answer.end, tx=answer.transaction)
        self._facts.put(partition, SettleEnded(key, answer))

    async def _look(self, partition: int, look: Look) -> None:
        began = monotonic_s()
        try:
            evidence, head = await self._evidence(look)
        except Exception as error:
            log.exception("payment.look_failed", paymentId=payment_id(look.key))
            self._alert("look_failed")
            evidence, head = Unreadable(type(error).__name__), 0
        faults.reached(LOOK_ENDED)
        self._shared.head = max(self._shared.head, head)
        self._observe("kite_x402_prove_seconds", began, evidence=type(evidence).__name__)
        if isinstance(evidence, Unreadable):
            log.warning("payment.chain_unreadable", paymentId=payment_id(look.key), reason=evidence.why)
            if evidence.why == LOG_MISSING:
                self._alert(LOG_MISSING)
        self._facts.put(partition, EvidenceRead(look.key, evidence, head))

    async def _evidence(self, look: Look) -> tuple[Evidence, int]:
        if not self._shared.chain_fit:
            # What another chain says is no evidence.
            return Unreadable("unfit"), 0
        async with self._looks:
            return await prove(self._parts.chain, self._rules.asset.address, look.question)

    async def _tell(self, outcomes: Sequence[PaymentOutcome]) -> None:
        try:
            await self._parts.tell(outcomes)
        except Unavailable as error:
            # It costs each caller a 503; the repeat finds the state.
            log.warning("payment.outcomes_lost", count=len(outcomes), reason=str(error))
        faults.reached(OUTCOME_TOLD)

    async def _again_and_again(self, what: str, once: Callable[[], Awaitable[float]], partition: int | None) -> None:
        """Do it for ever, resting as many seconds as it says each time. Whatever goes wrong costs a rest, never the loop; one that goes
        wrong again and again, or never comes back, is late."""
        within_s = LATE_AFTER_S + (self._watch_s() if what == "watch" else 0.0)
        pulse = Pulse(f"payments-{what}", self._parts.metrics, partition=partition, within_s=within_s)
        self._pulses.add(pulse)
        try:
            await self._turns(what, once, pulse)
        finally:
            self._pulses.discard(pulse)
            pulse.end()

    async def _turns(self, what: str, once: Callable[[], Awaitable[float]], pulse: Pulse) -> None:
        while True:
            rest_s = self._rest_s
            try:
                rest_s = await once()
                pulse.beat()
            except ChainUnreadable as error:
                log.warning(f"payments.{what}_unreadable", reason=str(error))
            except Exception:
                log.exception(f"payments.{what}_failed")
                self._alert(f"{what}_failed")
            await asyncio.sleep(rest_s)

    async def _keep_time(self, partition: int, desk: Desk) -> float:
        for due in desk.due(self._parts.clock.unix_ms()):
            self._facts.put(partition, due)
        return _TICK_S

    async def _watch(self, partition: int, desk: Desk) -> float:
        await asyncio.sleep(self._watch_s())
        if desk.watched and self._shared.chain_fit:
            await self._compare(partition, desk)
        return 0.0

    async def _compare(self, partition: int, desk: Desk) -> None:
        head = (await self._parts.chain.head()).number
        self._shared.head = max(self._shared.head, head)
        async for fact in compared(self._parts.chain, head, desk.watched, self._rules.watch_blocks):
            self._facts.put(partition, fact)

    async def _scan(self, partition: int, cursor: Callable[[str], ScanCursor | None]) -> float:
        if not self._shared.chain_fit:
            return self._rest_s
        try:
            more = await self._scan_once(partition, cursor)
        except ChainUnreadable:
            # It may have been too much for one answer.
            self._range = narrower(self._range)
            raise
        self._range = wider(self._range)
        return 0.0 if more else self._rest_s

    async def _scan_once(self, partition: int, cursor: Callable[[str], ScanCursor | None]) -> bool:
        """Read the next range and wait until it is durable; whether there is more to read."""
        scanner, metrics = self._parts.scanner, self._parts.metrics
        known = cursor(scanner.key)
        if known is None:
            scanned, left = await scanner.first(), 0
        else:
            found, left = await scanner.next(known, self._range)
            if found is None:
                self._scanned_at = monotonic_s()
                metrics.gauge("kite_x402_scan_lag_blocks").set(0)
                return False
            scanned = found
        metrics.gauge("kite_x402_scan_lag_blocks").set(max(0, left))
        if left <= 0:
            self._scanned_at = monotonic_s()
        if scanned.seen:
            faults.reached(SCAN_ENDED)
        self._facts.put(partition, scanned)
        deadline = monotonic_s() + _TAKEN_S
        while cursor(scanner.key) == known and monotonic_s() < deadline:  # noqa: ASYNC110 - the log sets it, not a task of ours
            await asyncio.sleep(_TICK_S)
        return left > 0

    _scanned_at: float | None = None

    async def _measure(self) -> float:
        self._measured = self._gauge(self._measured)
        self._alert_of_doubles()
        return _MEASURE_S

    def _alert_of_doubles(self) -> None:
        """Say once of each key that stands in an account for a transfer for which another key does."""
        doubled = {key for owned in self._owned.values() for key in owned.desk.doubled}
        for key in sorted(doubled - self._doubled):
            log.error("payment.credited_for_the_transfer_of_another", paymentId=payment_id(key))
            self._parts.metrics.counter("kite_x402_alerts_total").labels(kind="transfer_credited_twice").inc()
        self._doubled = doubled

    def _gauge(self, before: set[str]) -> set[str]:
        """Bring the gauges up to date; the states that had one."""
        metrics, now = self._parts.metrics, self._parts.clock.unix_ms()
        desks = [owned.desk for owned in self._owned.values()]
        counts: dict[str, int] = dict.fromkeys(before, 0)
        for desk in desks:
            for state, count in desk.states.items():
                counts[state] = counts.get(state, 0) + count
        for state, count in counts.items():
            metrics.gauge("kite_x402_payments").labels(state=state).set(count)
        oldest = min((at for desk in desks for at in desk.unknown_since.values()), default=now)
        metrics.gauge("kite_x402_oldest_unknown_seconds").set((now - oldest) / 1_000)
        metrics.gauge("kite_x402_breaker_open").set(int(self._shared.breaker.is_open))
        metrics.gauge("kite_x402_unattributed_atomic").set(sum(desk.unattributed for desk in desks))
        cursor = self.cursor()
        seen = 0 if cursor is None else int(cursor.total)
        metrics.gauge("kite_x402_ledger_gap_atomic").set(sum(desk.standing for desk in desks) - seen)
        if self._scanned_at is not None and 0 in self._owned:
            metrics.gauge("kite_x402_scan_age_seconds").set(monotonic_s() - self._scanned_at)
        return set(counts)

    def _observe(self, name: str, began: float, **labels: str) -> None:
        self._parts.metrics.histogram(name).labels(**labels).observe(monotonic_s() - began)
