"""What callers were told against what there is: each broken promise in words, by what kind of break it is. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kite_cli.chaos.memory import Accepted, Memory, Walk

# What each break is called in the table.
LOST: Final = "lost"
DOUBLED: Final = "doubled"
WRONG_BALANCE: Final = "wrong balance"
REORDERED: Final = "reordered"
FALSE_ANSWER: Final = "false answer"
BREAKS: Final = (LOST, DOUBLED, WRONG_BALANCE, REORDERED, FALSE_ANSWER)
# What no caller may notice but by a 503, which says that the same request will be taken a little later.
UNNOTICED: Final = frozenset({"roll"})
_LATER: Final = "503"
ENDED: Final = frozenset({"delivered", "dead", "cancelled", "filtered", "no_endpoint", "blocked"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger entry, as far as it matters here."""

    id: str
    team_id: str
    reason: str
    amount_atomic: int
    balance_after_atomic: int
    shortfall_atomic: int
    event_id: str | None
    transaction: str | None


@dataclass(slots=True)
class Found:
    """What log, ledger, wallets, deliveries and GET /events hold once everything has come to rest.

    `events`: the event ids of the log by the text that only one message has. `walks`: GET /events from the beginning, by team: (event id,
    kiteseq, created_at). `outcomes`: the status of each delivery, by event id (`outcome_after`). `wallets`: (balance, reserved) by team.
    """

    events: dict[str, list[str]] = field(default_factory=dict)
    event_counts: Counter[str] = field(default_factory=Counter)
    ledger: list[Entry] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    walks: dict[str, list[tuple[str, int, str]]] = field(default_factory=dict)
    wallets: dict[str, tuple[int, int]] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    said: dict[tuple[str, str], str] = field(default_factory=dict)
    payments_gap_atomic: int = 0


@dataclass(frozen=True, slots=True)
class Break:
    """One broken promise."""

    kind: str
    what: str


def judge(memory: Memory, found: Found, *, sure_receivers: frozenset[str], opened: Mapping[str, int]) -> list[Break]:
    """Every broken promise. `sure_receivers`: teams whose webhook is always there and takes everything in the end. `opened`: what each
    team's wallet began with."""
    return [
        *_in_the_log(memory, found),
        *_in_the_ledger(memory, found),
        *_delivered(memory, found, sure_receivers),
        *_readable(memory, found),
        *(broken for walk in memory.walks for broken in _walked(walk, found.walks.get(walk.team_id, []))),
        *_balances(found, opened, may_be_reserved(memory)),
        *_payments(memory, found),
        *_answers(memory, found),
    ]


def noticed(memory: Memory) -> Iterator[Break]:
    """Requests that had no answer, or another one of the server's troubles than 503."""
    for status, count in memory.statuses.items():
        if not status.isdigit() or (status >= "500" and status != _LATER):
            yield Break(FALSE_ANSWER, f"{count} requests ended with {status} while nothing but roll-outs happened")


def counted(breaks: Iterable[Break]) -> dict[str, int]:
    """How many of each kind, those that did not happen too."""
    counts = Counter(broken.kind for broken in breaks)
    return {kind: counts[kind] for kind in BREAKS}


def _in_the_log(memory: Memory, found: Found) -> Iterator[Break]:
    for event_id, accepted in memory.accepted.items():
        if event_id not in found.event_counts:
            yield Break(LOST, f"event {event_id} of {accepted.team_id} was accepted and is not in the log")
    for event_id, count in found.event_counts.items():
        if count > 1:
            yield Break(DOUBLED, f"event {event_id} is in the log {count} times")
    for text, ids in found.events.items():
        if len(ids) > 1:
            yield Break(DOUBLED, f"message {text} is {len(ids)} events: {', '.join(ids)}")
    for event_id in memory.twice_answered:
        yield Break(DOUBLED, f"event {event_id} was the answer to two messages")
    told = {accepted.text for accepted in memory.accepted.values()} | memory.open_texts
    for text in found.events.keys() - told:
        yield Break(FALSE_ANSWER, f"message {text} is in the log, and nobody was told so")


