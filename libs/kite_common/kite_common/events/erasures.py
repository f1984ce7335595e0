"""That a team is erased: what it sent and was sent is kept in no archive from then on. Its money stays on record."""

from typing import ClassVar

from kite_common.events.fact import TeamFact, UnixMs


class TeamErased(TeamFact):
    """A team's erasure, for ever: the archive takes nothing of it any more, and a rebuilt one neither.

    `id` names the order. `archive_erased_at` is when replay had removed what the archive had of it, None until then.
    """

    kind: ClassVar[str] = "team-erased"

    id: str
    ordered_at: UnixMs
    archive_erased_at: UnixMs | None = None
