"""The attempt log of a team: what is asked of it, and what the facts on record say of one delivery. No SQL, no look-ups.

Order is newest event first: kiteseq descending, then delivery id descending. A cursor is `<kiteseq>:<delivery id>` of a page's last row;
the next page begins strictly behind it. A delivery's place never changes, so a walk meets each once, whatever happens to it meanwhile.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, get_args

from kite_common.errors import Malformed
from kite_common.events.deliveries import DeliveryAttempted, DeliveryConcluded, DeliveryPending, DeliveryStatus
from kite_common.ids import DeliveryId, EventId, TeamId, is_uuid
from kite_replay.domain.scopes import Scope, matches

STATUSES: Final[frozenset[str]] = frozenset(get_args(DeliveryStatus))
OPEN: Final = frozenset({"pending", "retrying"})
_SEQ: Final = re.compile(r"0|[1-9][0-9]{0,18}")

DeliveryFact = DeliveryAttempted | DeliveryConcluded | DeliveryPending
# What is on record about deliveries, by the kind of its record.
FACTS: Final[Mapping[str, type[DeliveryFact]]] = {fact.kind: fact for fact in (DeliveryAttempted, DeliveryConcluded, DeliveryPending)}


class DeliveryKey(NamedTuple):
    """The place of one delivery; of a test event `kiteseq` is no event's."""

    kiteseq: int
    delivery_id: str


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries of a team are wanted; None = whatever it is. Times are milliseconds since 1970, of the delivery's beginning,
    `since_ms` included, `until_ms` not; `updated_before_ms` of the newest fact on record about it, not included."""

    status: str | None = None
    event_id: EventId | None = None
    delivery_id: DeliveryId | None = None
    event_type: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    updated_before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Places of deliveries behind `before` (None: from the newest) of which some fact passes what of the filter a single fact can tell."""

    team_id: TeamId
    wanted: DeliveryFilter
    before: DeliveryKey | None
    limit: int


class FoundFact(NamedTuple):
    """One fact as logged: the place of its delivery, its own in the log, and when it was appended (milliseconds since 1970)."""

    key: DeliveryKey
    offset: int
    appended_ms: int
    fact: DeliveryFact


class EventLabels(NamedTuple):
    """What scopes ask of an event."""

    type: str
    source: str
    slug: str
    agent_to: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as its facts tell it. `decided` is the fact that gave it its status; `attempts` are in order, each number once."""

    key: DeliveryKey
    decided: DeliveryFact
    attempts: tuple[DeliveryAttempted, ...]
    redrives: int
    created_ms: int
    updated_ms: int

    @property
    def status(self) -> DeliveryStatus:
        """Its status (wire contract, 10.4)."""
        return self.decided.status

    @property
    def kiteseq(self) -> int | None:
        """Its event's; a test event has none."""
        return None if self.decided.test else self.key.kiteseq

    @property
    def url(self) -> str | None:
        """Where it went last, or would have gone; of a round that has just begun where the one before went."""
        if not isinstance(self.decided, DeliveryPending) and self.decided.url is not None:
            return self.decided.url
        return self.attempts[-1].url if self.attempts else None

    @property
    def reason(self) -> str | None:
        """Why it ended as it did, a word."""
        return None if isinstance(self.decided, DeliveryPending) else self.decided.reason

    @property
    def attempt_count(self) -> int:
        """The number of the last attempt on record."""
        return self.attempts[-1].attempt if self.attempts else 0

    @property
    def next_attempt_ms(self) -> int | None:
        """When the next attempt may start, while one is planned."""
        decided = self.decided
        return decided.next_attempt_at if isinstance(decided, DeliveryAttempted) and decided.status == "retrying" else None


def delivery_of_facts(found: Sequence[FoundFact]) -> Delivery:
    """What the facts of one delivery say, in whatever order and however often they are given. Raises ValueError without any.

    The last round counts, and in it what ended it, whatever was recorded behind that: an owner that was frozen tells of an attempt that
    somebody else has long made. What the receiver has taken is delivered. Of others the last fact in the log counts; that it is pending
    only while the round has no other fact.
    """
    ordered = sorted(found, key=lambda one: one.offset)
    redrives = max(one.fact.redrives for one in ordered)
    of_round = [one.fact for one in ordered if one.fact.redrives == redrives]
    attempts = {one.fact.attempt: one.fact for one in ordered if isinstance(one.fact, DeliveryAttempted)}
    return Delivery(
        key=ordered[0].key,
        decided=max(reversed(of_round), key=_weight),
        attempts=tuple(attempts[number] for number in sorted(attempts)),
        redrives=redrives,
        created_ms=ordered[0].appended_ms,
        updated_ms=ordered[-1].appended_ms,
    )


def _weight(fact: DeliveryFact) -> int:
    match fact.status:
        case "delivered":
            return 3
        case "retrying":
            return 1
        case "pending":
            return 0
        case _:
            return 2


def deliveries_of(found: Iterable[FoundFact], order: Sequence[DeliveryKey]) -> list[Delivery]:
    """The deliveries with these keys, in this order; those without facts are left out."""
    facts: dict[DeliveryKey, list[FoundFact]] = {}
    for one in found:
        facts.setdefault(one.key, []).append(one)
    return [delivery_of_facts(facts[key]) for key in order if key in facts]


def is_wanted(delivery: Delivery, wanted: DeliveryFilter) -> bool:
    """Whether a delivery passes the whole filter as it stands now."""
    fact = delivery.decided
    return (
        wanted.status in (None, delivery.status)
        and wanted.event_id in (None, fact.event_id)
        and wanted.delivery_id in (None, fact.delivery_id)
        and wanted.event_type in (None, fact.event_type)
        and (wanted.since_ms is None or delivery.created_ms >= wanted.since_ms)
        and (wanted.until_ms is None or delivery.created_ms < wanted.until_ms)
        and (wanted.updated_before_ms is None or delivery.updated_ms < wanted.updated_before_ms)
    )


def is_visible(delivery: Delivery, scopes: Iterable[Scope], labels: EventLabels | None) -> bool:
    """Whether a key with these scopes may see it, as it may see its event. `labels` None: the event is not kept, or there never was one;
    then only the type is known."""
    known = labels or EventLabels(delivery.decided.event_type, "", "", "")
    return matches(scopes, known.type, known.source, known.slug, known.agent_to)


def parse_cursor(text: str) -> DeliveryKey:
    """The cursor a client sent. Raises Malformed for every text that `format_cursor` does not write, and nothing else."""
    seq, separator, delivery_id = text.partition(":")
    if not separator or _SEQ.fullmatch(seq) is None or not is_uuid(delivery_id) or int(seq) >= 1 << 63:
        raise Malformed("not a cursor")
    return DeliveryKey(int(seq), delivery_id.lower())


def format_cursor(key: DeliveryKey) -> str:
    """The text `parse_cursor` reads as the same place."""
    return f"{key.kiteseq}:{key.delivery_id}"
