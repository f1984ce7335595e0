"""The whole audit: wait, plan, look at the archive, read all partitions, add up. Changes nothing, joins no group."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from kite_cli.admin.audit import payments, plan, positions
from kite_cli.admin.audit.archive import CHECK_OF, Differing, Slice, TableName, compare_rows
from kite_cli.admin.audit.archive_reader import ArchiveReader
from kite_cli.admin.audit.bounds import PartitionJob, Span, Where
from kite_cli.admin.audit.findings import CHECKS, Findings
from kite_cli.admin.audit.log_reader import LogReader
from kite_cli.admin.audit.partition import PartitionResult
from kite_cli.admin.audit.places import ArchiveAt
from kite_cli.admin.audit.progress import Stages
from kite_cli.admin.audit.records import Place
from kite_cli.admin.audit.worker import audited
from kite_cli.admin.erasures import erasures_of
from kite_cli.admin.payments_audit import PaidAt, balance_on_chain
from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.target import LogTarget
from kite_common.errors import Unavailable
from kite_common.events.erasures import TeamErased
from kite_common.topics import ACCOUNTS, DELIVERIES, EVENTS, LEDGER, PAYMENT_STATES, Topic

_TOPIC_OF: Final[dict[TableName, Topic]] = {"events": EVENTS, "ledger": LEDGER, "deliveries": DELIVERIES}
# Rows of the ledger stay for ever; of the others those that are older than replay promises may be gone.
_KEPT_FOR_EVER: Final[frozenset[TableName]] = frozenset({"ledger"})


@dataclass(frozen=True, slots=True)
class Options:
    """`wait_s`: how long services may take to catch up. `since_ms` None: from the beginning. `kept_since_ms`: the archive has all newer
    rows. `before_atomic`: what the paid addresses have that is none of Kite's. `keep`: violations shown of each check."""

    wait_s: float = 60.0
    since_ms: int | None = None
    kept_since_ms: int = 0
    processes: int = 2
    keep: int = 20
    before_atomic: int = 0


@dataclass(slots=True)
class Report:
    """What came of it. `cpu_s`: what reading took of all cores; `peak_kib`: the most memory one process had."""

    findings: Findings
    records: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_kib: int = 0

    @property
    def ok(self) -> bool:
        """Whether no promise is broken."""
        return self.findings.ok

    def to_json(self) -> dict[str, Any]:
        """The whole, as `kitectl audit --json` prints it."""
        found = self.findings
        return {
            "ok": self.ok, "records": self.records, "seconds": round(self.seconds, 3),
            "checks": [
                {"name": name, "checked": found.checked[name], "violations": found.violated[name], "note": found.note_of(name)}
                for name in CHECKS
            ],
            "violations": [
                {"check": one.check, "team_id": one.team_id, "position": one.position, "detail": one.detail}
                for name in CHECKS for one in found.kept[name]
            ],
            "in_flight": dict(found.in_flight),
        }  # fmt: skip


@dataclass(slots=True)
class _Collected:
    moved: list[payments.Moved] = field(default_factory=list)
    recorded: list[payments.Recorded] = field(default_factory=list)
    differing: list[Differing] = field(default_factory=list)


