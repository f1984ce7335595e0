"""Results as tables, aims and Markdown."""

from dataclasses import replace

import pytest

from kite_cli.bench.accept import Accepting, Journeys
from kite_cli.bench.aims import aims_of
from kite_cli.bench.cold_start import Start
from kite_cli.bench.drain import Drain, Drained, Mark, drained
from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.generation import LoadRun
from kite_cli.bench.load.job import Outcome
from kite_cli.bench.machine import Machine
from kite_cli.bench.options import FULL, SECTIONS, BenchOptions
from kite_cli.bench.payments import Paying
from kite_cli.bench.processes import CpuSample, CpuUse
from kite_cli.bench.profiling import profile_of
from kite_cli.bench.report import markdown
from kite_cli.bench.results import Results
from kite_cli.bench.spread import Spread
from kite_cli.bench.tables import Table, number, spread_text, tables_of

MACHINE = Machine("Some CPU", 2, 24, "Linux 6.1", "3.11.7", {"kafka": "4.2.1", "valkey": "9.1.2"}, "abc123")
CPU = CpuUse(10, {"gateway": 4, "billing": 2, "delivery": 1, "replay": 1, "kafka": 2, "valkey": 0.5, "generator": 3})


def run(p50_ms: float = 1.0, p99_ms: float = 5.0, per_s: float = 1_000, *, refused: int = 0, unseen: int = 0) -> LoadRun:
    statuses = {"202": 10_000} | ({"503": refused} if refused else {})
    return LoadRun(Outcome(10_000, per_s, p50_ms, 3.0, p99_ms, 20.0, statuses, 0.1, unseen), CPU)


def drain(billing: float, archiver: float) -> Drain:
    return Drain(500_000, Drained(499_000, billing, CPU), Drained(999_000, archiver, CPU))


SAMPLED = {
    "samples": 300, "cpu_s": 4.0, "own": {"a.b:f": 2.0, "a.b:g": 0.5, "kite_gateway.x:work": 0.5},
    "within": {"a.b:f": 2.0, "a.b:g": 0.5, "kite_gateway.x:work": 3.0, "kite_gateway.x:<module>": 3.0, "kite_cli.bench.sampler:main": 3.0},
    "modules": {"a.b": 2.5, "kite_gateway.x": 3.0, "kite_cli.bench.sampler": 3.0}, "threads": {"python": 0.2, "chdb": 0.8},
}  # fmt: skip
EMPTY = Results(MACHINE, FULL, "2026-01-02", quick=False)
WHOLE = replace(
    EMPTY,
    starts=(Start(9, 10, {"kafka": 300, "replay": 400, "chain": 20}), Start(11, 16, {"kafka": 310, "replay": 420, "chain": 30})),
    accepting=Accepting(
        most=(run(per_s=5_500), run(per_s=4_000), run(per_s=5_000)),
        rates=(200, 1_000),
        at_rate=((run(),), (run(p99_ms=9), run(p99_ms=12, refused=4))),
    ),
    journeys=Journeys(200, (run(p50_ms=-0.5, p99_ms=30),), (run(unseen=2),)),
    drains=(drain(45_000, 30_000),),
    payments=tuple(Paying(3, p95, 20 + p95, 300, 400, 0.2, {"gateway": 0.25, "chain": 0.5}) for p95 in (5, 4, 9)),
    profiles={"gateway": profile_of(SAMPLED), "replay": profile_of(SAMPLED)},
)  # fmt: skip


def table(title: str, results: Results = WHOLE) -> Table:
    (found,) = (one for one in tables_of(results) if one.title.startswith(title))
    return found


def second_by_first(title: str) -> dict[str, str]:
    return {row[0]: row[1] for row in table(title).rows}


def test_aims_are_judged_by_the_median() -> None:
    reached = {aim.text: aim.reached for aim in aims_of(WHOLE)}
    assert reached == {
        "accepted and durable, one gateway worker": True,
        "accept at 1,000/s, p99": False,
        "accepted to delivered, p50": True,
        "accepted to delivered, p99": True,
        "billing": True,
        "archive": False,
        "cold start to the first 202": True,
        "memory at rest": True,
    }


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    assert {aim.reached for aim in aims_of(EMPTY)} == {None}
    assert [one.title for one in tables_of(EMPTY)] == ["Aims"]
    assert {row[2:] for row in tables_of(EMPTY)[0].rows} == {("-", "not measured")}


def test_accept_has_a_row_per_load_with_the_errors_of_all_runs() -> None:
    rows = {row[0]: row for row in table("Accept").rows}
    assert list(rows) == ["64 at once", "200/s", "1,000/s"]
    assert rows["64 at once"][1] == "5,000 (4,000 - 5,500)"
    assert rows["1,000/s"][4] == "10.5 (9.00 - 12.0)"
    assert rows["1,000/s"][6] == "4"
    assert rows["1,000/s"][8] == "30%"


