"""May a request deliver to a hook: look up, check the signature, judge. Knows no HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kite_common.clock import Clock
from kite_common.errors import Malformed
from kite_common.ids import TeamId, parse_team_id
from kite_gateway.application.ports import Hooks
from kite_gateway.domain.hooks.credentials import HookRefusal, KnownHook, Opened, judge
from kite_gateway.domain.hooks.signatures import SignedRequest, Verdict, check_signature, is_signed


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
        found = self._find(knock.team, knock.source, knock.token)
        if found is None:
            return "invalid_hook_token"
        team_id, known = found
        secrets = known.endpoint.secrets if known.endpoint else ()
        verdict = check_signature(knock.source, knock.request, secrets, self.clock.unix_ms() // 1000)
        judged = judge(known.endpoint, known.token, verdict)
        return (team_id, judged) if isinstance(judged, Opened) else judged

    def refused_unread(self, team: str, source: str, token: str | None, head: Mapping[str, str]) -> HookRefusal | None:
        """Why a request may not deliver, whatever its body is: so that nobody is waited for who sends one slowly and may not anyway.

        None: it may, or its signature decides on the answer, which is over the body. Raises Unavailable.
        """
        found = self._find(team, source, token)
        if found is None:
            return "invalid_hook_token"
        _, known = found
        verdicts: tuple[Verdict, ...] = ("right", "wrong") if is_signed(source, head) else ("none",)
        first, *others = (judge(known.endpoint, known.token, verdict) for verdict in verdicts)
        return None if isinstance(first, Opened) or any(other != first for other in others) else first

    def _find(self, team: str, source: str, token: str | None) -> tuple[TeamId, KnownHook] | None:
        """None: nobody's team, like one that nobody has heard of."""
        try:
            team_id = parse_team_id(team)
        except Malformed:
            return None
        return team_id, self.hooks.find(team_id, source, token, self.clock.unix_ms())