class Audit:
    """One run. `chain` None: sums are not compared with a chain."""

    def __init__(self, target: LogTarget, archive: ArchiveAt, chain: PaidAt | None, options: Options, stages: Stages) -> None:
        self._target, self._archive_at, self._chain, self._options, self._stages = target, archive, chain, options, stages
        self._partitions = range(target.partitions)
        self._findings = Findings(options.keep)
        self._report = Report(self._findings)

    async def run(self) -> Report:
        """Everything. Raises CommandFailed if a part that is needed does not answer."""
        began = time.monotonic()
        try:
            await self._run()
        except Unavailable as error:
            raise CommandFailed(str(error), "See what runs with `kitectl status`, then audit again.", EXIT_UNAVAILABLE) from error
        self._report.seconds = time.monotonic() - began
        return self._report

    async def _run(self) -> None:
        on_chain = await self._on_chain()
        async with LogReader(self._target.kafka_bootstrap) as log:
            with self._stages.waiting("services catch up") as told:
                lag = await plan.wait_until_drained(log, self._target.prefix, self._partitions, self._options.wait_s, told)
            for name, count in lag.items():
                self._findings.under_way(name, count)
            found = await plan.bounds(log, self._target.prefix, self._partitions, self._options.since_ms)
            kept = await log.firsts(self._names(("events", "deliveries")), self._partitions, self._options.kept_since_ms)
        erasures = await erasures_of(self._target)
        archive = self._open_archive()
        try:
            slices = self._slices(archive, found, kept, erasures)
            with TemporaryDirectory(prefix="kite-audit-") as folder:
                collected = await self._read(found, slices, frozenset(erasures), Path(folder))
            if archive is not None:
                await self._compare_rows(archive, collected.differing)
        finally:
            if archive is not None:
                archive.close()
        await self._compare_payments(found, collected, on_chain)

    def _name(self, topic: Topic) -> str:
        return self._target.prefix + topic.name

    def _names(self, tables: Sequence[TableName]) -> list[str]:
        return [self._name(_TOPIC_OF[table]) for table in tables]

    def _open_archive(self) -> ArchiveReader | None:
        why, url = self._archive_at.why, self._archive_at.url
        if url is not None:
            try:
                return ArchiveReader(url)
            except Unavailable as error:
                if not url.startswith("chdb:"):
                    raise
                # One process has the engine open, and a file says who: nobody can look at it meanwhile.
                why = f"not checked: {error}"
        for check in CHECK_OF.values():
            self._findings.note(check, why)
        return None

    async def _compare_rows(self, archive: ArchiveReader, differing: Sequence[Differing]) -> None:
        # Asked once more: a team that was erased since the rows were added up makes blocks differ.
        erased = frozenset(await erasures_of(self._target)) if differing else frozenset()
        for one in differing:
            place = Place(self._name(_TOPIC_OF[one.table]), one.partition)
            compare_rows(self._findings, place, one, archive.rows(one, erased), erased)

    def _look_for_erased(self, archive: ArchiveReader, table: TableName, erasures: Mapping[str, TeamErased]) -> None:
        for team_id, rows in sorted(archive.left(table, erasures).items()):
            if erasures[team_id].archive_erased_at is None:
                self._findings.under_way(f"{table} of teams that are being erased", rows)
            else:
                self._findings.violation(CHECK_OF[table], team_id, "", f"{rows} rows are left of a team that was erased")

    def _slices(
        self, archive: ArchiveReader | None, found: plan.Bounds, kept: Mapping[tuple[str, int], int], erasures: Mapping[str, TeamErased]
    ) -> dict[TableName, dict[int, Slice]]:
        if archive is None:
            return {}
        slices: dict[TableName, dict[int, Slice]] = {}
        with self._stages.waiting("the archive is summed up"):
            for table, topic in _TOPIC_OF.items():
                name, tails = self._name(topic), archive.tails(table)
                spans: dict[int, Span] = {}
                for number in self._partitions:
                    span = found.spans[name, number]
                    first = span.first if table in _KEPT_FOR_EVER else max(span.first, kept[name, number])
                    # What the archiver calls done must be there; what it has not come to need not.
                    done = max(tails.get(number, -1) + 1, found.after.get(plan.ARCHIVE_GROUP, {}).get((name, number), 0))
                    spans[number] = Span(first, max(first, min(span.end, done)))
                slices[table] = archive.slices(table, spans, erasures)
                self._look_for_erased(archive, table, erasures)
        return slices

    async def _read(
        self, found: plan.Bounds, slices: Mapping[TableName, Mapping[int, Slice]], erased: frozenset[str], folder: Path
    ) -> _Collected:
        collected = _Collected()
        jobs = [self._job(number, found, slices, erased, folder) for number in self._partitions]
        with self._stages.reading(sum(span.size for job in jobs for span in job.spans.values())) as read:
            async for result in audited(jobs, self._options.processes, read):
                self._add(result, found, collected)
        return collected

    def _job(
        self, number: int, found: plan.Bounds, slices: Mapping[TableName, Mapping[int, Slice]], erased: frozenset[str], folder: Path
    ) -> PartitionJob:
        target = self._target
        where = Where(target.kafka_bootstrap, target.redis_url, target.prefix, target.partitions)
        committed = {
            group: {topic: offset for (topic, partition), offset in offsets.items() if partition == number}
            for group, offsets in found.before.items()
        }
        return PartitionJob(
            where, number, {topic: span for (topic, partition), span in found.spans.items() if partition == number}, committed,
            self._options.since_ms, {table: parts[number] for table, parts in slices.items()} or None, True,
            min(10.0, self._options.wait_s), folder, self._options.keep, erased,
        )  # fmt: skip

    def _add(self, result: PartitionResult, found: plan.Bounds, collected: _Collected) -> None:
        self._report.records += result.records
        self._report.cpu_s += result.cpu_s
        self._report.peak_kib = max(self._report.peak_kib, result.peak_kib)
        self._findings.add(result.findings)
        collected.moved += result.moved
        collected.recorded += result.recorded
        self._compare_positions(result, found)
        collected.differing += result.differing

    def _compare_positions(self, result: PartitionResult, found: plan.Bounds) -> None:
        for topic, group in ((ACCOUNTS, plan.BILLING_GROUP), (PAYMENT_STATES, plan.PAYMENTS_GROUP)):
            name = self._name(topic)
            before, after = (
                {of: at for (of, number), at in offsets.get(group, {}).items() if number == result.partition}
                for offsets in (found.before, found.after)
            )
            positions.compare(self._findings, Place(name, result.partition), result.marked.get(name, {}), before, after)

    async def _on_chain(self) -> int | None:
        return None if self._chain is None else await balance_on_chain(self._chain) - self._options.before_atomic

    async def _compare_payments(self, found: plan.Bounds, collected: _Collected, before: int | None) -> None:
        if any(found.spans[self._name(LEDGER), number].first for number in self._partitions):
            self._findings.note("payments", "not checked: the ledger was not read from its beginning")
            return
        after = await self._on_chain()
        chain = None if before is None or after is None else payments.OnChain(before, after)
        if chain is None:
            self._findings.note("payments", "not compared with a chain")
        payments.compare(self._findings, collected.moved, collected.recorded, chain)
