"""A schedule follows from its seed, has every kind in it, and leaves each fault the time it needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_cli.chaos.options import PROCESSES, ChaosOptions
from kite_cli.chaos.paths import PATHS, are_one, paths_of
from kite_cli.chaos.schedule import KINDS, NotEnoughTime, Planned, least_minutes, schedule, service_of

kinds = st.lists(st.sampled_from(sorted(KINDS)), min_size=1, unique=True)


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, float, list[str]]:
    chosen = draw(kinds)
    return draw(st.integers(0, 2**31)), least_minutes(chosen) + draw(st.floats(0, 10)), chosen


@given(runs())
def test_the_same_seed_gives_the_same_schedule(run: tuple[int, float, list[str]]) -> None:
    assert schedule(*run, PROCESSES) == schedule(*run, PROCESSES)


@given(runs())
def test_every_kind_comes_and_no_other(run: tuple[int, float, list[str]]) -> None:
    assert {one.kind for one in schedule(*run, PROCESSES)} == set(run[2])


@given(runs())
def test_each_is_over_and_has_had_its_rest_before_the_end_and_before_the_next(run: tuple[int, float, list[str]]) -> None:
    planned = schedule(*run, PROCESSES)
    assert all(one.ends_s + KINDS[one.kind].rest_s <= run[1] * 60 + 0.2 for one in planned)
    for one, following in zip(planned, planned[1:], strict=False):
        is_twin = one.at_s == following.at_s
        assert is_twin or following.at_s >= one.ends_s + KINDS[one.kind].rest_s - 0.2


@given(runs())
def test_never_both_processes_of_a_service_at_once(run: tuple[int, float, list[str]]) -> None:
    planned = schedule(*run, PROCESSES)
    for one in planned:
        beside = [other for other in planned if other is not one and other.at_s <= one.ends_s and one.at_s <= other.ends_s]
        assert all(service_of(other.target) != service_of(one.target) for other in beside)
        assert len(beside) <= 1


@given(runs())
def test_what_is_hit_is_there_to_be_hit_and_in_the_way_of_something(run: tuple[int, float, list[str]]) -> None:
    for one in schedule(*run, PROCESSES):
        assert one.target in (*PROCESSES, "kafka", "valkey", "clickhouse", "facilitator")
        assert paths_of(one)
        assert all(path.partition(":")[0] in PATHS for path in paths_of(one))
        assert (one.skew_s != 0) == (one.kind == "skew")


def test_all_processes_get_their_turn() -> None:
    assert {one.target for one in schedule(1, 10, ["kill"], PROCESSES)} == set(PROCESSES)


def test_too_little_time_is_said_with_how_much_is_needed() -> None:
    with pytest.raises(NotEnoughTime, match=r"need at least \d+\.\d minutes"):
        ChaosOptions(1, 1.0)


def test_a_fault_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no fault earthquake"):
        ChaosOptions(1, 1.0, ("kill", "earthquake"))


def test_the_command_that_repeats_a_run_says_all_of_it() -> None:
    assert ChaosOptions(7, 2.5, ("kill", "stop")).again == "kitectl chaos --seed 7 --minutes 2.5 --faults kill,stop"
    assert ChaosOptions(7, 2.5, ("roll",), load=4).again == "kitectl chaos --seed 7 --minutes 2.5 --faults roll --load 4"


@pytest.mark.parametrize(("path", "other", "is_one"), [
    ("bill", "bill", True), ("bill", "read", False), ("accept", "accept:gateway-2", True), ("accept:gateway", "accept:gateway-2", False),
])  # fmt: skip
def test_a_way_through_one_process_is_in_the_way_through_all(path: str, other: str, is_one: bool) -> None:
    assert are_one(path, other) == are_one(other, path) == is_one


def test_a_gateway_is_in_the_way_of_those_that_call_it() -> None:
    assert paths_of(Planned(0, "kill", "gateway-2")) == ("accept:gateway-2",)
