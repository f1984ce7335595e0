"""Team ids as people type them. Knows no team."""

from kite_cli.failure import CommandFailed
from kite_common.errors import Malformed
from kite_common.ids import TeamId, parse_team_id


def wanted_team_id(text: str) -> TeamId:
    """The team id. Raises CommandFailed if it can be none."""
    try:
        return parse_team_id(text)
    except Malformed:
        raise CommandFailed("that is no team id", "Use 1 to 128 letters, digits, `:`, `_` and `-`, such as team_acme.") from None
