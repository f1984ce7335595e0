"""From the subscription a team has to the one it wants: which command that takes, and whether money may be reserved meanwhile.

Fetches nothing; what each change does to counters and wallet is billing's.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from kite_common.events.accounts import Provider
from kite_common.ids import CommandId, TeamId, subscription_change
from kite_gateway.domain.standing import Standing


class Begun(IntEnum):
    """What came of beginning a change; the numbers are those begin_change.lua returns."""

    BEGUN = 0
    ANOTHER_UNDER_WAY = 1
    MONEY_RESERVED = 2


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """A change and the state it was decided on. `provider_changes`: it waits until nothing is reserved at the old provider's prices."""

    command_id: CommandId
    plan_id: str
    provider: Provider
    subscription_id: str
    revision: int
    provider_changes: bool


@dataclass(frozen=True, slots=True)
class NotChanged:
    """The subscription is as it was. `code` is a public error code."""

    code: Literal["subscription_conflict", "invalid_provider", "plan_not_found"]
    message: str | None = None


def change_of(team_id: TeamId, standing: Standing, plan_id: str, provider: Provider) -> SubscriptionChange | None:
    """The change that leads from what the team has to what it wants; None if it has that already.

    The command's id is made of both, so a repeat of a request is a repeat of its command, until the change is made; then it is no change.
    """
    if has(standing, plan_id, provider):
        return None
    return SubscriptionChange(
        subscription_change(team_id, standing.subscription_id, standing.revision, plan_id, provider), plan_id, provider,
        standing.subscription_id, standing.revision, standing.has_subscription and standing.provider != provider,
    )  # fmt: skip


def has(standing: Standing, plan_id: str, provider: Provider) -> bool:
    """Whether this is the team's subscription already; one whose bill is open stays what it is."""
    return standing.has_subscription and (standing.plan_id, standing.provider) == (plan_id, provider)
