"""Erased teams as replay reads them, and the word that nothing is left of one."""

from collections.abc import Iterator, Sequence

import pytest

from kite_common.clock import FrozenClock, from_unix_ms
from kite_common.errors import Malformed, OutcomeOpen, Unavailable
from kite_common.events.codec import Record, decode_as, encode
from kite_common.events.erasures import TeamErased
from kite_common.stream.input import Input
from kite_common.testing import make
from kite_common.topics import ERASURES
from kite_replay.adapters.erasures import ErasureAt, LoggedErasures, decode_erasure

NOW = make.NOW_MS + 9_000


class Followed:
    """The topic in memory."""

    def __init__(self, *held: tuple[int, TeamErased]) -> None:
        self.held = {erasure.team_id: ErasureAt(partition, erasure) for partition, erasure in held}
        self.is_slow = False

    def items(self) -> Iterator[tuple[str, ErasureAt]]:
        return iter(self.held.items())

    async def refreshed(self, partition: int | None = None, timeout_s: float = 5.0) -> None:
        assert partition is not None
        if self.is_slow:
            raise TimeoutError


class Written:
    """What was written, by partition; `is_open`: the next answer is lost."""

    def __init__(self) -> None:
        self.facts: list[tuple[int, TeamErased]] = []
        self.is_open = False

    async def publish(self, partition: int, records: Sequence[Record]) -> int:
        if self.is_open:
            raise OutcomeOpen("no answer")
        self.facts += [(partition, decode_as(TeamErased, record.value)) for record in records]
        return len(self.facts)


def erasures(followed: Followed, written: Written | None = None) -> LoggedErasures:
    return LoggedErasures(followed, written or Written(), FrozenClock(from_unix_ms(NOW)))


async def test_each_partition_has_its_own_teams() -> None:
    done = make.team_erased(team_id="team_b", archive_erased_at=NOW - 1)
    known = erasures(Followed((3, make.team_erased(team_id="team_a")), (3, done), (4, make.team_erased(team_id="team_c"))))
    assert await known.known(3) == {"team_a": False, "team_b": True}
    assert known.seen(4) == {"team_c": False}
    assert known.seen(5) == {}


async def test_erasures_that_cannot_be_read_are_waited_for() -> None:
    followed = Followed()
    followed.is_slow = True
    with pytest.raises(Unavailable):
        await erasures(followed).known(3)


async def test_only_what_is_open_of_the_teams_that_are_named_is_carried_out() -> None:
    open_one, done = make.team_erased(team_id="team_a"), make.team_erased(team_id="team_b", archive_erased_at=NOW - 1)
    later, written = make.team_erased(team_id="team_c"), Written()
    await erasures(Followed((3, open_one), (3, done), (3, later)), written).carried_out(3, {"team_a", "team_b"})
    assert written.facts == [(3, open_one.model_copy(update={"archive_erased_at": NOW}))]


async def test_an_answer_that_is_lost_has_it_done_again() -> None:
    written = Written()
    written.is_open = True
    with pytest.raises(Unavailable):
        await erasures(Followed((3, make.team_erased())), written).carried_out(3, {make.TEAM})


def test_a_record_is_an_erasure_where_it_stands_or_its_end_or_unreadable() -> None:
    record = encode(make.team_erased())
    assert decode_erasure(_at(5, record.value)) == ErasureAt(5, make.team_erased())
    assert decode_erasure(_at(5, None)) is None
    with pytest.raises(Malformed):
        decode_erasure(_at(5, b"{}"))


def _at(partition: int, value: bytes | None) -> Input:
    return Input(ERASURES.name, partition, 7, NOW, make.TEAM.encode(), value, ())
