"""Erased teams over their followed topic; and the word that the archive has nothing more of one, written there."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kite_common.clock import Clock
from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.codec import Record, decode_as, encode
from kite_common.events.erasures import TeamErased
from kite_common.runtime.observe import get_logger
from kite_common.stream.input import Input

log = get_logger("kite.replay.erasures")


@dataclass(frozen=True, slots=True)
class ErasureAt:
    """An erasure and the partition it stands in."""

    partition: int
    erasure: TeamErased


def decode_erasure(record: Input) -> ErasureAt | None:
    """The erasure a record holds, None if it was taken back. Raises Malformed: then the team stays as it was."""
    return None if record.value is None else ErasureAt(record.partition, decode_as(TeamErased, record.value))


class FollowedErasures(Protocol):
    """What is needed of `kite_common.stream.table.Table`."""

    def items(self) -> Iterator[tuple[str, ErasureAt]]:
        """All teams with their erasures."""
        ...

    async def refreshed(self, partition: int | None = None, timeout_s: float = ...) -> None:
        """Return once everything appended before the call can be seen. Raises Unavailable, TimeoutError."""
        ...


class Publishes(Protocol):
    """`kite_common.stream.publisher.Publisher` on the topic of erasures."""

    async def publish(self, partition: int, records: Sequence[Record]) -> int:
        """Append records side by side; the offset of the first once all replicas in sync have them."""
        ...


class LoggedErasures:
    """The Erasures port. A record of kite.erasures that cannot be read erases nobody, and says so in the log."""

    def __init__(self, table: FollowedErasures, publisher: Publishes, clock: Clock) -> None:
        self._table, self._publisher, self._clock = table, publisher, clock

    async def known(self, partition: int) -> Mapping[str, bool]:
        """Raises Unavailable while kite.erasures cannot be read to its end: until then nothing is archived."""
        try:
            await self._table.refreshed(partition)
        except TimeoutError as error:
            raise Unavailable("the erasures cannot be read now") from error
        return self.seen(partition)

    def seen(self, partition: int) -> Mapping[str, bool]:
        found = [at.erasure for _, at in self._table.items() if at.partition == partition]
        return {one.team_id: one.archive_erased_at is not None for one in found}

    async def carried_out(self, partition: int, teams: Collection[str]) -> None:
        """Raises Unavailable; some may be on record then, and doing it again does no harm."""
        found = [at.erasure for team_id, at in self._table.items() if team_id in teams]
        for one in (one for one in found if one.archive_erased_at is None):
            done = one.model_copy(update={"archive_erased_at": self._clock.unix_ms()})
            try:
                await self._publisher.publish(partition, [encode(done)])
            except OutcomeOpen as error:
                raise Unavailable("it is open whether the erasure is on record as carried out") from error
            log.info("archive.team_erased", team_id=one.team_id, partition=partition)
