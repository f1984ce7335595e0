"""Erased teams as kite.erasures has them: who they are, and that nobody opens them again. Erases nothing."""

from collections.abc import Mapping, Sequence

from kite_cli.admin.whole_topic import read_topic
from kite_cli.failure import CommandFailed
from kite_cli.target import LogTarget
from kite_common.errors import Malformed
from kite_common.events.codec import decode_as
from kite_common.events.erasures import TeamErased
from kite_common.log_position import partition_of
from kite_common.stream.input import Input
from kite_common.topics import ERASURES


async def erasures_of(target: LogTarget, partitions: Sequence[int] | None = None) -> Mapping[str, TeamErased]:
    """The erased teams of these partitions, or of all. Raises CommandFailed, ConfigurationError."""
    found: dict[str, TeamErased] = {}
    for record in await read_topic(target, ERASURES, range(target.partitions) if partitions is None else partitions):
        team_id = (record.key or b"").decode("utf-8", "replace")
        if record.value is None:
            found.pop(team_id, None)
        else:
            found[team_id] = _erasure(record)
    return found


async def refuse_erased(target: LogTarget, team_id: str) -> None:
    """Raises CommandFailed if the team is erased: what it would send from now on could not be read back."""
    if team_id in await erasures_of(target, (partition_of(team_id.encode(), target.partitions),)):
        raise CommandFailed(f"{team_id} is erased", "That is for ever. Open another team: kitectl team create")


def _erasure(record: Input) -> TeamErased:
    try:
        return decode_as(TeamErased, record.value)
    except Malformed as error:
        # To leave it out would bring a team back.
        place = f"{record.topic}-{record.partition}@{record.offset}"
        raise CommandFailed(f"{place} cannot be read: {error}", "Use the kitectl of the version that wrote it.") from None
