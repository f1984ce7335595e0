"""Whether chain and facilitator are what the settings say: until then no payment is taken, and this process is not ready. Accounts go on
all the while: messages are charged whether payments can be taken or not. Decides no payment.

Chain id, code at the token's address, its EIP-712 domain, the hash of block 0 as the scan cursor has it, and that the facilitator settles
our scheme on our network.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from kite_billing.adapters.chain import RpcChain
from kite_billing.adapters.facilitator import HttpFacilitator
from kite_billing.application.ports import ChainUnreadable
from kite_billing.application.settle_payment import Shared
from kite_common.events.payment_record import ScanCursor
from kite_common.runtime.component import READY, Readiness
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.pulse import LATE_AFTER_S, Pulse
from kite_common.runtime.system import pause
from kite_common.x402.networks import Asset
from kite_common.x402.precheck import domain_separator

log = get_logger("kite.payments")

_NOT_CHECKED: Final = "chain and facilitator are not checked yet"
_AGAIN_S: Final = 1.0
_EVERY_S: Final = 10.0
_LOCAL_WATCH_S: Final = 2.0
_WATCH_S: Final = 60.0


class Fitness:
    """Component: checks until all is well, then goes on looking for a chain that was swapped. Owns the connections of both."""

    name = "payments-checks"

    def __init__(
        self, chain: RpcChain, facilitator: HttpFacilitator, asset: Asset, shared: Shared, cursor: Callable[[], ScanCursor | None],
        metrics: Metrics,
    ) -> None:  # fmt: skip
        self._chain, self._facilitator, self._asset, self._shared = chain, facilitator, asset, shared
        self._cursor, self._metrics = cursor, metrics
        self._is_local = False
        self._problem_now: str | None = _NOT_CHECKED
        self._pulse = Pulse("payments-checks", metrics, within_s=_EVERY_S + LATE_AFTER_S)
        # Where payments are on, it is told from the start, also if the first look never ends.
        metrics.gauge("kite_x402_fit").set(0)

    def readiness(self) -> Readiness:
        """Ready while payments could be taken; else why not."""
        problem = self._problem_now or self._pulse.late
        return READY if problem is None else Readiness(False, problem)

    def watch_s(self) -> float:
        """How often blocks are compared: a local chain is reorganised by tests, and asked for nothing."""
        return _LOCAL_WATCH_S if self._is_local else _WATCH_S

    async def run(self, stop: asyncio.Event) -> None:
        """Check until stopped."""
        try:
            while not stop.is_set():
                await self._round_or_not()
                await pause(_EVERY_S if self._shared.fit else _AGAIN_S, stop)
        finally:
            await self._chain.close()
            await self._facilitator.close()

    async def _round_or_not(self) -> None:
        """What another process says must never end this one, which charges messages meanwhile."""
        try:
            await self._round()
        except Exception:
            log.exception("payments.check_failed")
            self._metrics.counter("kite_x402_alerts_total").labels(kind="check_failed").inc()

    async def _round(self) -> None:
        await self._look()
        self._pulse.beat()

    async def _look(self) -> None:
        chain_problem = await self._chain_problem()
        self._shared.chain_fit = chain_problem is None
        # Once fit, a facilitator that is away is not another one: each payment finds that out for itself.
        problem = chain_problem if chain_problem or self._shared.fit else await self._facilitator.misfit(self._asset.network)
        self._shared.fit = problem is None
        self._metrics.gauge("kite_x402_fit").set(int(self._shared.fit))
        if problem != self._problem_now:
            self._say(problem)
        gas = await self._facilitator.gas_wei() if self._shared.fit else None
        if gas is not None:
            self._metrics.gauge("kite_x402_facilitator_gas_wei").set(gas)

    def _say(self, problem: str | None) -> None:
        self._problem_now = problem
        if problem is None:
            log.info("payments.fit", network=self._asset.network, asset=self._asset.checksum)
        else:
            log.error("payments.unfit", reason=problem)

    async def _chain_problem(self) -> str | None:
        """Why the chain cannot be believed, None if it can. Once it could, a node that is away is not another chain."""
        try:
            return await self._misfit()
        except ChainUnreadable as error:
            return None if self._shared.chain_fit else f"the chain cannot be read: {error}"

    async def _misfit(self) -> str | None:
        """What is wrong with the chain for certain, None if nothing is. Raises ChainUnreadable."""
        chain, asset, cursor = self._chain, self._asset, self._cursor()
        if await chain.chain_id() != asset.chain_id:
            return "the chain is another one"
        if not await chain.has_code():
            return "there is no token at the asset's address"
        if await chain.domain_separator() != "0x" + domain_separator(asset).hex():
            return "the token has another EIP-712 domain: name or version is wrong"
        self._shared.genesis = (await chain.block(0)).hash
        if cursor is not None and self._shared.genesis != cursor.genesis:
            return "the chain is another one than was scanned: chain and log must be kept or dropped together"
        self._is_local = (await chain.client_version()).startswith("anvil/")
        self._shared.head = max(self._shared.head, (await chain.head()).number)
        return None
