"""The hot path: each record of kite.events, kite.ledger and kite.deliveries is parsed once and handed to the checks it concerns. No IO."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from kite_cli.admin.audit.accepted import Accepted
from kite_cli.admin.audit.archive import Archived, Differing, TableName
from kite_cli.admin.audit.bounds import PartitionJob
from kite_cli.admin.audit.charges import Charges, Usage
from kite_cli.admin.audit.deliveries import Deliveries
from kite_cli.admin.audit.findings import Findings
from kite_cli.admin.audit.letters import Letters
from kite_cli.admin.audit.payments import Moved, moved_by
from kite_cli.admin.audit.records import LogRecord, Place, fields_of, kind_of, team_of
from kite_cli.admin.audit.unique_ids import UniqueIds
from kite_cli.admin.audit.wallets import Wallets
from kite_common.events.codec import EVENT_RECORD
from kite_common.events.usage import UsageRecorded
from kite_common.topics import ACCOUNTS, DELIVERIES, EVENTS, LEDGER, Topic

_USAGE_RECORD: Final = UsageRecorded.kind.encode()
# Later than any time: of what begins nowhere nothing was read whole.
_NEVER: Final = 1 << 62


class LogPass:
    """The checks of one partition while its log is read. `held`: ids that Redis has reserved, with their teams."""

    def __init__(
        self, job: PartitionJob, findings: Findings, letters: Letters, name: Callable[[Topic], str], charged_up_to: int,
        held: Mapping[str, str],
    ) -> None:  # fmt: skip
        partition = job.partition
        self._events, self._ledger, outcomes = (Place(name(topic), partition) for topic in (EVENTS, LEDGER, DELIVERIES))
        first, ledger_first, ids = job.spans[name(EVENTS)].first, job.spans[name(LEDGER)].first, f"{partition}"
        self._findings, self._charged_up_to, self._held = findings, charged_up_to, held
        self._accepted = Accepted(findings, self._events, job.where.partitions, UniqueIds(job.folder, f"events.{ids}"), first)
        self._charges = Charges(findings, self._events, self._ledger, first > 0)
        since_ms = None if ledger_first == 0 else job.since_ms or _NEVER
        self.wallets = Wallets(findings, Place(name(ACCOUNTS), partition), self._ledger, UniqueIds(job.folder, f"ledger.{ids}"), since_ms)
        self._deliveries = Deliveries(findings, self._events, outcomes, first)
        places: dict[TableName, Place] = {"events": self._events, "ledger": self._ledger, "deliveries": outcomes}
        self._archived = {table: Archived(findings, table, places[table], part, job.erased) for table, part in (job.archive or {}).items()}
        self._not_billed, self._not_delivered = letters.of("billing", name(EVENTS)), letters.of("delivery", name(EVENTS))
        # Of these nothing that is unreadable is set aside.
        self._erased = job.erased
        self._not_archived = {place.topic: letters.of("replay", place.topic) for place in places.values()}
        self.moved: list[Moved] = []
        self.charged_and_held: dict[str, str] = {}
        self._moving: set[str] = set()

    @property
    def open_usages(self) -> int:
        """Usages whose ledger entry has not been read."""
        return self._charges.open

    @property
    def differing(self) -> list[Differing]:
        """Blocks of the archive that are not as they must be."""
        return [one for archived in self._archived.values() for one in archived.differing]

    def events(self, batch: Sequence[LogRecord]) -> None:
        """Records of kite.events."""
        self._charges.reads_from(batch[0].timestamp)
        for record in batch:
            kind = kind_of(record)
            if kind == EVENT_RECORD:
                self._event(record)
            elif kind == _USAGE_RECORD:
                self._usage(record)
            elif record.offset not in self._not_archived[self._events.topic] and team_of(record) not in self._erased:
                self._accepted.unreadable(record.offset, record.key or b"", "is neither an event nor a usage")

    def entries(self, batch: Sequence[LogRecord]) -> None:
        """Records of kite.ledger."""
        archived = self._archived.get("ledger")
        for record in batch:
            fields, offset = fields_of(record), record.offset
            try:
                self.wallets.entry(offset, fields)
                if fields.get("event_id") is not None and fields.get("command_id") is None:
                    self._charges.entry(offset, fields)
                elif (moved := moved_by(fields, self._ledger.at(offset))) is not None:
                    self.moved.append(moved)
            except (LookupError, TypeError, ValueError) as error:
                detail = f"is no ledger entry: {type(error).__name__}"
                self._findings.violation("balances", team_of(record), self._ledger.at(offset), detail)
            if archived is not None and offset not in self._not_archived[self._ledger.topic]:
                archived.fact(offset, record.timestamp, team_of(record), str(fields.get("id")), record.value or b"")

    def outcomes(self, batch: Sequence[LogRecord]) -> None:
        """Records of kite.deliveries."""
        archived = self._archived.get("deliveries")
        for record in batch:
            fields = fields_of(record)
            try:
                self._deliveries.outcome(record.offset, fields)
            except (LookupError, TypeError, ValueError):
                self._deliveries.unreadable(record.offset)
            if archived is not None:
                delivery_id = str(fields.get("delivery_id"))
                archived.fact(record.offset, record.timestamp, team_of(record), delivery_id, record.value or b"")

    def parked(self, record: LogRecord) -> None:
        """A record of a retry topic that is not handled yet."""
        fields = fields_of(record)
        if isinstance(fields.get("kiteseq"), int) and isinstance(fields.get("event_id"), str):
            self._deliveries.parked(fields)

    def finish(self, moving: Collection[str], delivered_up_to: int) -> None:
        """Everything was read. `moving`: teams with commands billing has not taken yet."""
        self._accepted.finish()
        self._charges.finish(self._charged_up_to)
        self.wallets.finish(self._moving.union(moving))
        self._deliveries.finish(delivered_up_to, self._not_delivered)
        for archived in self._archived.values():
            archived.finish()

    def _event(self, record: LogRecord) -> None:
        event, offset, key = fields_of(record), record.offset, record.key or b""
        if not isinstance(event.get("kiteid"), str):
            if offset not in self._not_delivered:
                self._accepted.unreadable(offset, key, "is no event, and no dead letter says so")
            return
        event_id = event["kiteid"]
        self._accepted.event(offset, record.timestamp, key, event)
        if offset not in self._not_delivered:
            self._deliveries.event(offset, event_id)
        archived = self._archived.get("events")
        if archived is not None and offset not in self._not_archived[self._events.topic]:
            archived.event(offset, record.timestamp, key.decode("utf-8", "replace"), event_id.lower(), record.value or b"")

    def _usage(self, record: LogRecord) -> None:
        usage, offset, key = fields_of(record), record.offset, record.key or b""
        if not usage:
            if offset not in self._not_billed:
                self._accepted.unreadable(offset, key, "is no usage, and no dead letter says so")
            return
        self._accepted.usage(offset, record.timestamp, key, usage)
        if offset >= self._charged_up_to:
            self._moving.add(team_of(record))
        if offset in self._not_billed:
            return
        try:
            charged = Usage(
                usage["event_id"], offset, record.timestamp, usage["team_id"], usage["usage_kind"], usage.get("quantity", 1),
                usage["price_atomic"],
            )  # fmt: skip
        except LookupError as error:
            self._accepted.unreadable(offset, key, f"is no usage: {error} is missing")
            return
        self._charges.usage(charged)
        if self._held and offset < self._charged_up_to and charged.event_id in self._held:
            self.charged_and_held[charged.event_id] = self._events.at(offset)
