"""Keeps one partition's accounts in Redis equal to what was committed, through outages and wipes. Reads no topic itself.

When Redis has lost data (a wipe), or is another server process than was told (it may hold an older copy), what stands there of the accounts
is taken away, and nothing is written until stream time has passed that moment by LAPSE_MS: until then messages that were admitted before
may still come into the log, and nobody knows any more what they hold. Claims of Idempotency-Keys are read back from the log before the
accounts are written. The gateway answers 503 meanwhile.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from kite_common.clock import Clock
from kite_common.errors import Unavailable
from kite_common.projection import keys
from kite_common.projection.claims import AcceptedClaim
from kite_common.projection.pending import Pending, Settled
from kite_common.projection.writes import Marks, ProjectionWrites
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.pulse import Pulse
from kite_common.runtime.system import monotonic_s, pause

log = get_logger("kite.projection")

_TEAMS_PER_PIPELINE: Final = 256
_SETTLED_PER_PIPELINE: Final = 2_000
_TEAMS_PER_SWEEP: Final = 64
_IDLE_S: Final = 1.0
_AWAY_S: Final = (0.2, 0.5, 1.0)
_LAST_ROUND_S: Final = 2.0
# What is promised of a balance (runtime/slos.py).
_SOON_MS: Final = 1_000
_MS: Final = 1_000
# Stream time may have passed records that were appended and not yet replicated, and clocks differ. What is settled already frees nothing
# more when it is read again.
_UNSEEN_MS: Final = keys.LAPSE_MS - keys.PUBLISH_TIMEOUT_MS


class UsageLog(Protocol):
    """The usages that are in the log, for what no projector has seen or remembered."""

    def settled_since(self, partition: int, since_ms: int) -> AsyncGenerator[tuple[int, Sequence[Settled]], None]:
        """Charged usages appended at or after `since_ms`, in lots, each with the newest append time in it. Raises Unavailable."""
        ...

    def claims_since(self, partition: int, since_ms: int) -> AsyncGenerator[Sequence[AcceptedClaim], None]:
        """Claims of charged usages appended at or after `since_ms`, oldest first, in lots that may be empty. Raises Unavailable."""
        ...


class PartitionKeeper:
    """One partition, from its restore until it is released."""

    def __init__(
        self, partition: int, pending: Pending, writes: ProjectionWrites, usages: UsageLog, clock: Clock, metrics: Metrics, hold_ms: int
    ) -> None:
        self._partition, self._pending, self._writes, self._usages, self._clock = partition, pending, writes, usages, clock
        self._hold_ms = hold_ms
        self._lapsed = metrics.counter("kite_billing_reservations_lapsed_total")
        self._projections = metrics.counter("kite_billing_projections_total")
        self._charge_seconds = metrics.histogram("kite_billing_event_to_balance_seconds")
        charges = metrics.counter("kite_billing_charges_projected_total")
        self._soon, self._later = charges.labels(within="1s"), charges.labels(within="later")
        self._changed, self._closing = asyncio.Event(), asyncio.Event()
        # What Redis was last told, and which server process that was; None = it has to be asked first.
        self._projected: int | None = None
        self._server = ""
        self._stream_time_ms = 0
        self._forgetting = False
        self._hold_until_ms: int | None = None
        # The note that claims are being restored, and from which append time on they still have to be read.
        self._restored, self._claims_from_ms, self._claims_read = "", 0, False
        self._sweep_at_s = 0.0
        # Whether a team of ours may have been admitted: accounts that were opened since, and not projected yet, admit nobody.
        self._exposed = bool(pending.accounts)
        self._readiness = Readiness(ready=False, reason=f"partition {partition} is not projected yet")
        self._pulse = Pulse("projection", metrics, partition=partition)

    @property
    def pending(self) -> Pending:
        """What waits; call `wake` after adding to it."""
        return self._pending

    def readiness(self) -> Readiness:
        """Ready while Redis is told what is committed, once a second if nothing is."""
        late = self._pulse.late
        if self._readiness.ready and late is not None:
            return Readiness(ready=False, reason=f"partition {self._partition}: {late}")
        return self._readiness

    def wake(self) -> None:
        """There is something to write."""
        self._changed.set()

    def close(self) -> None:
        """Write what waits once more, if that takes no time, and end."""
        self._closing.set()
        self._changed.set()
        # Now, not when it has ended: the partition may be ours again by then, with a pulse of its own.
        self._pulse.end()

    async def run(self) -> None:
        """Work until closed. An error of Redis or Kafka is waited out; any other is told and everything is compared anew."""
        failures = 0
        while not self._closing.is_set():
            try:
                await self._turn()
                failures = 0
            except Unavailable as error:
                self._not_ready(str(error))
                await self._pause(_AWAY_S[min(failures, len(_AWAY_S) - 1)])
                failures += 1
            except Exception:
                log.exception("projection.failed", partition=self._partition)
                self._projections.labels(result="failed").inc()
                self._projected = None
                self._not_ready("failed")
                await self._pause(_IDLE_S)
        await self._last_turn()

    async def _turn(self) -> None:
        if self._forgetting:
            await self._forget()
        elif self._hold_until_ms is not None:
            await self._hold(self._hold_until_ms)
        elif self._projected is None:
            await self._compare()
        else:
            await self._close_gap()
            await self._round()
            await self._until_changed()

    async def _compare(self) -> None:
        """On taking over: what Redis holds decides what has to be written."""
        marks = await self._writes.marks(self._partition)
        if marks.projected is not None and marks.projected > self._pending.applied:
            # Redis belongs to another log. Overwriting it would need to know which of the two is right: a person decides.
            self._not_ready(f"partition {self._partition}: Redis is ahead of the log; if the topics were made anew, empty Redis")
            await self._pause(_IDLE_S)
        elif marks.projected is None or marks.stream_time_ms is None or marks.server != marks.answering:
            self._lost()
        else:
            self._go_on(marks, marks.stream_time_ms)

    def _go_on(self, marks: Marks, stream_time_ms: int) -> None:
        self._pending.know(marks.projected or 0)
        self._pending.write_all()
        self._projected, self._stream_time_ms, self._server = marks.projected, stream_time_ms, marks.answering
        # Settled after the mark by an owner that ended before it could write: only the log knows them now.
        self._pending.gap = True

    def _lost(self) -> None:
        """Redis has lost this partition's accounts, may hold older ones, or never had them."""
        self._projected, self._forgetting = None, True
        if self._exposed:
            log.warning("projection.lost", partition=self._partition, accounts=len(self._pending.accounts))
            self._not_ready(f"partition {self._partition} waits for messages admitted before Redis lost its data")

    async def _forget(self) -> None:
        """Nobody is admitted by what may be older than what was charged; the wait begins when all of it is gone."""
        await self._writes.forget_mark(self._partition, self._pending.applied)
        accounts = list(self._pending.accounts.values())
        for start in range(0, len(accounts), _TEAMS_PER_PIPELINE):
            await self._writes.forget_accounts(accounts[start : start + _TEAMS_PER_PIPELINE])
        self._restored, self._hold_until_ms = "", 0
        # Where nothing was projected, nobody was admitted: no need to wait.
        if self._exposed:
            now_ms = self._clock.unix_ms()
            self._restored = await self._writes.restore(self._partition, f"{now_ms}-{self._pending.applied}")
            self._claims_from_ms, self._claims_read = now_ms - keys.PAYMENT_CLAIM_TTL_S * 1000, False
            self._hold_until_ms = now_ms + (0 if (await self._writes.marks(self._partition)).quiet else self._hold_ms)
        self._forgetting = False

    async def _hold(self, until_ms: int) -> None:
        over = self._pending.stream_time_ms > until_ms
        if self._exposed and (over or not self._claims_read) and not await self._restore_claims():
            return
        if over:
            await self._begin()
            return
        await self._tell_outcomes()
        await self._until_changed()

    async def _restore_claims(self) -> bool:
        """Write the claims that are in the log, once when the wait begins, which takes longest, and what came since when it is over.

        False if we are closed before.
        """
        read_from_ms = self._pending.stream_time_ms - _UNSEEN_MS
        async with aclosing(self._usages.claims_since(self._partition, self._claims_from_ms)) as lots:
            async for claims in lots:
                if self._closing.is_set():
                    return False
                if claims:
                    await self._writes.claims(claims)
                await self._tell_outcomes()
        self._claims_from_ms, self._claims_read = max(self._claims_from_ms, read_from_ms), True
        return True

    async def _begin(self) -> None:
        """If another owner is ahead nothing changes, and Redis is asked; if it has lost data again, the wait begins anew."""
        stream_time_ms = self._pending.stream_time_ms
        result, server = await self._writes.begin(self._partition, self._pending.applied, stream_time_ms, self._restored)
        self._hold_until_ms = None
        if result == "lost":
            self._lost()
        elif result == "begun":
            log.info("projection.rebuilding", partition=self._partition, accounts=len(self._pending.accounts))
            self._pending.know(-1)
            self._pending.write_all()
            self._projected, self._stream_time_ms, self._server = 0, stream_time_ms, server

    async def _close_gap(self) -> None:
        if not self._pending.gap:
            return
        # Cleared first: what overflows while we read opens the next gap.
        self._pending.gap = False
        try:
            await self._catch_up()
        except BaseException:
            self._pending.gap = True
            raise

    async def _catch_up(self) -> None:
        """Settle from the log what was appended since the stream time Redis was told."""
        since_ms = self._stream_time_ms - _UNSEEN_MS
        async with aclosing(self._usages.settled_since(self._partition, since_ms)) as lots:
            async for newest_ms, settled in lots:
                if not await self._applied(newest_ms):
                    self._pending.gap = True
                    return
                self._pending.settle(settled)
                self._pending.begin_round()
                if not await self._write_round():
                    return

    async def _applied(self, newest_ms: int) -> bool:
        """Wait until the accounts we were given stand for everything up to then; False if we are closed before."""
        while self._pending.stream_time_ms <= newest_ms:
            if self._closing.is_set():
                return False
            await self._until_changed()
        return True

    async def _round(self) -> None:
        """Write what waits, then say up to where."""
        pending = self._pending
        self._sweep()
        applied, stream_time_ms, outcomes = pending.applied, pending.stream_time_ms, pending.take_outcomes()
        expected = self._projected or 0
        pending.begin_round()
        try:
            if not await self._write_round() or pending.gap:
                pending.put_back_outcomes(outcomes)
                return
            whole = await self._writes.finish(self._partition, applied, stream_time_ms, expected, self._server, outcomes)
        except Unavailable:
            pending.put_back_outcomes(outcomes)
            raise
        if not whole:
            self._lost()
            return
        self._projected, self._stream_time_ms = max(expected, applied), max(self._stream_time_ms, stream_time_ms)
        self._count_charges()
        self._readiness = READY
        self._pulse.beat()

    def _count_charges(self) -> None:
        """One look at the clock a round, and each step as old as its oldest usage: what is measured must not slow what it measures."""
        now_ms = self._clock.unix_ms()
        for charges in self._pending.charges_written():
            age_ms = max(0, now_ms - charges.oldest_ms)
            self._charge_seconds.observe(age_ms / _MS)
            (self._soon if age_ms <= _SOON_MS else self._later).inc(charges.usages)

    async def _write_round(self) -> bool:
        """Write the round in bounded pipelines; False if an account that was in Redis is not there any more."""
        pending, lapsed_before_ms = self._pending, max(0, self._stream_time_ms - keys.LAPSE_MS)
        while writes := pending.take(_TEAMS_PER_PIPELINE, _SETTLED_PER_PIPELINE):
            try:
                results, lapsed = await self._writes.accounts(writes, lapsed_before_ms)
            except Unavailable:
                pending.put_back(writes)
                raise
            self._lapsed.inc(lapsed)
            for result in results:
                self._projections.labels(result=result).inc()
            if "missing" in results:
                pending.put_back(writes)
                self._lost()
                return False
            for write in writes:
                pending.written(write)
            self._exposed = True
            self._pulse.beat()
        return True

    async def _tell_outcomes(self) -> None:
        outcomes = self._pending.take_outcomes()
        if not outcomes:
            return
        try:
            await self._writes.outcomes(outcomes)
        except Unavailable:
            self._pending.put_back_outcomes(outcomes)
            raise

    async def _last_turn(self) -> None:
        """What stays unwritten is found in the log by the next owner."""
        if self._projected is None:
            return
        try:
            async with asyncio.timeout(_LAST_ROUND_S):
                await self._round()
        except (Unavailable, TimeoutError):
            log.warning("projection.unfinished", partition=self._partition)

    async def _until_changed(self) -> None:
        """Until a step was committed or a second has passed: then Redis is asked whether it still holds what it was told.

        Nobody is admitted by another server process meanwhile: the gateway looks at the id before each call.
        """
        await pause(_IDLE_S, self._changed)
        self._changed.clear()

    def _sweep(self) -> None:
        now_s = monotonic_s()
        if now_s >= self._sweep_at_s:
            self._sweep_at_s = now_s + _IDLE_S
            self._pending.sweep(_TEAMS_PER_SWEEP)

    async def _pause(self, seconds: float) -> None:
        await pause(seconds, self._closing)

    def _not_ready(self, reason: str) -> None:
        if self._readiness.ready or self._readiness.reason != reason:
            log.warning("projection.delayed", partition=self._partition, reason=reason)
        self._readiness = Readiness(ready=False, reason=reason)
