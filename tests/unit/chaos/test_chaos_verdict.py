"""Each promise, kept and broken: what callers were told against what there is."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from kite_cli.chaos.memory import Accepted, Arrived, Memory, Paid, Said, Walk
from kite_cli.chaos.verdict import BREAKS, Break, Entry, Found, counted, judge, noticed, outcome_after, unfinished

TEAM, PRICE, OPENED = "team_a", 80, 1_000


@dataclass(frozen=True)
class Case:
    """What callers remember, and what there is."""

    memory: Memory
    found: Found


Damage = Callable[[Case], object]


def told(text: str) -> Accepted:
    return Accepted(TEAM, text, "gateway", 0.0, 0.0, 0.1, is_first=True, price_atomic=PRICE)


def charge(number: int, event_id: str, amount: int = -PRICE, shortfall: int = 0) -> Entry:
    return Entry(f"entry-{event_id}", TEAM, "event", amount, OPENED - PRICE * number, shortfall, event_id, None)


def arrived() -> Arrived:
    return Arrived(TEAM, 0.2, 1, {b"body"}, Counter({204: 1}))


def whole() -> tuple[Memory, Found]:
    """Two events of one team, billed, delivered, read; one payment; nothing wrong."""
    rows = [("e1", 10, "2026-01-01 00:00:00.000"), ("e2", 20, "2026-01-01 00:00:00.000")]
    memory = Memory(
        accepted={"e1": told("one"), "e2": told("two")}, arrived={"e1": arrived(), "e2": arrived()},
        paid=[Paid(TEAM, "0xAB", 500, 0.0, 1.0)], walks=[Walk(TEAM, list(rows), 20)],
        said={(TEAM, "plan"): Said(TEAM, "plan", "pro")},
    )  # fmt: skip
    opening = Entry("opening", TEAM, "deposit", OPENED, OPENED, 0, None, None)
    after = OPENED - 2 * PRICE
    found = Found(
        events={"one": ["e1"], "two": ["e2"]}, event_counts=Counter({"e1": 1, "e2": 1}),
        ledger=[
            opening, charge(1, "e1"), charge(2, "e2"), Entry("credit", TEAM, "deposit", 500, after + 500, 0, None, "0xab"),
            Entry("page", TEAM, "replay", -20, after + 480, 0, None, None),
        ],
        outcomes={"e1": "delivered", "e2": "delivered"}, walks={TEAM: list(rows)}, wallets={TEAM: (after + 480, 0)}, used={TEAM: 2},
        said={(TEAM, "plan"): "pro"},
    )  # fmt: skip
    return memory, found


def verdict(damage: Damage) -> list[Break]:
    case = Case(*whole())
    damage(case)
    return judge(case.memory, case.found, sure_receivers=frozenset({TEAM}), opened={TEAM: OPENED})


def test_what_is_whole_is_found_whole() -> None:
    assert verdict(lambda _: None) == []


def replaced(entry: Entry, *others: Entry) -> Damage:
    def damage(case: Case) -> None:
        at = next(number for number, one in enumerate(case.found.ledger) if one.id == entry.id)
        case.found.ledger[at : at + 1] = others

    return damage


def twice_the_same_entry(case: Case) -> None:
    case.found.ledger.append(case.found.ledger[1])


LOST: list[Damage] = [
    lambda case: case.found.event_counts.pop("e1"),
    replaced(charge(1, "e1")),
    lambda case: case.found.outcomes.pop("e1"),
    lambda case: case.found.outcomes.update(e1="retrying"),
    lambda case: case.memory.arrived.pop("e1"),
    lambda case: case.found.walks[TEAM].pop(),
    lambda case: case.memory.paid.append(Paid(TEAM, "0xcd", 1, 0.0, 1.0)),
]
DOUBLED: list[Damage] = [
    lambda case: case.found.event_counts.update(["e1"]),
    lambda case: case.found.events["one"].append("e3"),
    lambda case: case.memory.accept("e1", told("three")),
    replaced(charge(1, "e1"), charge(1, "e1"), charge(1, "e1")),
    twice_the_same_entry,
    lambda case: case.found.walks[TEAM].insert(1, case.found.walks[TEAM][0]),
    lambda case: case.memory.walks[0].rows.insert(1, case.memory.walks[0].rows[0]),
    lambda case: case.found.ledger.append(Entry("again", TEAM, "deposit", 500, 0, 0, None, "0xab")),
]
WRONG_BALANCE: list[Damage] = [
    replaced(charge(1, "e1"), charge(1, "e1", amount=-79)),
    replaced(charge(1, "e1"), charge(1, "e1", shortfall=1)),
    lambda case: case.found.wallets.update({TEAM: (1, 0)}),
    lambda case: case.found.wallets.update({TEAM: (case.found.wallets[TEAM][0], 80)}),
    lambda case: case.found.used.update({TEAM: 3}),
    lambda case: setattr(case.found, "payments_gap_atomic", 5),
    lambda case: setattr(case.memory.walks[0], "charged_atomic", 21),
    lambda case: case.memory.paid.append(Paid(TEAM, "0xab", 501, 0.0, 1.0)),
    lambda case: case.found.ledger.append(charge(3, "unknown")),
]
REORDERED: list[Damage] = [
    lambda case: case.found.walks[TEAM].reverse(),
    lambda case: case.memory.walks[0].rows.pop(0),
    lambda case: case.memory.walks[0].rows.append(("e3", 15, "2026-01-01 00:00:00.000")),
    lambda case: case.found.walks[TEAM].append(("e2", 30, "2025-12-31 23:59:59.999")),
]
FALSE: list[Damage] = [
    lambda case: case.found.events.update(three=["e3"]),
    lambda case: case.memory.arrived["e1"].bodies.add(b"another"),
    lambda case: setattr(case.memory.arrived["e1"], "answers", Counter({500: 1})),
    lambda case: case.memory.wrong_answers.update(["POST was answered 500"]),
    lambda case: case.found.said.update({(TEAM, "plan"): "growth"}),
]


@pytest.mark.parametrize(
    ("kind", "damage"),
    [(kind, one) for kind, damages in zip(BREAKS, (LOST, DOUBLED, WRONG_BALANCE, REORDERED, FALSE), strict=True) for one in damages],
)
def test_every_damage_is_found_and_called_what_it_is(kind: str, damage: Damage) -> None:
    assert counted(verdict(damage))[kind] >= 1


def test_what_was_never_answered_may_be_there_or_not() -> None:
    def damage(case: Case) -> None:
        memory, found = case.memory, case.found
        memory.open_texts |= {f"{TEAM}/3", f"{TEAM}/4"}
        found.events[f"{TEAM}/3"], found.event_counts["e3"] = ["e3"], 1
        found.wallets[TEAM] = (found.wallets[TEAM][0], 2 * PRICE)
        found.used[TEAM] = 4

    assert verdict(damage) == []


def test_a_receiver_that_may_be_gone_needs_no_arrival_but_an_outcome() -> None:
    memory, found = whole()
    memory.arrived.pop("e1")
    found.outcomes["e1"] = "cancelled"
    assert judge(memory, found, sure_receivers=frozenset(), opened={TEAM: OPENED}) == []


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        (["retrying", "delivered"], "delivered"),
        (["delivered", "retrying"], "delivered"),  # told by one that was frozen in its attempt: seed 11
        (["pending", "retrying"], "retrying"),
        (["retrying", "dead", "retrying"], "dead"),
        (["dead", "cancelled"], "cancelled"),
        (["pending", "something new"], "something new"),
    ],
)
def test_what_ended_a_delivery_is_its_outcome(statuses: list[str], outcome: str) -> None:
    told_of: str | None = None
    for status in statuses:
        told_of = outcome_after(told_of, status)
    assert told_of == outcome


def test_what_is_still_under_way_when_all_is_at_rest_stands_still() -> None:
    """An archiver of the ledger that had stopped was no violation of the audit's, and of nobody else's either."""
    assert unfinished({}) == []
    assert unfinished({"reservations": 3, "payments": 1}) == []
    assert [one.kind for one in unfinished({"ledger not archived yet": 2, "deliveries under way": 1})] == ["lost", "lost"]


@pytest.mark.parametrize("status", ["200", "202", "402", "404", "409", "503"])
def test_an_answer_is_nothing_that_is_noticed_of_a_roll_out(status: str) -> None:
    assert list(noticed(Memory(statuses=Counter({status: 3})))) == []


@pytest.mark.parametrize("status", ["500", "502", "504", "ServerDisconnectedError", "TimeoutError"])
def test_a_request_without_an_answer_is_a_roll_out_that_was_noticed(status: str) -> None:
    (broken,) = noticed(Memory(statuses=Counter({"202": 9, status: 3})))
    assert (broken.kind, broken.what) == ("false answer", f"3 requests ended with {status} while nothing but roll-outs happened")
