"""Agents and providers: messages and hooks, each under an Idempotency-Key, sent until it is answered, remembered by its event id."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Final

from kite_cli.chaos.load.caller import Answer, Caller, GaveUp, Team
from kite_cli.chaos.memory import Accepted, Memory

_MESSAGES: Final = "/api/v1/agents/messages"
# An open outcome lasts up to 90 s; the team's other agents go on meanwhile.
_NEXT_AFTER_S: Final = 2.0
_MOST_UNDER_WAY: Final = 200


@dataclass(slots=True)
class Sender:
    """The agents of a team, which are also its provider: every `hook_every`th message is a hook. `price_atomic` None: plans change."""

    team: Team
    caller: Caller
    memory: Memory
    chance: random.Random
    price_atomic: int | None
    hook_every: int = 4
    _count: int = field(default=0)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def send(self) -> None:
        """Send one; if it takes its time, it goes on by itself, as the next one's agent waits for nobody."""
        if len(self._under_way) >= _MOST_UNDER_WAY:
            return
        self._count += 1
        task = asyncio.create_task(self._send(f"{self.team.id}/{self._count}"))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.wait({task}, timeout=_NEXT_AFTER_S)

    async def finished(self) -> None:
        """Wait until nothing is under way."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _send(self, text: str) -> None:
        try:
            answer = await (self._hook(text) if self.team.hook and self._is_hook(text) else self._message(text))
        except GaveUp:  # nobody knows whether it is there
            self.memory.open_texts.add(text)
            return
        self.memory.accept(str(answer.body["id"]), Accepted(
            self.team.id, text, answer.gateway, answer.first_tried_s, answer.tried_s, answer.answered_s,
            is_first=not answer.is_repeat, price_atomic=self.price_atomic,
        ))  # fmt: skip

    def _is_hook(self, text: str) -> bool:
        return int(text.rpartition("/")[2]) % self.hook_every == 0

    async def _message(self, text: str) -> Answer:
        message = {"from": f"agent-{self.chance.randrange(3)}", "to": f"agent-{self.chance.randrange(3)}", "body": text}
        return await self.caller.ask(
            "POST", _MESSAGES, team=self.team, json_body=message, headers={"Idempotency-Key": text}, good=(202,)
        )

    async def _hook(self, text: str) -> Answer:
        # The answer to an equal Idempotency-Key is the first one again: 202.
        return await self.caller.ask("POST", self.team.hook, json_body={"text": text}, headers={"Idempotency-Key": text}, good=(202,))