def _in_the_ledger(memory: Memory, found: Found) -> Iterator[Break]:
    charges: dict[str, list[Entry]] = {}
    for entry in found.ledger:
        if entry.reason == "event" and entry.event_id is not None:
            charges.setdefault(entry.event_id, []).append(entry)
    for event_id, accepted in memory.accepted.items():
        yield from _charged(event_id, accepted, charges.get(event_id, []))
    for event_id in charges.keys() - found.event_counts.keys():
        yield Break(WRONG_BALANCE, f"event {event_id} was charged and is not in the log")
    for entry_id, count in Counter(entry.id for entry in found.ledger).items():
        if count > 1:
            yield Break(DOUBLED, f"ledger entry {entry_id} stands there {count} times")


def _charged(event_id: str, accepted: Accepted, entries: Sequence[Entry]) -> Iterator[Break]:
    if not entries:
        yield Break(LOST, f"event {event_id} of {accepted.team_id} was accepted and never billed")
    if len(entries) > 1:
        yield Break(DOUBLED, f"event {event_id} of {accepted.team_id} was billed {len(entries)} times")
    price = accepted.price_atomic
    for entry in entries:
        if price is not None and entry.amount_atomic != -price:
            yield Break(WRONG_BALANCE, f"event {event_id} costs {price} and {-entry.amount_atomic} were taken")


def unfinished(in_flight: Mapping[str, int]) -> list[Break]:
    """What kitectl audit calls under way after everything has had its time to come to rest: it stands still.

    Reservations and payments may be those of callers who gave up; they are judged by what their callers were told.
    """
    return [
        Break(LOST, f"{count} {what}, after everything had come to rest")
        for what, count in in_flight.items()
        if what not in ("reservations", "payments")
    ]


def outcome_after(before: str | None, status: str) -> str:
    """What has become of a delivery when one more fact is read: an owner that was frozen may tell of its attempt behind the end."""
    ranks = {None: 0, "pending": 1, "retrying": 2, "delivered": 4}
    return before if before is not None and ranks.get(before, 3) > ranks.get(status, 3) else status


def _delivered(memory: Memory, found: Found, sure: frozenset[str]) -> Iterator[Break]:
    for event_id, accepted in memory.accepted.items():
        outcome = found.outcomes.get(event_id)
        if outcome not in ENDED:
            yield Break(LOST, f"the delivery of {event_id} of {accepted.team_id} has no outcome ({outcome or 'never tried'})")
        if accepted.team_id in sure and event_id not in memory.arrived:
            yield Break(LOST, f"event {event_id} of {accepted.team_id} never came to its webhook (outcome {outcome})")
    for event_id, arrived in memory.arrived.items():
        if len(arrived.bodies) > 1:
            yield Break(FALSE_ANSWER, f"event {event_id} came to its webhook with {len(arrived.bodies)} different bodies")
        if outcome_without_answer(found.outcomes.get(event_id), arrived.answers):
            yield Break(FALSE_ANSWER, f"the delivery of {event_id} is said to be delivered, and its webhook never took it")


def outcome_without_answer(outcome: str | None, answers: Counter[int]) -> bool:
    """Whether a delivery is called delivered though no answer was a 2xx."""
    return outcome == "delivered" and not any(200 <= status < 300 for status in answers)


def _readable(memory: Memory, found: Found) -> Iterator[Break]:
    shown = {team_id: Counter(event_id for event_id, _, _ in rows) for team_id, rows in found.walks.items()}
    for event_id, accepted in memory.accepted.items():
        if accepted.team_id in shown and event_id not in shown[accepted.team_id]:
            yield Break(LOST, f"event {event_id} of {accepted.team_id} was accepted and is not in GET /events")
    for team_id, counts in shown.items():
        for event_id, count in counts.items():
            if count > 1:
                yield Break(DOUBLED, f"event {event_id} of {team_id} is in GET /events {count} times")
        yield from _rising(team_id, found.walks[team_id])


def _walked(walk: Walk, rows: Sequence[tuple[str, int, str]]) -> Iterator[Break]:
    """What a reader that walked meanwhile missed or saw in another order: nothing may ever appear behind its cursor."""
    for event_id, count in Counter(event_id for event_id, _, _ in walk.rows).items():
        if count > 1:
            yield Break(DOUBLED, f"a reader of {walk.team_id} was shown event {event_id} {count} times")
    yield from _rising(walk.team_id, walk.rows)
    seen, last = {event_id for event_id, _, _ in walk.rows}, max((seq for _, seq, _ in walk.rows), default=-1)
    for event_id, seq, _ in rows:
        if seq <= last and event_id not in seen:
            yield Break(REORDERED, f"event {event_id} of {walk.team_id} appeared behind the cursor of a reader")
    for event_id in seen - {event_id for event_id, _, _ in rows} if rows else ():
        yield Break(LOST, f"event {event_id} of {walk.team_id} was shown to a reader and is gone from GET /events")


