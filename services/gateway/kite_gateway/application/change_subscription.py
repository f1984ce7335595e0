"""Create or switch a team's subscription: billing decides, this makes sure that it happens once and between events. Knows no HTTP.

If the process dies here, a change that was sent ends when it is projected, one that was not when stream time has passed it.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from kite_common.clock import Clock
from kite_common.errors import Unavailable
from kite_common.events.accounts import Provider
from kite_common.events.commands import CommandRefusal, Subscribe
from kite_common.ids import TeamId
from kite_gateway.application.ports import Commands, Standings, SubscriptionChanges
from kite_gateway.domain.standing import Standing
from kite_gateway.domain.subscription_change import Begun, NotChanged, SubscriptionChange, change_of, has

# From before the change begins to the hand-over of its command: far shorter than what a begun change takes to lapse. A process that stood
# still for longer must not send it: the change is over for all others, and another one may have been made.
_HAND_OVER_MS: Final = 5_000
_RESERVED: Final = "Messages are being charged; change the provider when reserved_atomic is 0."
_OVERTAKEN: Final = "The change was made, and another one after it; look at what the subscription is."
_REFUSED: Final[dict[CommandRefusal, NotChanged]] = {
    "plan_not_found": NotChanged("plan_not_found"),
    "invalid_provider": NotChanged(
        "invalid_provider", "Plans that cost money are not taken with provider clerk on this server (KITE_CLERK_PAID_PLANS)."
    ),
    "subscription_conflict": NotChanged("subscription_conflict"),
}


@dataclass(frozen=True, slots=True)
class ChangeSubscription:
    """The use case; call it with what is wanted."""

    standings: Standings
    changes: SubscriptionChanges
    commands: Commands
    clock: Clock

    async def __call__(self, team_id: TeamId, plan_id: str, provider: Provider) -> Standing | NotChanged:
        """The team as it is once it has this subscription. A repeat changes nothing more.

        Raises Unavailable if nothing was changed, OutcomeOpen if that is not known.
        """
        change = change_of(team_id, await self._standing(team_id), plan_id, provider)
        if change is None:
            return await self._standing(team_id)
        # A task of its own: a caller that hangs up must not leave the change begun.
        return await asyncio.shield(asyncio.create_task(self._change(team_id, change)))

    async def _change(self, team_id: TeamId, change: SubscriptionChange) -> Standing | NotChanged:
        sent_at = self.clock.unix_ms()
        begun = await self.changes.begin(team_id, change)
        if begun is not Begun.BEGUN:
            return await self._not_begun(team_id, change, begun)
        command = Subscribe(
            team_id=team_id, command_id=change.command_id, sent_at=sent_at, plan_id=change.plan_id, provider=change.provider
        )
        try:
            outcome = await self.commands.send(command, not_after_ms=sent_at + _HAND_OVER_MS)
        except Unavailable:
            await self.changes.end(team_id, change.command_id, has_outcome=False)
            raise
        try:
            if outcome.refusal is not None:
                return self._refused(outcome.refusal)
            return await self._changed(team_id, change)
        finally:
            await self.changes.end(team_id, change.command_id, has_outcome=True)

    async def _not_begun(self, team_id: TeamId, change: SubscriptionChange, begun: Begun) -> Standing | NotChanged:
        """A repeat that came while the first one was being made finds it made."""
        standing = await self._standing(team_id)
        if has(standing, change.plan_id, change.provider):
            return standing
        return NotChanged("subscription_conflict", _RESERVED if begun is Begun.MONEY_RESERVED else None)

    async def _changed(self, team_id: TeamId, change: SubscriptionChange) -> Standing | NotChanged:
        standing = await self._standing(team_id)
        if has(standing, change.plan_id, change.provider):
            return standing
        if (standing.subscription_id, standing.revision) == (change.subscription_id, change.revision):
            # The outcome is told while Redis is being written anew.
            raise Unavailable("the change is not projected yet")
        return NotChanged("subscription_conflict", _OVERTAKEN)

    async def _standing(self, team_id: TeamId) -> Standing:
        standing = await self.standings.of(team_id)
        if standing is None:
            raise Unavailable("the account is not projected")
        return standing

    def _refused(self, refusal: CommandRefusal) -> NotChanged:
        refused = _REFUSED.get(refusal)
        if refused is None:
            raise Unavailable(f"billing refuses: {refusal}")
        return refused
