"""Who waits for an endpoint, and who is next: one of a recipient at a time, in the order they came."""

from hypothesis import given
from hypothesis import strategies as st

from kite_delivery.domain.line import Line


def test_first_come_first_served_where_there_is_no_order_to_keep() -> None:
    line: Line[str] = Line()
    for name in ("a", "b", "c"):
        line.add(name, None, 0.0)
    assert [line.take() for _ in range(3)] == ["a", "b", "c"]
    assert line.idle


def test_the_second_to_a_recipient_waits_for_the_first_and_others_pass() -> None:
    line: Line[str] = Line()
    line.begin("bob")
    assert not line.has_turn("bob")
    assert line.has_turn("eve")
    line.add("bob 2", "bob", 0.0)
    line.add("eve 1", "eve", 0.0)
    assert line.take() == "eve 1"
    assert line.first() is None
    line.done("bob")
    assert line.take() == "bob 2"


def test_nobody_overtakes_one_who_could_start() -> None:
    line: Line[str] = Line()
    line.add("a", None, 0.0)
    assert not line.has_turn(None)
    assert not line.has_turn("bob")


def test_one_that_is_taken_out_makes_the_next_of_its_recipient_free() -> None:
    line: Line[str] = Line()
    for name, since_s in (("1", 0.0), ("2", 1.0), ("3", 2.0)):
        line.add(name, "bob", since_s)
    assert line.oldest_s() == 0.0
    assert line.remove(lambda _one, since_s: since_s < 0.5) == ["1"]
    assert line.take() == "2"
    assert line.first() is None
    assert line.oldest_s() == 2.0
    line.done("bob")
    assert line.take() == "3"
    line.done("bob")
    assert line.idle


orders = st.sampled_from([None, "a", "b", "c"])


@given(st.lists(st.tuples(orders, st.sampled_from(["come", "come", "end", "start", "leave"])), max_size=200), st.data())
def test_of_one_recipient_one_is_under_way_and_they_start_in_the_order_they_came(
    steps: list[tuple[str | None, str]], data: st.DataObject
) -> None:
    """Whatever comes, starts, ends and is taken out: order kept for each recipient, nobody lost, nobody twice, nobody stuck."""
    line: Line[tuple[int, str | None]] = Line()
    started: list[tuple[int, str | None]] = []
    under_way: list[tuple[int, str | None]] = []
    waiting: list[tuple[int, str | None]] = []
    left: list[tuple[int, str | None]] = []
    for number, (order, what) in enumerate(steps):
        match what:
            case "come" if line.has_turn(order) and data.draw(st.booleans()):
                line.begin(order) if order is not None else None
                under_way.append((number, order))
                started.append((number, order))
            case "come":
                line.add((number, order), order, float(number))
                waiting.append((number, order))
            case "start" if line.first() is not None:
                one = line.take()
                waiting.remove(one)
                under_way.append(one)
                started.append(one)
            case "end" if under_way:
                line.done(under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))[1])
            case "leave" if waiting:
                before = waiting[data.draw(st.integers(0, len(waiting) - 1))][0]
                gone = line.remove(lambda one, _since_s, before=before: one[0] <= before and one[0] % 2 == 0)  # type: ignore[misc]
                waiting = [one for one in waiting if one not in gone]
                left += gone
        keys = [order for _, order in under_way if order is not None]
        assert len(keys) == len(set(keys))
        assert line.oldest_s() == (min(number for number, _ in waiting) if waiting else None)
        could_start = [order for _, order in waiting if order is None or order not in keys]
        assert (line.first() is None) == (not could_start)
    for key in ("a", "b", "c"):
        numbers = [number for number, order in started if order == key]
        assert numbers == sorted(numbers)
    while under_way or line.first() is not None:
        while line.first() is not None:
            under_way.append(line.take())
            waiting.remove(under_way[-1])
        line.done(under_way.pop()[1])
    assert waiting == []
    assert line.idle
