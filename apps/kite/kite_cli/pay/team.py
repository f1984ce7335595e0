"""What paid requests are about: a new team, a deposit, a page of events; and the team's wallet."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.found import find_stack
from kite_cli.gateway_client import ApiRefused, gateway_client
from kite_cli.pay.client import Paid, PayingClient, paying_client
from kite_cli.pay.faucet import local_balance
from kite_cli.pay.wallet import Wallet
from kite_cli.private_file import write_private
from kite_cli.target import DEMO_FILE, ApiSettings, ApiTarget, find_api
from kite_common.config import load


@dataclass(frozen=True, slots=True)
class Receipt:
    """A paid request: the answer, the payment, and what the paying wallet had before and has now (None: not known here)."""

    paid: Paid
    wallet: Wallet
    before_atomic: int | None
    after_atomic: int | None

    def to_json(self) -> dict[str, Any]:
        """The whole, without credentials."""
        return {
            "payer": self.wallet.address, "transaction": self.paid.transaction, "amount_atomic": self.paid.amount_atomic,
            "network": self.paid.network, "chain_balance_before_atomic": self.before_atomic,
            "chain_balance_after_atomic": self.after_atomic,
        }  # fmt: skip


async def open_team(data: Path, wallet: Wallet, order: Mapping[str, Any], *, keep: bool) -> Receipt:
    """Bootstrap a team by paying; with `keep` it becomes the team of the data folder. Raises CommandFailed."""
    url = gateway_url(data)

    async def pay(client: PayingClient) -> Paid:
        return await client.call("POST", "/api/v1/bootstrap/x402", json=order)

    receipt = await _paid(data, url, wallet, pay)
    body = receipt.paid.body
    if keep and body.get("api_key"):
        write_private(data / DEMO_FILE, {"team_id": body["team_id"], "api_key": body["api_key"], "plan": order["plan"]})
    return receipt


async def deposit(data: Path, wallet: Wallet, amount_atomic: int) -> Receipt:
    """Deposit into the team's wallet. Raises CommandFailed."""
    target = find_api(data)

    async def pay(client: PayingClient) -> Paid:
        return await client.call(
            "POST", "/api/v1/wallet/invoices", query={"team_id": target.team.team_id}, json={"amount_atomic": amount_atomic},
            api_key=target.team.api_key,
        )  # fmt: skip

    return await _paid(data, target.url, wallet, pay)


async def buy_events(data: Path, wallet: Wallet, since: str | None, limit: int) -> Receipt:
    """Read a page of events, paying for it if the team's wallet cannot. Raises CommandFailed."""
    target = find_api(data)
    query = {"team_id": target.team.team_id, "limit": limit} | ({"since": since} if since else {})

    async def pay(client: PayingClient) -> Paid:
        return await client.call("GET", "/api/v1/events", query=query, api_key=target.team.api_key)

    return await _paid(data, target.url, wallet, pay)


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


async def _paid(data: Path, url: str, wallet: Wallet, pay: Any) -> Receipt:
    before = await local_balance(data, wallet.address)
    async with paying_client(url, wallet) as client:
        paid = await pay(client)
    return Receipt(paid, wallet, before, await local_balance(data, wallet.address))
