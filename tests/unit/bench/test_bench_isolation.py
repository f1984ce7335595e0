"""Phases, figures, ratios and the table of an isolation run."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_cli.bench.isolation import to_json
from kite_cli.bench.isolation_figures import (
    Figures,
    Isolation,
    Mode,
    Phase,
    alternating,
    figures_of,
    ratios_of,
    table_of,
    who_hangs,
)
from kite_cli.bench.load.loops import Window

_NOTHING = Figures(0.0, math.nan, math.nan, 0)


def _phase(*, hangs: bool, per_s: float, p99_ms: float) -> Phase:
    return Phase(hangs, Figures(per_s, p99_ms / 2, p99_ms, 100), _NOTHING, Figures(1.6 if hangs else 10.0, 5.0, 9.0, 10), 0.5, 0.25, 1)


def _run(mode: Mode = "steady", beside: int = 2) -> Isolation:
    phases = [(False, 100.0, 20.0), (True, 99.0, 23.0), (False, 300.0, 40.0), (True, 90.0, 90.0), (False, 100.0, 10.0), (True, 100.0, 22.0)]
    return Isolation(
        mode, 20, beside, 200.0, 60.0, 10.0, tuple(_phase(hangs=hangs, per_s=per_s, p99_ms=p99_ms) for hangs, per_s, p99_ms in phases)
    )


def test_phases_take_turns_and_begin_with_all_healthy() -> None:
    assert alternating(2) == (False, True, False, True)


def test_there_is_at_least_one_round() -> None:
    with pytest.raises(ValueError, match="rounds"):
        alternating(0)


@pytest.mark.parametrize(
    ("partitions", "chosen"),
    [([3, 1, 1, 2], 1), ([0, 1, 2], 0), ([5, 4, 4, 5, 5], 0), ([7], 0)],
)
def test_the_one_that_hangs_shares_its_partition_with_the_most(partitions: list[int], chosen: int) -> None:
    assert who_hangs(partitions) == chosen


@given(st.lists(st.integers(0, 11), min_size=1, max_size=40))
def test_no_other_shares_with_more(partitions: list[int]) -> None:
    shared = partitions.count(partitions[who_hangs(partitions)])
    assert all(partitions.count(one) <= shared for one in partitions)


def test_arrivals_in_the_window_make_the_rate_and_acceptance_in_it_the_latency() -> None:
    accepted_s = {"before": 9.0, "in": 10.0, "late": 19.0, "after": 20.0, "never": 15.0}
    arrived_s = {"before": 10.5, "in": 10.25, "late": 30.0, "after": 20.1}
    assert figures_of(accepted_s, arrived_s, Window(10.0, 20.0)) == Figures(0.2, 250.0, 11_000.0, 2)


def test_of_nothing_there_is_no_latency() -> None:
    found = figures_of({}, {}, Window(0.0, 10.0))
    assert (found.per_s, found.count) == (0.0, 0)
    assert math.isnan(found.p99_ms)


def test_ratios_are_of_medians() -> None:
    found = ratios_of(_run().phases, lambda phase: phase.others)
    assert (found.throughput, found.p50, found.p99) == (0.99, 1.15, 1.15)


@pytest.mark.parametrize("hangs", [False, True])
def test_phases_of_one_kind_have_no_ratio(hangs: bool) -> None:
    assert math.isnan(ratios_of([_phase(hangs=hangs, per_s=1.0, p99_ms=1.0)], lambda phase: phase.others).p99)


def test_the_table_shows_both_kinds_their_ratio_and_the_aim() -> None:
    table = table_of(_run())
    rows = {row[0]: row[1:] for row in table.rows}
    assert table.title == "Isolation, 200 messages/s"
    assert rows["delivered/s"] == ("100 (100 - 300)", "99.0 (90.0 - 100)", "0.990", ">= 0.95: reached")
    assert rows["p99 ms"] == ("20.0 (10.0 - 40.0)", "23.0 (22.0 - 90.0)", "1.150", "<= 1.2: reached")
    assert rows["the hanging one: arrived/s"] == ("10.0", "1.60", "0.160", "")
    assert rows["its partition (2): p99 ms"] == ("-", "-", "-", "")
    assert table.note.endswith("6 errors.")


def test_what_is_missed_is_said() -> None:
    run = Isolation("steady", 20, 0, 9.0, 1.0, 10.0, (_phase(hangs=False, per_s=100, p99_ms=10), _phase(hangs=True, per_s=94, p99_ms=12.1)))
    assert [row[4] for row in table_of(run).rows[:3]] == [">= 0.95: missed", "", "<= 1.2: missed"]


def test_saturated_no_aim_goes_by_latency_and_nobody_in_its_partition_has_no_row() -> None:
    rows = {row[0]: row[1:] for row in table_of(_run("saturated", beside=0)).rows}
    assert rows["p99 ms"][3] == ""
    assert not any(text.startswith("its partition") for text in rows)


def test_json_has_phases_and_ratios_and_null_for_what_there_is_not() -> None:
    text = to_json([_run()])
    assert b'"ratios":{"throughput":0.99,"p50":1.15,"p99":1.15}' in text
    assert b'"beside":{"per_s":0.0,"p50_ms":null,"p99_ms":null,"count":0}' in text