def test_cpu_is_per_thousand_messages_and_its_sum_leaves_the_generator_out() -> None:
    rows = second_by_first("CPU seconds per 1,000 messages at 1,000/s")
    assert rows["gateway"] == number(0.4)
    assert rows["generator"] == number(0.3)
    assert rows["sum without generator"] == number(1.05)


def test_what_arrived_before_its_202_is_below_zero_and_what_never_did_is_told() -> None:
    webhook, events = table("From accepted").rows
    assert (webhook[1], webhook[5]) == ("-0.500", "0")
    assert events[5] == "2"


def test_memory_is_summed_by_run() -> None:
    rows = second_by_first("Memory")
    assert rows["sum"] == "740 (720 - 760)"
    assert rows["chain"] == "25.0 (20.0 - 30.0)"


def test_payments_have_their_medians_and_what_each_process_was_busy_with() -> None:
    rows = second_by_first("Payments")
    assert rows["402 to a request without a payment, p95 ms"] == "5.00 (4.00 - 9.00)"
    assert rows["payments a second, 8 at once"] == "25.0 (24.0 - 29.0)"
    assert rows["cores while paying: chain"] == "0.500"


def test_a_profile_has_the_shares_of_modules_threads_and_our_functions() -> None:
    found = table("Profile of gateway")
    assert found.rows == (
        ("module a.b", "62.5%", "62.5%"), ("module kite_gateway.x", "12.5%", "75.0%"), ("module kite_cli.bench.sampler", "0.0%", "75.0%"),
        ("threads chdb", "20.0%", ""), ("threads python", "5.0%", ""), ("function kite_gateway.x:work", "12.5%", "75.0%"),
    )  # fmt: skip
    assert "4.0 s of CPU time" in found.note
    assert "300 samples" in found.note
    assert table("Profile of replay").title == "Profile of replay (the archiver)"


def test_a_service_that_computed_nothing_has_no_profile() -> None:
    with pytest.raises(BenchFailed, match="nothing"):
        profile_of(SAMPLED | {"own": {}})


def test_the_report_names_machine_versions_and_every_table() -> None:
    text = markdown(WHOLE, "benchmarks.svg")
    for part in ("Some CPU, 2 cores, 24 GiB", "kafka 4.2.1", "Kite abc123", "2026-01-02", "](benchmarks.svg)"):
        assert part in text
    for one in tables_of(WHOLE):
        assert f"\n## {one.title}\n\n| {' | '.join(one.columns)} |\n" in text
    assert "mean nothing" not in text


def test_a_quick_run_says_that_its_figures_mean_nothing() -> None:
    assert "its figures mean nothing" in markdown(replace(EMPTY, quick=True))


def test_a_bar_in_a_cell_does_not_break_the_table() -> None:
    profiled = replace(EMPTY, profiles={"x": profile_of(SAMPLED | {"threads": {"a|b": 1.0}})})
    assert "| threads a\\|b | 25.0% |  |" in markdown(profiled)


@pytest.mark.parametrize(("value", "text"), [(0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234"), (-12.34, "-12.3")])
def test_a_figure_has_as_many_digits_as_it_deserves(value: float, text: str) -> None:
    assert number(value) == text


def test_a_spread_without_width_is_one_figure() -> None:
    assert (spread_text(Spread(2, 2, 2)), spread_text(Spread(2, 1, 3))) == ("2.00", "2.00 (1.00 - 3.00)")


def test_a_drain_is_what_lies_between_its_first_and_its_last_look() -> None:
    looks = ((1_000, 10, 1.0), (5_000, 11, 2.0), (21_000, 12, 2.5))
    marks = [Mark(done, CpuSample(at_s, {"billing": cpu_s})) for done, at_s, cpu_s in looks]
    assert drained(marks) == Drained(20_000, 10_000, CpuUse(2, {"billing": 1.5}))


def test_a_drain_that_was_seen_only_once_has_no_rate() -> None:
    with pytest.raises(BenchFailed, match="too small"):
        drained([Mark(5, CpuSample(1, {}))])


def test_an_unknown_section_is_refused_and_without_a_choice_all_run() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        BenchOptions(only=("accept", "nonsense"))
    assert [name for name in SECTIONS if BenchOptions().wants(name)] == [*SECTIONS]
    assert [name for name in SECTIONS if BenchOptions(only=("profile",)).wants(name)] == ["profile"]


def test_results_go_to_json_as_they_are() -> None:
    values = WHOLE.to_json()
    assert values["accepting"]["at_rate"][1][1]["outcome"]["statuses"] == {"202": 10_000, "503": 4}
    assert values["drains"][0]["billing"]["per_s"] == 45_000
    assert values["machine"]["commit"] == "abc123"
