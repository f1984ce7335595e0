"""Agents and providers: messages and hooks, each under an Idempotency-Key, sent until it is answered, remembered by its event id."""

import random
from dataclasses import dataclass, field
from typing import Final

from kite_cli.chaos.load.caller import Answer, Caller, GaveUp, Team
from kite_cli.chaos.memory import Accepted, Memory

_MESSAGES: Final = "/api/v1/agents/messages"


@dataclass(slots=True)
class Sender:
    """One agent of a team, which is also its provider: every `hook_every`th message is a hook. `price_atomic` None: plans change."""

    team: Team
    caller: Caller
    memory: Memory
    chance: random.Random
    price_atomic: int | None
    hook_every: int = 4
    _count: int = field(default=0)

    async def send(self) -> None:
        """Send one. Raises GaveUp: then nobody knows whether it is there."""
        self._count += 1
        text = f"{self.team.id}/{self._count}"
        try:
            answer = await (self._hook(text) if self._count % self.hook_every == 0 and self.team.hook else self._message(text))
        except GaveUp:
            self.memory.open_texts.add(text)
            raise
        self.memory.accept(str(answer.body["id"]), Accepted(
            self.team.id, text, answer.gateway, answer.first_tried_s, answer.tried_s, answer.answered_s,
            is_first=not answer.is_repeat, price_atomic=self.price_atomic,
        ))  # fmt: skip

    async def _message(self, text: str) -> Answer:
        message = {"from": f"agent-{self.chance.randrange(3)}", "to": f"agent-{self.chance.randrange(3)}", "body": text}
        return await self.caller.ask(
            "POST", _MESSAGES, team=self.team, json_body=message, headers={"Idempotency-Key": text}, good=(202,)
        )

    async def _hook(self, text: str) -> Answer:
        # The answer to an equal Idempotency-Key is the first one again: 202.
        return await self.caller.ask("POST", self.team.hook, json_body={"text": text}, headers={"Idempotency-Key": text}, good=(202,))
