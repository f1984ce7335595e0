"""What paid requests are about: a new team, a deposit, a page of events; and the team's wallet."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.found import find_stack
from kite_cli.gateway_client import ApiRefused, gateway_client
from kite_cli.pay.client import Paid, Terms, paying_client
from kite_cli.pay.faucet import local_balance
from kite_cli.pay.wallet import Wallet
from kite_cli.private_file import write_private
from kite_cli.target import DEMO_FILE, ApiSettings, ApiTarget, find_api
from kite_common.config import load
from kite_common.runtime.system import monotonic_s

BOOTSTRAP, INVOICES, EVENTS = "/api/v1/bootstrap/x402", "/api/v1/wallet/invoices", "/api/v1/events"
TEAMS_FOLDER: Final = "teams"
_CHARGED_WITHIN_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Order:
    """Who pays, for the Kite of which data folder, under which terms. `announce` tells the payer the Idempotency-Key before money moves."""

    data: Path
    wallet: Wallet
    terms: Terms
    announce: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A paid request: what was asked, the answer, the payment; what the paying wallet and the team's wallet at Kite had before and have now
    (None: not known, or none)."""

    asked: str
    paid: Paid
    wallet: Wallet
    chain_before: int | None
    chain_after: int | None
    kite_before: int | None
    kite_after: int | None

    def to_json(self) -> dict[str, Any]:
        """The whole, without credentials."""
        return {
            "asked": self.asked, "payer": self.wallet.address, "transaction": self.paid.transaction,
            "amount_atomic": self.paid.amount_atomic, "network": self.paid.network, "chain_balance_before_atomic": self.chain_before,
            "chain_balance_after_atomic": self.chain_after,
            "wallet_balance_before_atomic": self.kite_before, "wallet_balance_after_atomic": self.kite_after,
        }  # fmt: skip


async def open_team(order: Order, source: str, plan: str, deposit_atomic: int, opened: Callable[[Mapping[str, Any]], None]) -> Receipt:
    """Bootstrap a team by paying. `opened` gets the answer at once, before anything else can fail: it has the team's only key.

    Raises CommandFailed.
    """
    url, wallet = gateway_url(order.data), order.wallet
    wanted = {"source": source, "deposit_atomic": deposit_atomic, "plan": plan}
    before = await local_balance(order.data, wallet.address)
    async with paying_client(url, wallet, order.terms, order.announce) as client:
        paid = await client.call("POST", BOOTSTRAP, json=wanted)
        opened(paid.body)
    after = await _if_told(local_balance(order.data, wallet.address))
    return Receipt(f"POST {BOOTSTRAP}", paid, wallet, before, after, None, int(paid.body["wallet_balance_atomic"]))


def keep_team(data: Path, body: Mapping[str, Any], plan: str) -> Path:
    """Make a new team the one of the data folder; the file of its own that its credentials are in, mode 0600, for as long as the folder is.

    A team that was opened so before keeps its file, as its money is worth nothing without its key.
    """
    own = data / TEAMS_FOLDER / f"{body['team_id']}.json"
    own.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = {name: body[name] for name in ("team_id", "api_key", "hook_token", "endpoint")} | {"plan": plan}
    write_private(own, kept)
    write_private(data / DEMO_FILE, {name: kept[name] for name in ("team_id", "api_key", "plan")})
    return own


async def deposit(order: Order, amount_atomic: int) -> Receipt:
    """Deposit into the team's wallet. Raises CommandFailed."""
    return await _paid_by_team(order, "POST", INVOICES, {}, {"amount_atomic": amount_atomic})


async def buy_events(order: Order, since: str | None, limit: int) -> Receipt:
    """Read a page of events, paying for it if the team's wallet cannot. Raises CommandFailed."""
    receipt = await _paid_by_team(order, "GET", EVENTS, {"limit": limit} | ({"since": since} if since else {}), None)
    is_from_wallet = receipt.paid.amount_atomic is None and int(receipt.paid.body["amount_charged_atomic"]) > 0
    if is_from_wallet and receipt.kite_after == receipt.kite_before:
        return replace(receipt, kite_after=await _if_told(_once_charged(find_api(order.data), receipt.kite_before)))
    return receipt


async def team_wallet(data: Path) -> tuple[str | None, int | None]:
    """The team that is spoken for and its balance; None for what there is not."""
    try:
        target = find_api(data)
    except CommandFailed:
        return None, None
    return target.team.team_id, await _balance(target)


def gateway_url(data: Path) -> str:
    """The gateway of the environment, else of the local stack. Raises CommandFailed."""
    url = load(ApiSettings).public_url
    if url is not None:
        return url
    stack = find_stack(data)
    if stack is None or not stack.gateway:
        raise CommandFailed(f"no Kite runs in {data}", "Start one with `make run`, or set KITE_PUBLIC_URL.", EXIT_UNAVAILABLE)
    return stack.gateway


async def _balance(target: ApiTarget) -> int | None:
    async with gateway_client(target) as gateway:
        try:
            return int((await gateway.wallet())["balance_atomic"])
        except ApiRefused as error:
            if error.status in (404, 409):
                return None
            raise


async def _paid_by_team(order: Order, method: str, path: str, query: Mapping[str, Any], body: object) -> Receipt:
    target, data, wallet = find_api(order.data), order.data, order.wallet
    chain_before, kite_before = await local_balance(data, wallet.address), await _balance(target)
    async with paying_client(target.url, wallet, order.terms, order.announce) as client:
        whose = {"team_id": target.team.team_id, **query}
        paid = await client.call(method, path, query=whose, json=body, api_key=target.team.api_key)
    chain_after, kite_after = await _if_told(local_balance(data, wallet.address)), await _if_told(_balance(target))
    return Receipt(f"{method} {path}", paid, wallet, chain_before, chain_after, kite_before, kite_after)


async def _once_charged(target: ApiTarget, before: int | None) -> int | None:
    """The balance once a page that was taken from the wallet is charged, which is a moment after its answer; or as it is after a while."""
    balance, until_s = await _balance(target), monotonic_s() + _CHARGED_WITHIN_S
    while balance == before and monotonic_s() < until_s:
        await asyncio.sleep(_LOOK_EVERY_S)
        balance = await _balance(target)
    return balance


async def _if_told(balance: Awaitable[int | None]) -> int | None:
    """A balance after the payment, None if it cannot be had: what was paid for is at hand, and must not be lost over a look at a number."""
    try:
        return await balance
    except Exception:  # noqa: BLE001 - whatever it is
        return None
