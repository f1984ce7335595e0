"""What waits for Redis: newest account with all of its events, bounded, nothing lost that is not announced as a gap."""

from hypothesis import given
from hypothesis import strategies as st

from kite_common.events.accounts import AccountSnapshot
from kite_common.ids import EventId, TeamId
from kite_common.projection.account_fields import account_fields
from kite_common.projection.keys import ACCOUNT_FIELDS
from kite_common.projection.pending import MAX_OUTCOMES, MAX_SETTLED, MAX_STEPS, Charges, Pending, Settled, Write
from kite_common.testing import make


def account(team: str, applied: int) -> AccountSnapshot:
    return make.account(team_id=team, applied=applied)


def settled(team: str, *numbers: int) -> list[Settled]:
    return [Settled(TeamId(team), EventId(f"e{number}"), None) for number in numbers]


def empty() -> Pending:
    return Pending({}, 0, 0)


def commit(pending: Pending, applied: int, team: str, *numbers: int) -> None:
    pending.add({team: account(team, applied)}, (), applied, applied)
    pending.settle(settled(team, *numbers))


def test_steps_of_a_team_coalesce_to_its_newest_account_with_all_events() -> None:
    pending = empty()
    commit(pending, 1, "a", 1, 2)
    commit(pending, 2, "a", 3)
    pending.begin_round()
    [write] = pending.take(10, 10)
    assert (write.account.applied, [one.event_id for one in write.settled]) == (2, ["e1", "e2", "e3"])
    assert pending.take(10, 10) == []


def test_what_is_committed_during_a_round_waits_for_the_next_unless_its_team_is_still_to_come() -> None:
    pending = empty()
    commit(pending, 1, "a", 1)
    commit(pending, 2, "b", 2)
    pending.begin_round()
    pending.take(1, 10)
    commit(pending, 3, "a", 3)
    commit(pending, 4, "b", 4)
    [write] = pending.take(10, 10)
    assert (write.account.team_id, write.account.applied, len(write.settled)) == ("b", 4, 2)
    assert pending.take(10, 10) == []
    pending.begin_round()
    [write] = pending.take(10, 10)
    assert (write.account.team_id, [one.event_id for one in write.settled]) == ("a", ["e3"])


def test_a_team_with_more_events_than_fit_goes_in_parts() -> None:
    pending = empty()
    commit(pending, 1, "a", *range(5))
    pending.begin_round()
    parts = [pending.take(10, 2) for _ in range(4)]
    assert [[one.event_id for one in write.settled] for part in parts for write in part] == [["e0", "e1"], ["e2", "e3"], ["e4"]]


def test_an_event_that_waits_twice_is_taken_once() -> None:
    pending = empty()
    commit(pending, 1, "a", 1, 2, 1)
    pending.begin_round()
    pending.settle(settled("a", 2, 3))
    [write] = pending.take(10, 10)
    assert [one.event_id for one in write.settled] == ["e1", "e2", "e3"]
    assert (pending.take(10, 10), pending._settled) == ([], 0)


def test_what_was_not_written_comes_first_again() -> None:
    pending = empty()
    commit(pending, 1, "a", 1)
    commit(pending, 2, "b", 2)
    pending.begin_round()
    writes = pending.take(1, 10)
    pending.put_back(writes)
    commit(pending, 3, "a", 3)
    assert [write.account.team_id for write in pending.take(10, 10)] == ["a", "b"]


def test_a_team_may_be_created_until_it_is_known_to_be_there() -> None:
    pending = Pending({"a": account("a", 1), "b": account("b", 5)}, 5, 0)
    pending.know(3)
    pending.write_all()
    pending.begin_round()
    writes = pending.take(10, 10)
    assert {write.account.team_id: write.create for write in writes} == {"a": False, "b": True}
    pending.written(writes[1])
    pending.write_all()
    pending.begin_round()
    assert [write.create for write in pending.take(10, 10)] == [False, False]


def test_too_many_events_are_forgotten_together_and_leave_a_gap() -> None:
    pending = empty()
    gaps = []
    for applied, team, numbers in ((1, "a", range(MAX_SETTLED)), (2, "b", range(1))):
        commit(pending, applied, team, *numbers)
        gaps.append(pending.gap)
    assert gaps == [False, True]
    pending.begin_round()
    assert [(write.account.team_id, write.settled) for write in pending.take(10, 10)] == [("a", ()), ("b", ())]


