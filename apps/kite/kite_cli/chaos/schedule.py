"""Which fault comes when, to whom, for how long: all of it follows from the seed. Pure."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Target = Literal["service", "gateway", "kafka", "valkey", "clickhouse", "facilitator"]


class NotEnoughTime(ValueError):
    """The faults that are asked for do not fit into the time."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. It lasts `shortest_s` to `longest_s`; for `rest_s` after it nothing else is done, so that its recovery is its own.

    `weight`: how often it comes in a round, where each kind comes at least once.
    """

    target: Target
    rest_s: float
    shortest_s: float = 0.0
    longest_s: float = 0.0
    weight: int = 1


# A lost Valkey lets nobody in for 90 s: until then no message can turn up that was admitted on what it has forgotten.
_AFTER_VALKEY_S: Final = 125.0
# A frozen one comes back after its session of 6 s: by then somebody else does its work.
KINDS: Final[Mapping[str, Kind]] = {
    "kill": Kind("service", 5.0, weight=6),
    "term": Kind("service", 5.0, weight=3),
    "stop": Kind("service", 7.0, 8.0, 11.0, weight=2),
    # A Python process that starts on a busy machine, what it says before it ends, and the session of the one that has ended.
    "roll": Kind("service", 8.0, 14.0, 14.0),
    "broker-kill": Kind("kafka", 25.0),
    "broker-restart": Kind("kafka", 25.0),
    "redis-kill": Kind("valkey", _AFTER_VALKEY_S),
    "redis-restart": Kind("valkey", _AFTER_VALKEY_S),
    "redis-flush": Kind("valkey", _AFTER_VALKEY_S),
    "clickhouse": Kind("clickhouse", 15.0, 6.0, 12.0),
    "facilitator": Kind("facilitator", 12.0, 5.0, 10.0),
    "skew": Kind("gateway", 8.0, 10.0, 20.0),
    "disk": Kind("clickhouse", 15.0, 6.0, 12.0),
}
# Two at once, of two services: whoever is left of each must do for both.
_TWIN_SHARE: Final = 0.25
_TWINS: Final = ("kill", "term")
_FIRST_S: Final = 2.0
# What every clock of a Kite may be wrong by (ADR 0003).
_LEAST_SKEW_S: Final = 10
_MOST_SKEW_S: Final = 45


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault that shall happen `at_s` seconds after the load has begun. `skew_s` is how wrong the clock goes, for that kind."""

    at_s: float
    kind: str
    target: str
    lasts_s: float = 0.0
    skew_s: int = 0

    @property
    def ends_s(self) -> float:
        """When it is over."""
        return self.at_s + self.lasts_s


def service_of(process: str) -> str:
    """The service a process is one of: `gateway-2` is a gateway."""
    return process.removesuffix("-2")


def least_minutes(kinds: Iterable[str]) -> float:
    """How long a run must be so that each of these comes."""
    return (_FIRST_S + sum(KINDS[kind].longest_s + KINDS[kind].rest_s for kind in kinds)) / 60


def schedule(seed: int, minutes: float, kinds: Sequence[str], processes: Sequence[str]) -> tuple[Planned, ...]:
    """What happens in a run: each kind at least once, then round after round by weight, in an order of the seed's.

    `processes` are those of the services. Raises NotEnoughTime, ValueError for a kind that there is not.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"there is no fault {', '.join(unknown)}; there are {', '.join(KINDS)}")
    if not kinds or least_minutes(kinds) > minutes:
        raise NotEnoughTime(f"{', '.join(kinds)} need at least {least_minutes(kinds):.1f} minutes to come once each")
    chance = random.Random(seed)  # noqa: S311  a schedule must be repeatable, not unpredictable
    hands = {target: _endless(chance, _of_target(target, processes)) for target in {KINDS[kind].target for kind in kinds}}
    return tuple(_planned(chance, minutes * 60, kinds, hands))


def _planned(chance: random.Random, until_s: float, kinds: Sequence[str], hands: Mapping[Target, Iterator[str]]) -> Iterator[Planned]:
    at_s = _FIRST_S
    for name in _rounds(chance, kinds):
        kind = KINDS[name]
        lasts_s = round(chance.uniform(kind.shortest_s, kind.longest_s), 1)
        if at_s + lasts_s + kind.rest_s > until_s:
            return
        target = next(hands[kind.target])
        skew_s = chance.choice((-1, 1)) * chance.randint(_LEAST_SKEW_S, _MOST_SKEW_S) if name == "skew" else 0
        yield Planned(round(at_s, 1), name, target, lasts_s, skew_s)
        if name in _TWINS and chance.random() < _TWIN_SHARE:
            yield Planned(round(at_s, 1), name, _of_another_service(target, hands[kind.target]))
        at_s += lasts_s + kind.rest_s


def _rounds(chance: random.Random, kinds: Sequence[str]) -> Iterator[str]:
    yield from chance.sample(kinds, len(kinds))
    while True:
        cards = [kind for kind in kinds for _ in range(KINDS[kind].weight)]
        chance.shuffle(cards)
        yield from cards


def _of_target(target: Target, processes: Sequence[str]) -> list[str]:
    match target:
        case "service":
            return list(processes)
        case "gateway":
            return [process for process in processes if service_of(process) == "gateway"]
        case _:
            return [target]


def _endless(chance: random.Random, targets: Sequence[str]) -> Iterator[str]:
    """Each of them once, in any order, and again."""
    while True:
        yield from chance.sample(targets, len(targets))


def _of_another_service(target: str, hand: Iterator[str]) -> str:
    return next(one for one in hand if service_of(one) != service_of(target))
