"""A log as the services write it is found clean; each way of tampering with it is found by the checks it concerns, and by no others."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kite_cli.admin.audit.projection import Projected
from kite_common.events.codec import Record, encode
from kite_common.testing import make
from kite_common.topics import ACCOUNTS, COMMANDS, DEAD_LETTERS, DELIVERIES, EVENTS, LEDGER, RETRIES, Topic
from support.audit_world import PARTITION, PRICE, TEAMS, ArchiveRow, World, audited, violated

DAY_MS = 86_400_000
ONE, OTHER, THIRD = TEAMS


def opened(world: World, *teams: str) -> None:
    for number, team in enumerate(teams):
        world.command(make.open_account(team_id=team, command_id=f"open-{team}-{number}", balance_atomic=1_000_000))
    world.step()


def usual() -> World:
    """Two teams, messages of both, a page, a deposit, a day later."""
    world = World()
    opened(world, ONE, OTHER)
    for _ in range(4):
        world.message(ONE)
        world.message(OTHER)
    world.page(ONE)
    world.step()
    world.command(make.credit_wallet(team_id=ONE, command_id="more", amount_atomic=500))
    world.now_ms += DAY_MS
    world.message(ONE)
    world.message(ONE)
    return world.settle()


async def test_a_log_as_services_write_it_is_clean(tmp_path: Path) -> None:
    found = await audited(usual(), tmp_path)
    assert violated(found) == set()
    assert not any(found.in_flight.values())
    assert found.checked["accepted"] == 21
    assert found.checked["charged"] == 11
    assert found.checked["balances"] == 14
    assert found.checked["archive_events"] == 10
    assert found.checked["archive_ledger"] == 14
    assert found.checked["deliveries"] == 20
    assert found.checked["redis"] == 2


def _drop(topic: str, place: int) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        del world.log[topic][place]

    return tamper


def _double(topic: str, place: int) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        entries = world.log[topic]
        entries.append(entries[place]._replace(offset=entries[-1].offset + 1))

    return tamper


def _swap(topic: str, place: int, other: int) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        entries = world.log[topic]
        one, two = entries[place], entries[other]
        entries[place], entries[other] = two._replace(offset=one.offset), one._replace(offset=two.offset)

    return tamper


def _archive(change: Callable[[list[ArchiveRow]], object]) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        change(world.archive["events"])

    return tamper


def _not_projected(world: World) -> None:
    del world.redis[ONE]


def _redis(**fields: str) -> Callable[[World], None]:
    def tamper(world: World) -> None:
        held = world.redis[ONE]
        world.redis[ONE] = Projected(dict(held.account) | {k.encode(): v.encode() for k, v in fields.items()}, held.reserved, held.pending)

    return tamper


def _still_reserved(world: World) -> None:
    usage = orjson.loads(world.log[EVENTS.name][1].value or b"")
    event_id, held = usage["event_id"].encode(), world.redis[ONE]
    world.redis[ONE] = Projected(held.account, {event_id: b"100 20370 0", b"total": b"100"}, (event_id,))


def _wrong_total(world: World) -> None:
    world.redis[ONE] = Projected(world.redis[ONE].account, {b"total": b"7"}, ())


def _unknown_outcome(world: World) -> None:
    world.change(DELIVERIES, 0, event_id="0198a7b2-0000-7000-8000-000000000000")


def _left_open(world: World) -> None:
    world.change(DELIVERIES, 0, status="retrying")


def _bury_a_usage(world: World) -> None:
    world.append(DEAD_LETTERS, encode(make.dead_letter(service="billing", topic=EVENTS.name, partition=PARTITION, offset=1, reason="bad")))
    del world.log[LEDGER.name][2]


def _elsewhere(world: World) -> None:
    team = "team_0" if "team_0" not in TEAMS else "team_1"
    for place in (0, 1):
        entry = world.log[EVENTS.name][place]
        fields = orjson.loads(entry.value or b"")
        if "team_id" in fields:
            fields["team_id"] = team
        world.log[EVENTS.name][place] = entry._replace(key=team.encode(), value=orjson.dumps(fields))


# The archive is as it was before the tampering, so of a changed log it has other rows: that is left out where it is not the point.
IN_THE_LOG = {
    "an event without its record": (_drop(EVENTS.name, 0), {"accepted", "deliveries"}),
    "a usage without its record": (_drop(EVENTS.name, 1), {"accepted", "charged"}),
    "an event that stands twice": (_double(EVENTS.name, 0), {"accepted", "event_ids", "deliveries"}),
    "a usage that stands twice": (_double(EVENTS.name, 1), {"accepted"}),
    "a page's usage that stands twice": (_double(EVENTS.name, 16), {"event_ids"}),
    "a usage of another event": (lambda world: world.change(EVENTS, 1, event_id="other"), {"accepted", "charged"}),
    "a usage of another price": (lambda world: world.change(EVENTS, 1, price_atomic=PRICE + 1), {"charged"}),
    "an event of a team of another partition": (_elsewhere, {"placement", "charged"}),
    "two usages in each other's place": (_swap(EVENTS.name, 1, 5), {"accepted", "charged"}),
    "an entry that is missing": (_drop(LEDGER.name, 2), {"charged", "balances", "counters"}),
    "an entry that stands twice": (_double(LEDGER.name, 2), {"charged", "balances", "snapshots", "counters"}),
    "two entries in each other's place": (_swap(LEDGER.name, 2, 3), {"charged"}),
    "two entries of a team in each other's place": (_swap(LEDGER.name, 2, 4), {"charged", "balances"}),
    "an entry of another id": (lambda world: world.change(LEDGER, 2, id="0198a7b2-0000-7000-8000-000000000000"), {"ledger_ids"}),
    "a credit of another id": (lambda world: world.change(LEDGER, 0, id="0198a7b2-0000-7000-8000-000000000000"), {"ledger_ids"}),
    "an entry of another amount": (lambda world: world.change(LEDGER, 2, amount_atomic=-PRICE - 1), {"charged", "balances", "counters"}),
    "an entry of another quantity": (lambda world: world.change(LEDGER, 2, quantity=2), {"charged", "counters"}),
    "a balance that was made up": (lambda world: world.change(LEDGER, 2, balance_after_atomic=5), {"balances"}),
    "a balance below zero": (lambda world: world.change(LEDGER, -1, balance_after_atomic=-5), {"balances", "snapshots"}),
    "a credit that stands twice": (_double(LEDGER.name, 0), {"ledger_ids", "balances", "snapshots"}),
    "an entry that nobody can read": (lambda world: world.change(LEDGER, 2, amount_atomic="much"), {"balances", "charged", "counters"}),
    "an event without an outcome": (_drop(DELIVERIES.name, 0), {"deliveries"}),
    "an outcome of another event": (_unknown_outcome, {"deliveries"}),
    "an outcome of another delivery": (lambda world: world.change(DELIVERIES, 0, delivery_id="x"), {"deliveries"}),
    "a delivery that nobody goes on with": (_left_open, {"open_deliveries"}),
    "a usage in the dead letters": (_bury_a_usage, {"dead_letters", "balances", "counters"}),
    "billing's group ahead of its state": (lambda world: world.committed.update({EVENTS.name: 1_000}), {"positions"}),
    "billing's group behind its state": (lambda world: world.committed.update({EVENTS.name: 2}), {"positions"}),
}
ELSEWHERE = {
    "a row that is missing": (_archive(lambda rows: rows.pop(2)), {"archive_events"}),
    "a row that stands twice": (_archive(lambda rows: rows.append(rows[2])), {"archive_events"}),
    "a row of nothing": (_archive(lambda rows: rows.append(ArchiveRow(1, 5, ""))), {"archive_events"}),
    "a row of other bytes": (_archive(lambda rows: rows.insert(0, rows.pop(0)._replace(digest=1))), {"archive_events"}),
    "a balance in Redis": (_redis(balance="1"), {"redis"}),
    "a counter in Redis": (_redis(used="1"), {"redis"}),
    "Redis behind": (_redis(applied="1"), {"redis"}),
    "a team that is not in Redis": (_not_projected, {"redis"}),
    "what is charged and still reserved": (_still_reserved, {"redis"}),
    "a total that is no sum": (_wrong_total, {"redis"}),
}


@pytest.mark.parametrize(("tamper", "checks"), IN_THE_LOG.values(), ids=IN_THE_LOG)
async def test_what_is_done_to_the_log_is_found(tmp_path: Path, tamper: Callable[[World], None], checks: set[str]) -> None:
    world = usual()
    world.archive.clear()
    tamper(world)
    found = await audited(world, tmp_path)
    assert violated(found) == checks, found.kept


@pytest.mark.parametrize(("tamper", "checks"), ELSEWHERE.values(), ids=ELSEWHERE)
async def test_what_is_done_to_the_archive_or_redis_is_found(tmp_path: Path, tamper: Callable[[World], None], checks: set[str]) -> None:
    world = usual()
    tamper(world)
    found = await audited(world, tmp_path)
    assert violated(found) == checks, found.kept


@pytest.mark.parametrize("field", ["balance_atomic", "period_used", "period_charged_atomic", "day_used"])
async def test_a_snapshot_that_says_something_else_is_found(tmp_path: Path, field: str) -> None:
    world = usual()
    place = max(place for place, entry in enumerate(world.log[ACCOUNTS.name]) if entry.key == ONE.encode())
    world.redis.clear()
    world.change(ACCOUNTS, place, **{field: 3_000_000})
    found = await audited(world, tmp_path)
    assert violated(found) == {"snapshots" if field == "balance_atomic" else "counters"}


async def test_a_tampered_log_differs_from_its_archive(tmp_path: Path) -> None:
    world = usual()
    world.change(EVENTS, 0, source="elsewhere")
    found = await audited(world, tmp_path)
    assert violated(found) == {"archive_events"}
    assert found.kept["archive_events"][0].position.endswith("@0")


async def test_rows_that_an_erased_team_has_no_more_are_not_missed(tmp_path: Path) -> None:
    world = usual()
    world.erase(ONE)
    found = await audited(world, tmp_path)
    assert violated(found) == set()
    assert found.checked["archive_events"] == 4
    assert found.checked["archive_ledger"] == 14, "the ledger stays"
    assert found.note_of("archive_events") == "6 of erased teams, which have no row"
    assert found.note_of("archive_deliveries") == "6 of erased teams, which have no row"


async def test_rows_of_others_are_missed_beside_those_of_an_erased_team(tmp_path: Path) -> None:
    world = usual()
    world.erase(ONE)
    lost = world.archive["events"].pop(1)
    found = await audited(world, tmp_path)
    assert [(one.team_id, one.position) for one in found.kept["archive_events"]] == [(OTHER, f"events-3@{lost.offset}")]


async def test_rows_that_a_team_has_lost_without_being_erased_are_missed(tmp_path: Path) -> None:
    world = usual()
    world.erase(ONE)
    world.erased = frozenset()
    assert violated(await audited(world, tmp_path)) == {"archive_events", "archive_deliveries"}


async def test_what_waits_in_a_retry_topic_is_under_way_and_no_violation(tmp_path: Path) -> None:
    world = usual()
    outcome = orjson.loads(world.log[DELIVERIES.name][0].value or b"")
    _left_open(world)
    world.archive.clear()
    parked = make.delivery_parked(team_id=ONE, event_id=outcome["event_id"], kiteseq=outcome["kiteseq"])
    world.append(RETRIES[2], encode(parked))
    found = await audited(world, tmp_path)
    assert violated(found) == set()
    assert found.in_flight == {"deliveries waiting in retry topics": 1}


async def test_what_services_have_not_come_to_is_under_way_and_no_violation(tmp_path: Path) -> None:
    world = usual()
    world.delivered_up_to = world.log[EVENTS.name][-1].offset + 1
    world.message(OTHER)
    world.command(make.credit_wallet(team_id=ONE, command_id="late", amount_atomic=1))
    for rows in world.archive.values():
        rows.sort()
    found = await audited(world, tmp_path)
    # The archive of the world is compared up to the log's end: the one row it has not got is the only thing to find.
    assert violated(found) == {"archive_events"}
    assert found.in_flight["usages not charged yet"] == 1
    assert found.in_flight["events not delivered yet"] == 1
    assert found.in_flight["teams whose accounts change right now"] == 2


async def test_a_log_that_is_read_from_the_middle_is_clean_too(tmp_path: Path) -> None:
    world = usual()
    world.archive.clear()
    first = {EVENTS.name: 8, LEDGER.name: 6, DELIVERIES.name: 4}
    since_ms = world.log[EVENTS.name][8].timestamp
    found = await audited(world, tmp_path, since_ms=since_ms, first=lambda topic: first.get(topic, 0))
    assert violated(found) == set()
    assert found.checked["charged"] == 7


async def test_what_is_forged_without_a_log_is_no_entry(tmp_path: Path) -> None:
    world = usual()
    world.archive.clear()
    world.append(LEDGER, Record(ONE.encode(), b"[]", ()))
    world.append(EVENTS, Record(ONE.encode(), b"\xff", (("kite-record", b"usage"),)))
    world.append(EVENTS, Record(ONE.encode(), b"{}", (("kite-record", b"what"),)))
    assert violated(await audited(world, tmp_path)) == {"balances", "accepted"}


actions = st.lists(st.tuples(st.sampled_from(["message", "page", "credit", "step", "day", "month"]), st.sampled_from(TEAMS)), max_size=40)


def walked(steps: list[tuple[str, str]]) -> World:
    world = World()
    opened(world, *TEAMS)
    for number, (action, team) in enumerate(steps):
        match action:
            case "message":
                world.message(team)
            case "page":
                world.page(team)
            case "credit":
                world.now_ms += 1
                world.command(make.credit_wallet(team_id=team, command_id=f"credit-{number}", amount_atomic=number + 1))
            case "step":
                world.step()
            case _:
                world.step()
                world.now_ms += DAY_MS * (1 if action == "day" else 31)
    return world.settle()


@settings(max_examples=60)
@given(actions)
async def test_whatever_teams_do_a_log_as_services_write_it_is_clean(steps: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        found = await audited(walked(steps), Path(folder))
    assert violated(found) == set(), found.kept


@settings(max_examples=60)
@given(actions, st.sampled_from([EVENTS, LEDGER, DELIVERIES]), st.sampled_from(["drop", "double", "alter"]), st.data())
async def test_whatever_is_dropped_doubled_or_altered_is_found(
    steps: list[tuple[str, str]], topic: Topic, how: str, data: st.DataObject
) -> None:
    world, name = walked([("message", ONE), *steps]), topic.name
    place = data.draw(st.integers(0, len(world.log[name]) - 1))
    match how:
        case "drop":
            _drop(name, place)(world)
        case "double":
            _double(name, place)(world)
        case _:
            entry = world.log[name][place]
            world.log[name][place] = entry._replace(value=(entry.value or b"").replace(b'"', b"'", 1))
    with TemporaryDirectory() as folder:
        found = await audited(world, Path(folder))
    assert violated(found), (how, name, place)


async def test_commands_alone_need_nothing(tmp_path: Path) -> None:
    world = World()
    opened(world, ONE)
    world.settle()
    assert world.log[COMMANDS.name]
    assert violated(await audited(world, tmp_path)) == set()
