"""Everybody at once: who does what how often, from the first message until nothing is under way any more. Injects nothing."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from eth_account import Account

from kite_cli.chaos.load.caller import Caller, Team, Turn, again_and_again, no_second_try
from kite_cli.chaos.load.config_changes import WEBHOOK, Settings
from kite_cli.chaos.load.ledger_watch import watch_ledger
from kite_cli.chaos.load.payers import Payer
from kite_cli.chaos.load.readers import Reader
from kite_cli.chaos.load.receivers import Receivers, receiving
from kite_cli.chaos.load.senders import Sender
from kite_cli.chaos.load.teams import BUYERS_EVENTS, Cast, open_cast, price_of
from kite_cli.chaos.memory import Memory
from kite_cli.chaos.stack import ChaosKite
from kite_cli.local.chain.rpc import local_rpc
from kite_cli.local.chain.token import mint
from kite_cli.pay.wallet import Wallet
from kite_common.crypto import new_webhook_secret
from kite_common.plans import shipped_catalog
from kite_common.runtime.system import random_bytes

# Seconds between two of a kind, drawn evenly.
_SEND_S: Final = (0.15, 0.6)
_READ_S: Final = (0.4, 1.0)
_PAY_S: Final = (0.5, 1.5)
_CHANGE_S: Final = (1.0, 3.0)
_LOOK_S: Final = 0.5
_WALLET_ATOMIC: Final = 10_000_000_000
_KNOWN_WITHIN_S: Final = 60.0


@dataclass(slots=True)
class Crowd:
    """All actors of a run. actors stop first, then who looks at what they did."""

    kite: ChaosKite
    cast: Cast
    memory: Memory
    chance: random.Random
    receivers: Receivers
    sending: Caller
    looking: Caller
    load: float
    _all_senders: list[Sender] = field(default_factory=list)
    _turns: list[Turn] = field(default_factory=list)
    _actors: list[asyncio.Task[None]] = field(default_factory=list)
    _lookers: list[asyncio.Task[None]] = field(default_factory=list)

    async def begin(self) -> None:
        """Set up what everybody needs, and start everybody. Raises CommandFailed, TimeoutError."""
        async with asyncio.timeout(_KNOWN_WITHIN_S):
            await asyncio.gather(*(self._known(team) for team in self.cast.all))
        await self._webhooks()
        await self._spend_all(self.cast.buyer)
        price = price_of(shipped_catalog())
        for team in (*self.cast.steady, *self.cast.others.values(), self.cast.changing, self.cast.depositor):
            known_price = None if team is self.cast.changing else price
            sender = Sender(team, self.sending, self.memory, self.chance, known_price)
            self._all_senders.append(sender)
            self._acts(sender.send, (_SEND_S[0] / self.load, _SEND_S[1] / self.load))
        self._changes()
        await self._pays()
        for team in self.cast.steady:
            self._lookers.append(self._does(Turn(), Reader(team, self.looking, self.memory).read, _READ_S))
        self._lookers.append(asyncio.create_task(watch_ledger(self.kite.log, self.memory)))

    async def stop_sending(self, within_s: float) -> None:
        """Let everybody finish what is under way, at most so long."""
        for turn in self._turns:
            turn.is_over = True
        last = [*self._actors, *(asyncio.create_task(sender.finished()) for sender in self._all_senders)]
        await asyncio.wait(last, timeout=within_s)
        self.sending.is_over = True
        await asyncio.wait(last)

    async def settle(self, within_s: float) -> bool:
        """Wait until everything accepted is seen at its end, at most so long; whether it is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self._is_settled():  # noqa: ASYNC110 - facts of other processes
                    await asyncio.sleep(_LOOK_S)
        return self._is_settled()

    async def end(self) -> None:
        """Nobody does anything any more."""
        self.sending.is_over = self.looking.is_over = True
        tasks = [*self._actors, *self._lookers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_settled(self) -> bool:
        memory, steady = self.memory, {team.id for team in self.cast.steady}
        return all(
            event_id in memory.billed_s
            and (one.team_id not in steady or event_id in memory.read_s)
            and (one.team_id not in self.cast.sure or event_id in memory.arrived)
            for event_id, one in memory.accepted.items()
        )

    async def _known(self, team: Team) -> None:
        """Wait until both gateways know the team's key: whatever they say before is none of the run's."""
        async with aiohttp.ClientSession() as http:
            for gateway in self.kite.gateways:
                while True:
                    async with http.get(
                        self.kite.url(gateway) + WEBHOOK, params={"team_id": team.id}, headers=team.headers
                    ) as answer:
                        if answer.status not in (401, 403, 503):
                            break
                    await asyncio.sleep(_LOOK_S)

    async def _webhooks(self) -> None:
        manners = {team.id: manner for manner, team in self.cast.others.items()}
        for team in self.cast.all:
            url = self.receivers.url_of(manners.get(team.id, "good"), team.id)
            wanted = {"url": url, "secret": new_webhook_secret(random_bytes(32))}
            await self.looking.ask("PUT", WEBHOOK, team=team, json_body=wanted)

    async def _spend_all(self, buyer: Team) -> None:
        sender = Sender(buyer, self.looking, self.memory, self.chance, price_of(shipped_catalog()))
        for _ in range(BUYERS_EVENTS):
            await sender.send()
        await sender.finished()

    def _changes(self) -> None:
        receivers, changing, gone = self.receivers, self.cast.changing, self.cast.others["gone"]
        urls = tuple(receivers.url_of("good", changing.id, which) for which in ("+a", "+b"))
        settings = Settings(changing, self.sending, self.memory, urls)
        self._acts(settings.set_webhook, _CHANGE_S)
        self._acts(settings.switch_plan, _CHANGE_S)
        self._acts(Settings(gone, self.sending, self.memory, (receivers.url_of("gone", gone.id),)).revive_webhook, _CHANGE_S)

    async def _pays(self) -> None:
        gateways = {name: self.kite.url(name) for name in self.kite.gateways}
        wallets = [Wallet(Account.create()) for _ in range(2)]
        chain = self.kite.local.chain
        async with local_rpc(chain.url) as rpc:
            for wallet in wallets:
                await mint(rpc, chain.token, wallet.address, _WALLET_ATOMIC)
        self._acts(Payer(self.cast.depositor, wallets[0], self.sending, gateways, self.memory).deposit, _PAY_S)
        self._acts(Payer(self.cast.buyer, wallets[1], self.sending, gateways, self.memory).buy, _PAY_S)

    def _acts(self, work: Callable[[], Awaitable[object]], between_s: tuple[float, float]) -> None:
        turn = Turn()
        self._turns.append(turn)
        self._actors.append(self._does(turn, work, between_s))

    def _does(self, turn: Turn, work: Callable[[], Awaitable[object]], between_s: tuple[float, float]) -> asyncio.Task[None]:
        return asyncio.create_task(again_and_again(turn, work, lambda: self.chance.uniform(*between_s)))


@asynccontextmanager
async def crowd_of(kite: ChaosKite, memory: Memory, seed: int, load: float) -> AsyncIterator[Crowd]:
    """The crowd of a run, set up and not yet begun; whatever runs is ended on the way out. `load`: how often senders send, 1 = as usual.

    Raises CommandFailed.
    """
    chance = random.Random(seed)  # noqa: S311  spreads load, protects nothing
    cast = await open_cast(kite)
    gateways: Mapping[str, str] = {name: kite.url(name) for name in kite.gateways}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, middlewares=(no_second_try,)) as http, receiving(memory, chance) as receivers:
        crowd = Crowd(kite, cast, memory, chance, receivers, Caller(http, gateways, memory), Caller(http, gateways, memory), load)
        try:
            yield crowd
        finally:
            await crowd.end()
