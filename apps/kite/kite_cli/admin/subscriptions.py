"""Changes of a team's subscription that only operators make: commands that billing carries out. Decides nothing."""

from typing import Final

from kite_cli.admin.team_ids import wanted_team_id
from kite_cli.admin.teams import command_sender, sent
from kite_cli.failure import CommandFailed
from kite_cli.target import LogTarget
from kite_common.events.commands import CancelSubscription, CommandOutcome, SetPastDue
from kite_common.ids import uuid7
from kite_common.runtime.system import SystemClock, random_bits

_AGAIN: Final = "Repeat it: what is done already is not done again."


async def set_past_due(target: LogTarget, team_id: str, past_due: bool) -> CommandOutcome:
    """Say that the team's payment outside of Kite has failed, or was made after all. Raises CommandFailed."""
    now_ms = SystemClock().unix_ms()
    return await _run(target, SetPastDue(team_id=wanted_team_id(team_id), command_id=_drawn(now_ms), sent_at=now_ms, past_due=past_due))


async def cancel_subscription(target: LogTarget, team_id: str) -> CommandOutcome:
    """End the team's subscription. Raises CommandFailed."""
    now_ms = SystemClock().unix_ms()
    return await _run(target, CancelSubscription(team_id=wanted_team_id(team_id), command_id=_drawn(now_ms), sent_at=now_ms))


def refused(refusal: str, team_id: str) -> CommandFailed:
    """Why billing did not do it, for people."""
    advice = {
        "no_account": "Check the id; `kitectl team create` opens teams.",
        "subscription_conflict": "It has no subscription that could be past due.",
        "invalid_provider": "Only what is paid outside of Kite (provider clerk) can be past due; an x402 team pays from its wallet.",
    }
    return CommandFailed(f"billing refuses to change {team_id}: {refusal}", advice.get(refusal, "See billing's log for the reason."))


async def _run(target: LogTarget, command: SetPastDue | CancelSubscription) -> CommandOutcome:
    async with command_sender(target) as sender:
        outcome = await sent(sender, command, _AGAIN)
    if outcome.refusal is not None:
        raise refused(outcome.refusal, command.team_id)
    return outcome


def _drawn(now_ms: int) -> str:
    return uuid7(now_ms, random_bits(74))
