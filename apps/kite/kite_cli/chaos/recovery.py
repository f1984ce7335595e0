"""How long it took until things worked again after a fault, and how long anybody had to wait. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median

from kite_cli.chaos.memory import Memory
from kite_cli.chaos.paths import are_one, paths_of, reach_of
from kite_cli.chaos.schedule import Planned


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that has happened: times of time.monotonic()."""

    planned: Planned
    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Success:
    """Something that went through a way to its end: begun, and seen to be done. A partition of -1 stands for all."""

    path: str
    partition: int
    began_s: float
    seen_s: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a fault was followed by. `seconds` None: nothing went through any more. `was_alone` False: another fault came into the same way
    before that, so the time is not its own."""

    injected: Injected
    seconds: float | None
    was_alone: bool


def successes(memory: Memory, partitions: Mapping[str, int]) -> list[Success]:
    """What went through. `partitions`: those of the teams that are looked at, by team."""
    found = []
    for event_id, one in memory.accepted.items():
        if one.team_id not in partitions:
            continue
        partition = partitions[one.team_id]
        if one.is_first:
            found.append(Success(f"accept:{one.gateway}", partition, one.tried_s, one.answered_s))
        ends = {"bill": memory.billed_s.get(event_id), "read": memory.read_s.get(event_id)}
        arrived = memory.arrived.get(event_id)
        ends["deliver"] = arrived.first_s if arrived is not None else None
        found += [Success(path, partition, one.tried_s, seen_s) for path, seen_s in ends.items() if seen_s is not None]
    # What began before the end of a fault and is paid after it has recovered: a payment waits, it is not begun again.
    return found + [Success("pay", -1, paid.answered_s, paid.answered_s) for paid in memory.paid]


def recoveries(injected: Sequence[Injected], seen: Sequence[Success]) -> list[Recovery]:
    """What followed each fault: the time from its end until something begun after that went through, on every partition of every way."""
    ways = _ways(seen)
    ends = [_recovered_s(one, ways) for one in injected]
    spans = [_Span(one.began_s, end, paths_of(one.planned), reach_of(one.planned)) for one, end in zip(injected, ends, strict=True)]
    return [
        Recovery(one, None if end is None else end - one.ended_s, was_alone=not any(span.is_beside(other) for other in spans))
        for one, end, span in zip(injected, ends, spans, strict=True)
    ]


def longest_waits(memory: Memory, partitions: Mapping[str, int], seen: Iterable[Success]) -> dict[str, float]:
    """The longest that anybody had to wait for each end, seconds, faults included: from the first try."""
    waits: dict[str, float] = {}
    for one in seen:
        path = one.path.partition(":")[0]
        waits[path] = max(waits.get(path, 0.0), one.seen_s - one.began_s)
    tries = (one.answered_s - one.first_tried_s for one in memory.accepted.values() if one.team_id in partitions)
    pays = (one.answered_s - one.began_s for one in memory.paid)
    return waits | {"accept": max(tries, default=0.0), "pay": max(pays, default=0.0)}


def middle_and_worst(recovered: Iterable[Recovery]) -> tuple[float, float] | None:
    """Median and maximum of those whose time is their own; None without any."""
    seconds = [one.seconds for one in recovered if one.was_alone and one.seconds is not None]
    return (round(median(seconds), 2), round(max(seconds), 2)) if seconds else None


def worst_beside_others(recovered: Iterable[Recovery]) -> float | None:
    """The longest of those whose time is not their own; None without any."""
    seconds = [one.seconds for one in recovered if not one.was_alone and one.seconds is not None]
    return round(max(seconds), 2) if seconds else None


@dataclass(frozen=True, slots=True)
class _Way:
    """What went through one way on one partition, by when it began; `seen_s[i]`: when the first of those from i on was through."""

    began_s: list[float]
    seen_s: list[float]

    def first_after(self, at_s: float) -> float | None:
        """When something that was begun then or later was through."""
        at = bisect_left(self.began_s, at_s)
        return self.seen_s[at] if at < len(self.seen_s) else None


def _ways(seen: Iterable[Success]) -> dict[tuple[str, int], _Way]:
    by_way: dict[tuple[str, int], list[Success]] = {}
    for one in seen:
        by_way.setdefault((one.path, one.partition), []).append(one)
    return {way: _way(sorted(ones, key=lambda one: one.began_s)) for way, ones in by_way.items()}


def _way(ones: Sequence[Success]) -> _Way:
    firsts = list(accumulate((one.seen_s for one in reversed(ones)), min))
    return _Way([one.began_s for one in ones], firsts[::-1])


@dataclass(frozen=True, slots=True, eq=False)
class _Span:
    """From the beginning of a fault to its recovery, None if there was none, the ways it was in, and those it could hold up."""

    began_s: float
    recovered_s: float | None
    paths: tuple[str, ...]
    reach: tuple[str, ...]

    def is_beside(self, other: "_Span") -> bool:
        """Whether another one could hold up one of its ways in the same time."""
        overlaps = (self.recovered_s is None or other.began_s <= self.recovered_s) and (
            other.recovered_s is None or self.began_s <= other.recovered_s
        )
        return other is not self and overlaps and any(are_one(path, theirs) for path in self.paths for theirs in other.reach)


def _recovered_s(one: Injected, ways: Mapping[tuple[str, int], _Way]) -> float | None:
    """When everything that a fault was in the way of went through again."""
    ends = [_end(path, one.ended_s, ways) for path in paths_of(one.planned)]
    return None if any(end is None for end in ends) else max(end for end in ends if end is not None)


def _end(path: str, after_s: float, ways: Mapping[tuple[str, int], _Way]) -> float | None:
    """When a way was open again: on each partition that ever went through it, but for a single process, which answers for any."""
    by_partition: dict[int, list[float | None]] = {}
    for (name, partition), way in ways.items():
        if are_one(path, name):
            by_partition.setdefault(-1 if ":" in path else partition, []).append(way.first_after(after_s))
    firsts = [min((at for at in ones if at is not None), default=None) for ones in by_partition.values()]
    if not firsts or any(first is None for first in firsts):
        return None
    return max(first for first in firsts if first is not None)
