"""One partition of all topics, stage by stage: reads records and Redis, feeds the checks. Decides nothing about them."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from kite_cli.admin.audit import payments, projection
from kite_cli.admin.audit.archive import Differing
from kite_cli.admin.audit.bounds import PartitionJob, Span
from kite_cli.admin.audit.findings import Findings, plain
from kite_cli.admin.audit.letters import Letters
from kite_cli.admin.audit.log_pass import LogPass
from kite_cli.admin.audit.payments import Moved, Recorded
from kite_cli.admin.audit.projection import Projected
from kite_cli.admin.audit.records import LogRecord, Place, fields_of, kind_of, team_of
from kite_cli.admin.audit.wallets import Standing
from kite_common.errors import Malformed
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import decode_as
from kite_common.events.payment_record import PaymentRecord
from kite_common.stream.state import MARKER_KEY, Marker, read_marker
from kite_common.topics import ACCOUNTS, COMMANDS, DEAD_LETTERS, DELIVERIES, EVENTS, LEDGER, PAYMENT_STATES, RETRIES, Topic

DELIVERY_GROUP: Final = "kite-delivery"
RETRIES_GROUP: Final = "kite-delivery-retries"
_TEAMS_AT_ONCE: Final = 500
_LOOK_AGAIN_S: Final = 0.5
# Usages read ahead of the ledger: as many as one batch of entries may name.
_AHEAD: Final = 5_000


class Log(Protocol):
    """What is needed of `log_reader.LogReader`."""

    def begin(self, spans: Mapping[str, Span], partition: int) -> None: ...
    def batches(self, topic: str, partition: int, span: Span) -> AsyncIterator[Sequence[LogRecord]]: ...


class ReadModel(Protocol):
    """What is needed of `redis_reader.RedisReader`."""

    async def projected(self, teams: Sequence[str]) -> Sequence[Projected]: ...


@dataclass(slots=True)
class PartitionResult:
    """What one partition came to. `marked`: positions by state topic. `cpu_s`: what it took of a core; `peak_kib`: the most memory its
    process had so far."""

    partition: int
    findings: Findings
    records: int = 0
    differing: list[Differing] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    recorded: list[Recorded] = field(default_factory=list)
    marked: dict[str, Mapping[str, int]] = field(default_factory=dict)
    cpu_s: float = 0.0
    peak_kib: int = 0


class PartitionAudit:
    """`read(n)` is told how many records more were read."""

    def __init__(self, job: PartitionJob, log: Log, redis: ReadModel, read: Callable[[int], None]) -> None:
        self._job, self._log, self._redis, self._told = job, log, redis, read
        self._findings = Findings(job.keep)
        self._result = PartitionResult(job.partition, self._findings)
        self._letters = Letters(self._findings, self._place(DEAD_LETTERS), job.where.prefix)
        self._held: dict[str, str] = {}

    async def run(self) -> PartitionResult:
        """All stages. Raises Unavailable."""
        began_s = time.process_time()
        await self._read_letters()
        accounts, marker = await self._read_accounts()
        charged_up_to = marker.positions.get(self._name(EVENTS), 0)
        moving = await self._teams_with_commands(marker.positions.get(self._name(COMMANDS), 0))
        log = LogPass(self._job, self._findings, self._letters, self._name, charged_up_to, self._held)
        for team_id, (account, offset) in accounts.items():
            log.wallets.snapshot(team_id, Standing.of(account, offset))
        # What stands for the teams is compact from here on.
        accounts.clear()
        await self._read_events_and_ledger(log)
        await self._read_deliveries(log)
        await self._look_at_held(log)
        log.finish(moving, self._committed(DELIVERY_GROUP, EVENTS))
        self._result.differing, self._result.moved = log.differing, log.moved
        await self._read_payments()
        self._result.findings = plain(self._findings)
        self._result.cpu_s = time.process_time() - began_s
        self._result.peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return self._result

    def _name(self, topic: Topic) -> str:
        return self._job.where.prefix + topic.name

    def _place(self, topic: Topic) -> Place:
        return Place(self._name(topic), self._job.partition)

    def _span(self, topic: Topic, first: int = 0) -> Span:
        span = self._job.spans[self._name(topic)]
        return Span(max(span.first, first), span.end)

    def _committed(self, group: str, topic: Topic) -> int:
        return self._job.committed.get(group, {}).get(self._name(topic), 0)

    def _count(self, records: Sequence[LogRecord]) -> None:
        self._result.records += len(records)
        self._told(len(records))

    async def _each(self, topic: Topic, take: Callable[[LogRecord], None], first: int = 0) -> None:
        name, span = self._name(topic), self._span(topic, first)
        self._log.begin({name: span}, self._job.partition)
        async for batch in self._log.batches(name, self._job.partition, span):
            for record in batch:
                take(record)
            self._count(batch)

    async def _read_letters(self) -> None:
        def take(record: LogRecord) -> None:
            self._letters.letter(record.offset, fields_of(record))

        await self._each(DEAD_LETTERS, take)

    async def _read_accounts(self) -> tuple[dict[str, tuple[AccountSnapshot, int]], Marker]:
        newest: dict[str, tuple[bytes, int]] = {}
        marker = Marker()

        def take(record: LogRecord) -> None:
            nonlocal marker
            if record.key == MARKER_KEY:
                marker = read_marker(record.value)
            elif record.value is None:
                newest.pop(team_of(record), None)
            else:
                newest[team_of(record)] = record.value, record.offset

        await self._each(ACCOUNTS, take)
        self._result.marked[self._name(ACCOUNTS)] = marker.positions
        accounts: dict[str, tuple[AccountSnapshot, int]] = {}
        for team_id, (value, offset) in newest.items():
            try:
                accounts[team_id] = decode_as(AccountSnapshot, value), offset
            except Malformed as error:
                self._findings.violation("snapshots", team_id, self._place(ACCOUNTS).at(offset), str(error))
        if self._job.redis:
            await self._compare_redis([account for account, _ in accounts.values()])
        return accounts, marker

    async def _compare_redis(self, accounts: Sequence[AccountSnapshot]) -> None:
        left, deadline = list(accounts), time.monotonic() + self._job.redis_wait_s
        while left:
            behind: list[tuple[AccountSnapshot, Projected]] = []
            for at in range(0, len(left), _TEAMS_AT_ONCE):
                some = left[at : at + _TEAMS_AT_ONCE]
                found = await self._redis.projected([account.team_id for account in some])
                for account, projected in zip(some, found, strict=True):
                    if projection.agreement(account, projected) == "behind":
                        behind.append((account, projected))
                    else:
                        self._take_projected(account, projected)
            if not behind or time.monotonic() > deadline:
                for account, projected in behind:
                    projection.never_projected(self._findings, account, projected)
                return
            left = [account for account, _ in behind]
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _take_projected(self, account: AccountSnapshot, projected: Projected) -> None:
        if projection.agreement(account, projected) == "same":
            projection.compare(self._findings, account, projected)
        else:
            self._findings.under_way("teams whose accounts change right now")
        self._held |= {one.decode("utf-8", "replace"): account.team_id for one in projected.pending}

    async def _teams_with_commands(self, first: int) -> set[str]:
        teams: set[str] = set()
        await self._each(COMMANDS, lambda record: teams.add(team_of(record)), first)
        return teams

    async def _read_events_and_ledger(self, log: LogPass) -> None:
        events, ledger = self._span(EVENTS), self._span(LEDGER)
        names, partition = (self._name(EVENTS), self._name(LEDGER)), self._job.partition
        self._log.begin({names[0]: events, names[1]: ledger}, partition)
        ahead = aiter(self._log.batches(names[0], partition, events))

        async def read_events() -> bool:
            batch = await anext(ahead, None)
            if batch is None:
                return False
            log.events(batch)
            self._count(batch)
            return True

        async for batch in self._log.batches(names[1], partition, ledger):
            while log.open_usages < _AHEAD and await read_events():
                pass
            log.entries(batch)
            self._count(batch)
        while await read_events():
            pass

    async def _read_deliveries(self, log: LogPass) -> None:
        name, span = self._name(DELIVERIES), self._span(DELIVERIES)
        self._log.begin({name: span}, self._job.partition)
        async for batch in self._log.batches(name, self._job.partition, span):
            log.outcomes(batch)
            self._count(batch)
        for tier in RETRIES:
            await self._each(tier, log.parked, self._committed(RETRIES_GROUP, tier))

    async def _look_at_held(self, log: LogPass) -> None:
        """What was charged and yet reserved when Redis was read: whether it still is."""
        if not log.charged_and_held:
            return
        teams = sorted({self._held[event_id] for event_id in log.charged_and_held})
        still = {one.decode("utf-8", "replace") for found in await self._redis.projected(teams) for one in found.pending}
        for event_id, position in log.charged_and_held.items():
            if event_id in still:
                projection.still_held(self._findings, self._held[event_id], event_id, position)

    async def _read_payments(self) -> None:
        newest: dict[bytes, Recorded] = {}
        positions: Mapping[str, int] = {}

        def take(record: LogRecord) -> None:
            nonlocal positions
            key = record.key or b""
            if key == MARKER_KEY:
                positions = read_marker(record.value).positions
            elif record.value is None:
                newest.pop(key, None)
            elif kind_of(record) == PaymentRecord.kind.encode():
                newest[key] = payments.recorded(decode_as(PaymentRecord, record.value))

        await self._each(PAYMENT_STATES, take)
        self._result.marked[self._name(PAYMENT_STATES)] = positions
        self._result.recorded = list(newest.values())
