"""Wallets that pay: deposits, and pages of events for a team whose own wallet is empty. One key per payment: repeats pay once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import cycle
from typing import Any, Final

from kite_cli.chaos.load.caller import Caller, GaveUp, Team
from kite_cli.chaos.load.readers import EVENTS
from kite_cli.chaos.memory import Memory, Paid
from kite_cli.failure import CommandFailed
from kite_cli.gateway_client import ApiRefused
from kite_cli.pay.client import Paid as Receipt
from kite_cli.pay.client import PayingClient, Terms, paying_client
from kite_cli.pay.wallet import Wallet
from kite_common.ids import uuid7
from kite_common.runtime.system import SystemClock, random_bits

_INVOICES: Final = "/api/v1/wallet/invoices"
_MOST_ATOMIC: Final = 1_000_000
_AGAIN_S: Final = 0.5
_PAGE: Final = 3
Pay = Callable[[PayingClient], Awaitable[Receipt]]


class Payer:
    """One wallet."""

    def __init__(self, team: Team, wallet: Wallet, caller: Caller, gateways: Mapping[str, str], memory: Memory) -> None:
        self._team, self._wallet, self._caller, self._memory = team, wallet, caller, memory
        self._gateways, self._amounts = cycle(gateways.values()), cycle((10_000, 25_000, 40_000))
        self._cursor: str | None = None

    async def deposit(self) -> None:
        """Pay into the team's wallet."""
        amount = next(self._amounts)

        async def pay(client: PayingClient) -> Receipt:
            body = {"amount_atomic": amount}
            return await client.call("POST", _INVOICES, query={"team_id": self._team.id}, json=body, api_key=self._team.key)

        await self._pay(pay)

    async def buy(self) -> None:
        """Pay for a page of events; from the beginning again after the last one."""

        async def pay(client: PayingClient) -> Receipt:
            query = {"team_id": self._team.id, "limit": _PAGE} | ({"since": self._cursor} if self._cursor else {})
            return await client.call("GET", EVENTS, query=query, api_key=self._team.key)

        body = await self._pay(pay)
        self._cursor = body["next_cursor"] if body["has_more"] else None

    async def _pay(self, pay: Pay) -> Mapping[str, Any]:
        """One payment to its end: whoever does not answer is asked again under the same key. Raises GaveUp."""
        key, began = uuid7(SystemClock().unix_ms(), random_bits(74)), time.monotonic()
        while not self._caller.is_over:
            try:
                async with paying_client(next(self._gateways), self._wallet, Terms(_MOST_ATOMIC, key), lambda _key: None) as client:
                    receipt = await pay(client)
            except CommandFailed as error:
                self._judge(error)
                await asyncio.sleep(_AGAIN_S)
                continue
            if receipt.transaction is not None and receipt.amount_atomic is not None:
                page = int(receipt.body.get("amount_charged_atomic", 0))
                self._memory.paid.append(Paid(
                    self._team.id, receipt.transaction, receipt.amount_atomic, began, time.monotonic(), page
                ))  # fmt: skip
            return receipt.body
        raise GaveUp("payment")

    def _judge(self, error: CommandFailed) -> None:
        if not isinstance(error, ApiRefused):
            self._memory.statuses["payment without an answer"] += 1
        if isinstance(error, ApiRefused) and error.status not in (409, 429, 503):
            self._memory.wrong_answers[f"a payment was refused: {error.status} {error.error}"] += 1
            raise GaveUp(error.error)
