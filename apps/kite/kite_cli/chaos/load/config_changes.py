"""Somebody who changes settings all the time: webhook, plan. What was answered last is what must be there in the end."""

from itertools import cycle
from typing import Final

from kite_cli.chaos.load.caller import Caller, Team
from kite_cli.chaos.memory import Memory, Said
from kite_common.crypto import new_webhook_secret
from kite_common.plans import shipped_catalog
from kite_common.runtime.system import random_bytes

WEBHOOK: Final = "/api/v1/webhook-config"
SUBSCRIPTION: Final = "/api/v1/subscription"
_PLANS: Final = ("growth", "pro")


class Settings:
    """The settings of one team. `urls` are taken in turn."""

    def __init__(self, team: Team, caller: Caller, memory: Memory, urls: tuple[str, ...]) -> None:
        self._team, self._caller, self._memory, self._urls = team, caller, memory, cycle(urls)
        catalog = shipped_catalog()
        self._plans = cycle([plan for name in _PLANS if (plan := catalog.by_name(name)) is not None])

    async def set_webhook(self) -> None:
        """Take the next URL, with a secret of its own. Raises GaveUp."""
        url = next(self._urls)
        wanted = {"url": url, "secret": new_webhook_secret(random_bytes(32))}
        await self._caller.ask("PUT", WEBHOOK, team=self._team, json_body=wanted)
        self._memory.said[self._team.id, "webhook"] = Said(self._team.id, "webhook", url)

    async def revive_webhook(self) -> None:
        """Set the webhook again if a 410 has ended it. Raises GaveUp."""
        answer = await self._caller.ask("GET", WEBHOOK, team=self._team, good=(200, 404))
        if answer.status == 404:
            wanted = {"url": next(self._urls), "secret": new_webhook_secret(random_bytes(32))}
            await self._caller.ask("PUT", WEBHOOK, team=self._team, json_body=wanted)

    async def switch_plan(self) -> None:
        """Take the next plan. Raises GaveUp."""
        plan = next(self._plans)
        await self._caller.ask("POST", SUBSCRIPTION, team=self._team, json_body={"plan_id": plan.id, "provider": "x402"})
        self._memory.said[self._team.id, "plan"] = Said(self._team.id, "plan", plan.name)
