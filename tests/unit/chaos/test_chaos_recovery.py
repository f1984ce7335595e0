"""Times after a fault: from its end until all it was in the way of goes through again, on every partition."""

from kite_cli.chaos.memory import Accepted, Arrived, Memory, Paid
from kite_cli.chaos.recovery import Injected, Recovery, Success, longest_waits, middle_and_worst, recoveries, successes, worst_beside_others
from kite_cli.chaos.schedule import Planned

BILLING = Injected(Planned(0, "kill", "billing"), 10.0, 10.0)


def bill(partition: int, began_s: float, seen_s: float) -> Success:
    return Success("bill", partition, began_s, seen_s)


def test_the_slowest_partition_decides() -> None:
    seen = [bill(0, 1, 2), bill(1, 1, 2), bill(0, 11, 12), bill(1, 11, 15), bill(1, 14, 16)]
    assert recoveries([BILLING], seen) == [Recovery(BILLING, 5.0, was_alone=True)]


def test_what_began_before_the_end_of_the_fault_is_no_sign_of_recovery() -> None:
    (recovery,) = recoveries([BILLING], [bill(0, 9.9, 10.5), bill(0, 12, 13)])
    assert recovery.seconds == 3.0


def test_a_way_that_stays_shut_has_no_time() -> None:
    (recovery,) = recoveries([BILLING], [bill(0, 1, 2), bill(1, 1, 2), bill(0, 11, 12)])
    assert recovery.seconds is None


def test_the_first_that_went_through_counts_in_whatever_order_they_began() -> None:
    (recovery,) = recoveries([BILLING], [bill(0, 11, 20), bill(0, 12, 14)])
    assert recovery.seconds == 4.0


def test_a_second_fault_in_the_same_way_takes_the_time_its_worth() -> None:
    second = Injected(Planned(0, "kill", "billing-2"), 12.0, 12.0)
    elsewhere = Injected(Planned(0, "kill", "replay"), 11.0, 11.0)
    seen = [bill(0, 13, 14), Success("read", 0, 13, 14)]
    assert [one.was_alone for one in recoveries([BILLING, elsewhere, second], seen)] == [False, True, False]


def test_where_nobody_is_let_in_no_payment_and_no_reading_has_a_time_of_its_own() -> None:
    """Seed 21: paying again after the facilitator's death took 150 s, 100 of them those of a Valkey that was killed meanwhile."""
    facilitator = Injected(Planned(0, "facilitator", "facilitator"), 10.0, 16.0)
    valkey = Injected(Planned(0, "redis-kill", "valkey"), 30.0, 30.0)
    seen = [Success("pay", -1, 120, 120), Success("accept:gateway", 0, 118, 119), bill(0, 118, 119)]
    assert [one.was_alone for one in recoveries([facilitator, valkey], seen)] == [False, True]


def test_one_gateway_is_back_when_it_answers_whoever_calls() -> None:
    killed = Injected(Planned(0, "kill", "gateway-2"), 10.0, 10.0)
    seen = [Success("accept:gateway", 0, 10, 11), Success("accept:gateway", 1, 10, 11), Success("accept:gateway-2", 1, 12, 13)]
    assert recoveries([killed], seen)[0].seconds == 3.0


def test_a_broker_is_in_every_way() -> None:
    broker = Injected(Planned(0, "broker-kill", "kafka"), 10.0, 10.0)
    ways = [Success(path, 0, 11, 12) for path in ("accept:gateway", "bill", "deliver")]
    assert recoveries([broker], [*ways, Success("read", 0, 11, 19)])[0].seconds == 9.0
    assert recoveries([broker], ways)[0].seconds is None


def test_figures_leave_out_times_that_are_not_their_own() -> None:
    recovered = [Recovery(BILLING, seconds, alone) for seconds, alone in ((1.0, True), (3.0, True), (99.0, False))]
    assert middle_and_worst(recovered) == (2.0, 3.0)
    assert middle_and_worst(recovered[2:]) is None
    assert (worst_beside_others(recovered), worst_beside_others(recovered[:2])) == (99.0, None)


def test_what_was_remembered_becomes_ways_and_waits() -> None:
    memory = Memory(
        accepted={
            "e1": Accepted("team_a", "one", "gateway", 0.0, 5.0, 6.0, is_first=True, price_atomic=1),
            "e2": Accepted("team_b", "two", "gateway", 0.0, 0.0, 90.0, is_first=True, price_atomic=1),
        },
        billed_s={"e1": 8.0}, read_s={"e1": 9.0}, arrived={"e1": Arrived("team_a", 7.0)}, paid=[Paid("team_a", "0x", 1, 1.0, 4.0)],
    )  # fmt: skip
    seen = successes(memory, {"team_a": 3})
    assert {(one.path, one.partition, one.seen_s) for one in seen} == {
        ("accept:gateway", 3, 6.0), ("bill", 3, 8.0), ("deliver", 3, 7.0), ("read", 3, 9.0), ("pay", -1, 4.0),
    }  # fmt: skip
    assert longest_waits(memory, {"team_a": 3}, seen) == {"accept": 6.0, "bill": 3.0, "deliver": 2.0, "read": 4.0, "pay": 3.0}
