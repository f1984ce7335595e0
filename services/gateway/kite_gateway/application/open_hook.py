"""May a request deliver to a hook: look up, check the signature, judge. Knows no HTTP."""

from dataclasses import dataclass, field

from kite_common.clock import Clock
from kite_common.errors import Malformed
from kite_common.ids import TeamId, parse_team_id
from kite_gateway.application.ports import Hooks
from kite_gateway.domain.hooks.credentials import HookRefusal, Opened, judge
from kite_gateway.domain.hooks.signatures import SignedRequest, check_signature


@dataclass(frozen=True, slots=True)
class Knock:
    """A request at the endpoint `source` of a team, as its URL names both. `token` is the hook token it shows, None = none."""

    team: str
    source: str
    token: str | None = field(repr=False)
    request: SignedRequest


@dataclass(frozen=True, slots=True)
class OpenHook:
    """The use case; call it with a knock."""

    hooks: Hooks
    clock: Clock

    def __call__(self, knock: Knock) -> tuple[TeamId, Opened] | HookRefusal:
        """The team and what is known of the sender, or why it may not deliver. Takes no IO. Raises Unavailable."""
        try:
            team_id = parse_team_id(knock.team)
        except Malformed:
            # Nobody's team, like one that nobody has heard of.
            return "invalid_hook_token"
        now_ms = self.clock.unix_ms()
        known = self.hooks.find(team_id, knock.source, knock.token, now_ms)
        secrets = known.endpoint.secrets if known.endpoint else ()
        judged = judge(known.endpoint, known.token, check_signature(knock.source, knock.request, secrets, now_ms // 1000))
        return (team_id, judged) if isinstance(judged, Opened) else judged
