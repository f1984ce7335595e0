"""What the use cases of replay need from the outside. No client types.

All methods raise `kite_common.errors.Unavailable` when the part behind them is away.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kite_common.errors import ApiError
from kite_common.events.deliveries import DeliveryOrdered
from kite_common.ids import EventId, TeamId, WebhookConfigId
from kite_replay.domain.allowance import Allowance
from kite_replay.domain.charge import PageUsage, Reserved, WalletFacts
from kite_replay.domain.deliveries import DeliveryKey, DeliveryQuery, EventLabels, FoundFact
from kite_replay.domain.ledger import FoundEntry, LedgerQuery
from kite_replay.domain.paid import Due, PaidRange, Priced
from kite_replay.domain.query import EventQuery, Found, FoundEvent
from kite_replay.domain.rows import BadRecord, Batch, Table, Tail


class Archive(Protocol):
    """Where rows are kept, with the position they came from."""

    async def tail(self, table: Table, partition: int) -> Tail | None:
        """The last stored record of a partition, or None if there is none yet.

        It covers what is just being stored, by whichever process. Raises Unavailable.
        """
        ...

    async def append(self, table: Table, batches: Sequence[Batch]) -> None:
        """Store rows of one table; batches of one partition follow on each other. Returns when readers see them.

        Of each partition either nothing, a beginning, or all becomes visible, in offset order and never with a gap. The same call again
        stores nothing twice. When it raises, it is open whether the rows are stored: call it again, or ask `tail`.
        """
        ...


class ErasableArchive(Archive, Protocol):
    """An archive that can forget teams."""

    async def remove(self, table: Table, teams: Collection[str]) -> None:
        """Have all rows of these teams removed that are visible now; returns before they are gone. Doing it again does no harm.

        Tails may go back to the last row that stays.
        """
        ...

    async def rows_of(self, table: Table, teams: Collection[str]) -> int:
        """How many rows there are of these teams."""
        ...


class Erasures(Protocol):
    """Which teams are erased. A team's erasure stands in the partition that its events are in."""

    async def known(self, partition: int) -> Mapping[str, bool]:
        """The erased teams of a partition, including whatever was written before the call: whether it is on record that the archive has
        nothing more of them."""
        ...

    def seen(self, partition: int) -> Mapping[str, bool]:
        """The same, as far as anything was read by now."""
        ...

    async def carried_out(self, partition: int, teams: Collection[str]) -> None:
        """Put on record that the archive has nothing more of these teams, where it does not say so yet."""
        ...


class EventReader(Protocol):
    """What readers ask of the archive."""

    async def seq_of(self, team_id: TeamId, created_ms: int, event_id: EventId) -> int | None:
        """The kiteseq of the team's event with this id and time, or None if there is no such event."""
        ...

    async def find(self, query: EventQuery) -> Found:
        """The rows a query selects, kiteseq ascending, each once, from one moment's state of the archive.

        May return fewer than there are, a beginning of them: when they are very large, with at least one row; or when very many others had
        to be passed over, perhaps with none. Then `cut` is True, and a query behind the place reached goes on.
        """
        ...


class LedgerReader(Protocol):
    """What readers of a wallet's entries ask of the archive."""

    async def entries(self, query: LedgerQuery) -> Sequence[FoundEntry]:
        """The entries a query selects, newest first, each once, none of amount zero, from one moment's state of the archive."""
        ...


class DeliveryReader(Protocol):
    """What is asked of the attempt log, and of the events behind it."""

    async def keys(self, query: DeliveryQuery) -> Sequence[DeliveryKey]:
        """The places of deliveries that may pass the query's filter, newest event first, each once."""
        ...

    async def facts(self, team_id: TeamId, keys: Sequence[DeliveryKey]) -> Sequence[FoundFact]:
        """Every fact on record about these deliveries of the team, each record of the log once, in no order."""
        ...

    async def labels(self, team_id: TeamId, seqs: Sequence[int]) -> Mapping[int, EventLabels]:
        """What scopes ask of the team's events with these kiteseq, by kiteseq; those that are not kept are left out."""
        ...

    async def events(self, team_id: TeamId, seqs: Sequence[int]) -> Mapping[int, FoundEvent]:
        """The team's events with these kiteseq, by kiteseq; those that are not kept are left out."""
        ...

    async def archived_to(self, partition: int) -> int | None:
        """The offset of the newest event of that partition of the log that the archive has; None if it has none."""
        ...


class WebhookConfigs(Protocol):
    """Which webhook config a team has."""

    async def active(self, team_id: TeamId) -> WebhookConfigId | None:
        """The team's active config, as far as anything was written before this call; None if it has none."""
        ...


class DeliveryOrders(Protocol):
    """The way to delivery."""

    async def give(self, orders: Sequence[DeliveryOrdered]) -> None:
        """Have these carried out; returns once they are durable. Raises Unavailable or OutcomeOpen: then some may be, and giving them
        again does no harm."""
        ...


class Allowances(Protocol):
    """What a team's account allows."""

    async def take(self, team_id: TeamId) -> Allowance:
        """Count one request of the team; whether it is let through stands in the answer."""
        ...


class PageCharges(Protocol):
    """What the wallet holds for pages that are being charged."""

    async def reserve(self, usage: PageUsage) -> WalletFacts:
        """Hold the page's price if the subscription asks for one and the free part of the wallet covers it, in one atomic step.

        The same usage again holds nothing more.
        """
        ...

    async def release(self, usage: PageUsage) -> None:
        """Free what is held for a usage that is surely not in the log. Never raises: what stays held lapses."""
        ...


class UsageLog(Protocol):
    """Where usages go that billing debits."""

    async def append(self, usage: PageUsage, reserved: Reserved) -> None:
        """Log the usage of a page, once durable. Raises Unavailable (surely not logged, also later) or OutcomeOpen."""
        ...


@dataclass(frozen=True, slots=True)
class Paid:
    """Money that has arrived for a range of events: what it bought, what that cost, and the headers that say so."""

    bought: PaidRange
    amount_atomic: int
    headers: Mapping[str, str]


class Till(Protocol):
    """What one request can do about paying."""

    @property
    def shows_payment(self) -> bool:
        """Whether the request shows a payment that may be taken here."""
        ...

    @property
    def quoted(self) -> Priced | None:
        """What was promised to this very request, if its payment shows a quote that still holds."""
        ...

    def payment_required(self, priced: Priced) -> ApiError:
        """What asks for a payment for exactly this range, or says that this server takes none."""
        ...

    async def pay(self, due: Due) -> Paid | None:
        """Hand the payment in that the request shows: what it has bought, now or before; None if the request goes on without it.

        Raises ApiError for everything else that may become of a payment, and Unavailable if it could not be handed in.
        """
        ...


class Quarantine(Protocol):
    """Where records go that no row can be made of."""

    async def put(self, records: Sequence[BadRecord]) -> None:
        """Keep them, with their reasons. Returns when they are durable; a record may be kept more than once."""
        ...