def _rising(team_id: str, rows: Sequence[tuple[str, int, str]]) -> Iterator[Break]:
    for (_, before, created), (event_id, after, later) in zip(rows, rows[1:], strict=False):
        if after < before:
            yield Break(REORDERED, f"event {event_id} of {team_id} came after one with a higher kiteseq")
        if later < created:
            yield Break(REORDERED, f"event {event_id} of {team_id} was created before the one in front of it")


def may_be_reserved(memory: Memory) -> Counter[str]:
    """How many messages of each team have an outcome that is still open: their money stays reserved until it is known, or for 90 s."""
    return Counter(text.rpartition("/")[0] for text in memory.open_texts)


def _balances(found: Found, opened: Mapping[str, int], open_: Counter[str]) -> Iterator[Break]:
    standing = dict.fromkeys(opened, 0)
    for entry in found.ledger:
        if entry.team_id not in standing:
            continue
        standing[entry.team_id] += entry.amount_atomic
        if entry.balance_after_atomic != standing[entry.team_id]:
            said, sum_ = entry.balance_after_atomic, standing[entry.team_id]
            yield Break(WRONG_BALANCE, f"entry {entry.id} of {entry.team_id} says {said} where the sum is {sum_}")
            standing[entry.team_id] = said
        if entry.shortfall_atomic:
            yield Break(WRONG_BALANCE, f"entry {entry.id} of {entry.team_id} lacked {entry.shortfall_atomic}: its reservation had gone")
    for team_id, (balance, reserved) in found.wallets.items():
        if balance != standing.get(team_id, balance):
            yield Break(WRONG_BALANCE, f"the wallet of {team_id} has {balance} where the ledger comes to {standing[team_id]}")
        if reserved and not open_[team_id]:
            yield Break(WRONG_BALANCE, f"{reserved} are still reserved in the wallet of {team_id}, and nothing is under way")
    for team_id, used in found.used.items():
        charged = len({one.event_id for one in found.ledger if one.team_id == team_id and one.reason == "event"})
        # What is reserved counts as used.
        if not charged <= used <= charged + open_[team_id]:
            yield Break(WRONG_BALANCE, f"{team_id} has used {used} events by its counter, and {charged} by the ledger")


def _payments(memory: Memory, found: Found) -> Iterator[Break]:
    credits_: dict[str, list[Entry]] = {}
    for entry in found.ledger:
        if entry.transaction is not None:
            credits_.setdefault(entry.transaction.lower(), []).append(entry)
    for paid in memory.paid:
        entries = [one for one in credits_.get(paid.transaction.lower(), []) if one.amount_atomic > 0]
        if not entries:
            yield Break(LOST, f"payment {paid.transaction} of {paid.team_id} was taken and never credited")
        if len(entries) > 1:
            yield Break(DOUBLED, f"payment {paid.transaction} of {paid.team_id} was credited {len(entries)} times")
        yield from (
            Break(WRONG_BALANCE, f"payment {paid.transaction} of {paid.amount_atomic} was credited as {one.amount_atomic}")
            for one in entries[:1] if one.amount_atomic != paid.amount_atomic
        )  # fmt: skip
    if found.payments_gap_atomic:
        yield Break(WRONG_BALANCE, f"wallets and the chain differ by {found.payments_gap_atomic} atomic units")
    taken: Counter[str] = Counter()
    for entry in found.ledger:
        taken[entry.team_id] -= entry.amount_atomic if entry.reason == "replay" else 0
    for walk in memory.walks:
        if taken[walk.team_id] < walk.charged_atomic:
            yield Break(WRONG_BALANCE, f"pages of {walk.team_id} said {walk.charged_atomic}, and {taken[walk.team_id]} were taken")


def _answers(memory: Memory, found: Found) -> Iterator[Break]:
    for what, count in memory.wrong_answers.items():
        yield Break(FALSE_ANSWER, f"{count} times: {what}")
    for at, said in memory.said.items():
        now = found.said.get(at)
        if now != said.value:
            yield Break(FALSE_ANSWER, f"{said.what} of {said.team_id} was answered to be {said.value}, and is {now}")
