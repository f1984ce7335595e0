"""One settlement of an authorization at a time: who asks while it is under way waits for that one's answer."""

import asyncio

from kite_facilitator.application.ports import Chain, Payment, Settled
from kite_facilitator.domain.streak import after, is_suspicious


class SettleOnce:
    """Call it with a payment. `gap` is set when the process should begin anew; the answer that showed it is given first."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._under_way: dict[tuple[str, str], asyncio.Task[Settled]] = {}
        self.streak = 0
        self.gap = asyncio.Event()

    async def __call__(self, payment: Payment) -> Settled:
        """Raises whatever the SDK raises. A caller that hangs up does not stop it: the transaction may be on its way."""
        key = payment.wanted.key
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._settle(payment), name="facilitator.settle")
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    async def _settle(self, payment: Payment) -> Settled:
        try:
            settled = await self._chain.settle(payment)
        except Exception:
            self._count(success=False, reason="settlement_pending", transaction="")
            raise
        self._count(success=settled.success, reason=settled.reason, transaction=settled.transaction)
        return settled

    def _count(self, *, success: bool, reason: str | None, transaction: str) -> None:
        self.streak = after(self.streak, success=success, reason=reason, transaction=transaction)
        if is_suspicious(self.streak):
            self.gap.set()