def test_a_sweep_goes_round_all_accounts() -> None:
    pending = Pending({team: account(team, 1) for team in "abc"}, 1, 0)
    seen: list[set[str]] = []
    for _ in range(3):
        pending.sweep(2)
        pending.begin_round()
        seen.append({write.account.team_id for write in pending.take(10, 10)})
    assert seen == [{"a", "b"}, {"c"}, {"a", "b"}]


def test_events_of_a_team_without_an_account_are_dropped() -> None:
    pending = empty()
    pending.settle(settled("nobody", 1))
    pending.begin_round()
    assert pending.take(10, 10) == []


def test_outcomes_keep_their_order_also_when_put_back_and_the_oldest_go_first() -> None:
    pending = empty()
    outcomes = [make.command_outcome(command_id=f"c{number}") for number in range(3)]
    pending.add({}, outcomes[:2], 1, 1)
    taken = pending.take_outcomes()
    pending.add({}, outcomes[2:], 2, 2)
    pending.put_back_outcomes(taken)
    assert pending.take_outcomes() == outcomes
    assert pending.take_outcomes() == []
    pending.add({}, (make.command_outcome(command_id=str(number)) for number in range(MAX_OUTCOMES + 1)), 3, 3)
    assert pending.take_outcomes()[0].command_id == "1"


moves = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.sampled_from("abc"), st.integers(0, 4)),
        st.tuples(st.just("take"), st.integers(1, 3), st.integers(1, 4)),
        st.tuples(st.just("fail"), st.integers(1, 3), st.integers(1, 4)),
    ),
    max_size=30,
)


@given(moves)
def test_every_event_is_settled_and_never_before_its_account(schedule: list[tuple[str, str | int, int]]) -> None:
    pending, applied, number = empty(), 0, 0
    charged: dict[str, int] = {}
    redis: dict[str, int] = {}
    done: set[str] = set()

    def write(writes: list[Write]) -> None:
        for one in writes:
            redis[one.account.team_id] = max(redis.get(one.account.team_id, 0), one.account.applied)
            done.update(event.event_id for event in one.settled)
            assert all(charged[event.event_id] <= redis[one.account.team_id] for event in one.settled)

    for move, first, second in schedule:
        if move == "commit":
            applied += 1
            numbers = range(number, number + second)
            number += second
            charged.update({f"e{one}": applied for one in numbers})
            commit(pending, applied, str(first), *numbers)
        else:
            pending.begin_round()
            writes = pending.take(int(first), second)
            if move == "take":
                write(writes)
            else:
                pending.put_back(writes)
    pending.begin_round()
    while writes := pending.take(2, 3):
        write(writes)
    assert done == set(charged)
    assert redis == {team: one.applied for team, one in pending.accounts.items()}
    assert pending._settled == 0


def test_the_fields_are_those_of_the_contract() -> None:
    for one in (make.account(), make.account(subscription=None)):
        fields = account_fields(one)
        assert tuple(fields[::2]) == ACCOUNT_FIELDS
        assert fields[:2] == ["applied", one.applied]


def test_an_unlimited_rate_is_zero_and_a_flat_plan_costs_nothing_per_event() -> None:
    clerk = make.subscription("enterprise", provider="clerk")
    fields = account_fields(make.account(subscription=clerk))
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    assert (found["rate_per_min"], found["price"], found["month_limit"]) == (0, 0, 9_007_199_254_740_991)
    assert (found["status"], found["provider"], found["plan_name"]) == ("active", "clerk", "enterprise")


def test_charges_count_as_written_with_the_round_they_went_in() -> None:
    pending = empty()
    pending.charge(Charges(2, 10))
    assert pending.charges_written() == []
    pending.begin_round()
    pending.charge(Charges(1, 20))
    assert pending.charges_written() == [Charges(2, 10)]
    pending.begin_round()
    assert (pending.charges_written(), pending.charges_written()) == ([Charges(1, 20)], [])


def test_charges_of_a_round_that_was_not_written_wait_with_the_next() -> None:
    pending = empty()
    for at_ms in (10, 20):
        pending.charge(Charges(1, at_ms))
        pending.begin_round()
    assert pending.charges_written() == [Charges(1, 10), Charges(1, 20)]


def test_charges_that_wait_for_long_are_bounded_and_none_is_forgotten() -> None:
    pending = empty()
    for at_ms in range(MAX_STEPS + 50):
        pending.charge(Charges(2, at_ms))
    for at_ms in range(10):
        pending.begin_round()
        pending.charge(Charges(1, MAX_STEPS + 50 + at_ms))
    written = pending.charges_written()
    assert len(written) == MAX_STEPS
    assert (sum(one.usages for one in written), written[-1]) == (2 * (MAX_STEPS + 50) + 9, Charges(111, MAX_STEPS - 1))
