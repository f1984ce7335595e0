"""Take one page from the wallet: reserve, then log the usage that billing debits. Knows no HTTP.

If the process dies after reserving, the amount lapses once stream time has passed it; after logging, billing debits it. So a page is
charged at most once for each reading, and what is charged was in the wallet: no step has to be undone by hand.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from kite_common.clock import Clock
from kite_common.errors import Unavailable
from kite_common.ids import EventId, TeamId
from kite_replay.application.ports import PageCharges, UsageLog
from kite_replay.domain.charge import NoSubscription, NothingDue, PageUsage, Reserved, TooLow, decide


@dataclass(frozen=True, slots=True)
class Charged:
    """The debit is certain: its usage is in the log."""

    amount_atomic: int


@dataclass(frozen=True, slots=True)
class ChargePage:
    """The use case; call it with a team and the rows of the page it is about to get. `new_id` draws a usage id from a time (ms)."""

    charges: PageCharges
    log: UsageLog
    clock: Clock
    new_id: Callable[[int], EventId]

    async def __call__(self, team_id: TeamId, rows: int) -> Charged | NothingDue | TooLow | NoSubscription:
        """Charge the page, or say why it is not charged: then nothing is held.

        Raises Unavailable if nothing was charged, OutcomeOpen if that is not known; the reservation then waits for billing.
        """
        received_ms = self.clock.unix_ms()
        usage = PageUsage(team_id, self.new_id(received_ms), rows, received_ms)
        decision = decide(await self.charges.reserve(usage))
        if not isinstance(decision, Reserved):
            return decision
        # A task of its own: a caller that hangs up must not stop it between the log and the release.
        await asyncio.shield(asyncio.create_task(self._append(usage, decision)))
        return Charged(decision.amount_atomic)

    async def _append(self, usage: PageUsage, reserved: Reserved) -> None:
        try:
            await self.log.append(usage, reserved)
        except Unavailable:
            await self.charges.release(usage)
            raise
