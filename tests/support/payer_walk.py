"""A Kite that takes payments, and the walk of one payer: opens a team, deposits, buys a page; held against chain, ledger and wallet.

Two gateways, billing, replay, the facilitator, a chain. One plan is dear, so that a few messages empty a wallet.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

import httpx
from x402.http.utils import decode_payment_response_header

from kite_cli.local.chain.anvil import ChainOptions
from kite_cli.local.environment import PARTITIONS
from kite_cli.local.stack import LocalStack, ServiceSpec, StackOptions
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.testing.eventually import eventually
from kite_common.topics import ALL
from support.chain import PAY_TO, USDC, Chain, Payer, chain_of
from support.kite import COMPRESSED, Kite, Team
from support.kitectl import Ended, Kitectl
from support.payers import Answer, Call, PayingClient

BOOTSTRAP, INVOICES = "/api/v1/bootstrap/x402", "/api/v1/wallet/invoices"
# One event, and one row of a page.
DEAR_ATOMIC: Final = 100_000
_PLAN: Final = f"""
[[plan]]
id = "6b1f3c1e-0000-4000-8000-0000000000ff"
name = "dear"
requests_per_minute = "unlimited"
events_per_month = "unlimited"
events_per_day = "unlimited"
active_sources_limit = "unlimited"
max_payload_bytes = 262_144
price_atomic_monthly = 0
price_atomic_per_event = {DEAR_ATOMIC}
price_atomic_per_replayed_event = {DEAR_ATOMIC}
"""
_PROCESSES: Final = {"billing": "billing", "replay": "replay", "gateway": "gateway", "gateway-2": "gateway"}
_DEPOSIT: Final = 250_000
_ROWS: Final = 10
_FIRST: Final = 1_000_000


@dataclass(frozen=True)
class PaidKite:
    """The running processes. `gateways`: plain clients, which never pay."""

    kite: Kite
    chain: Chain
    gateways: tuple[httpx.AsyncClient, httpx.AsyncClient]
    data: Path

    async def paid_atomic(self) -> int:
        """What the paid address has."""
        return await self.chain.balance(PAY_TO)

    async def get(self, team: Team, what: str, **query: Any) -> Any:
        """A bearer route of a team, free of charge."""
        answer = await self.gateways[0].get(f"/api/v1/{what}", params={"team_id": team.id, **query}, headers=team.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def send_message(self, team: Team) -> None:
        """One event, from the wallet."""
        answer = await self.gateways[0].post(
            "/api/v1/agents/messages", params={"team_id": team.id}, headers=team.headers, json={"from": "a", "to": "b", "body": "c"}
        )
        assert answer.status_code == 202, answer.text

    async def resend(self, number: int, call: Call, sent: tuple[str, str] | None) -> httpx.Response:
        """A request with a payment that was made before, byte for byte, at one of the gateways; a 503 is met with another copy."""
        assert sent is not None
        gateway, headers = self.gateways[number % len(self.gateways)], {**call.headers, sent[0]: sent[1]}
        while True:
            answer = await gateway.request(call.method, call.path, headers=headers, content=call.body)
            if answer.status_code != 503:
                return answer
            await asyncio.sleep(int(answer.headers["retry-after"]))

    async def kitectl(self, *arguments: str, **environment: str) -> Ended:
        """kitectl as a user runs it, on this stack."""
        return await Kitectl(self.data)(*arguments, **environment)

    async def audit(self) -> None:
        """Credits, records of payments and the chain say the same, to the unit."""
        found = await self.kitectl("payments", "audit", "--within", "30", "--json")
        assert found.code == 0, found.out + found.err
        assert found.document["gap_atomic"] == 0
        assert found.document["chain_atomic"] == found.document["records_atomic"] == await self.paid_atomic()
        assert found.document["unattributed_atomic"] == found.document["in_flight"] == 0


@asynccontextmanager
async def paid_kite(data: Path) -> AsyncIterator[PaidKite]:
    """Start everything; stop everything."""
    async with LocalStack(StackOptions(data, chain=ChainOptions(), facilitator=True)) as local:
        await ensure_topics(Kafka(local.addresses.kafka_bootstrap), ALL, PARTITIONS, 1)
        plans = data / "plans.toml"
        plans.write_text(resources.files("kite_common").joinpath("plans.toml").read_text("utf-8") + _PLAN, "utf-8")
        env = COMPRESSED | {"KITE_PLANS_FILE": str(plans)}
        await local.start_services([
            ServiceSpec(name, (sys.executable, "-m", f"kite_{module}.main"), env=env | {"KITE_INSTANCE": name}, ready_within_s=120)
            for name, module in _PROCESSES.items()
        ])  # fmt: skip
        local.describe(local.addresses.url("gateway"))
        limits, urls = httpx.Limits(max_connections=100), [local.addresses.url(name) for name in ("gateway", "gateway-2")]
        async with (
            chain_of(local) as chain,
            httpx.AsyncClient(base_url=urls[0], timeout=60, limits=limits, trust_env=False) as first,
            httpx.AsyncClient(base_url=urls[1], timeout=60, limits=limits, trust_env=False) as second,
        ):
            yield PaidKite(Kite(local), chain, (first, second), data)


@dataclass
class Walk:
    """One payer's way. Each step checks what it moved on the chain and in the wallet; `is_agreed` holds all of it together."""

    scene: PaidKite
    client: PayingClient
    payer: Payer
    done: list[tuple[Call, Answer]] = field(default_factory=list)
    spent: int = 0
    team: Team = Team("", "")

    async def opens_a_team(self) -> None:
        """POST /api/v1/bootstrap/x402 on the dear plan."""
        answer = await self._pays("POST", BOOTSTRAP, {"source": "my-bot", "deposit_atomic": _FIRST, "plan": "dear"}, _FIRST)
        body = answer.json
        assert body["credentials_available"] is True
        assert (body["wallet_balance_atomic"], body["network"]) == (_FIRST, self.scene.chain.network)
        assert body["endpoint_with_token"] == f"{body['endpoint']}/{body['hook_token']}"
        self.team = Team(body["team_id"], body["api_key"])
        assert await self._wallet() == _FIRST

    async def empties_the_wallet(self) -> None:
        """As many messages as the wallet pays for."""
        for _ in range(_FIRST // DEAR_ATOMIC):
            await self.scene.send_message(self.team)
        await eventually(self._is_empty, within_s=30, what="the messages are charged")

    async def deposits(self) -> None:
        """POST /api/v1/wallet/invoices."""
        answer = await self._pays("POST", self._of_team(INVOICES), {"amount_atomic": _DEPOSIT}, _DEPOSIT)
        assert answer.json == {
            "balance_atomic": _DEPOSIT, "amount_deposited_atomic": _DEPOSIT, "balance_sats": _DEPOSIT, "amount_deposited_sats": _DEPOSIT,
        }  # fmt: skip
        assert await self._wallet() == _DEPOSIT

    async def buys_a_page(self) -> None:
        """GET /api/v1/events, a page the wallet cannot pay for: the payment is the page's price, and the wallet stays as it is."""
        path, price = self._of_team("/api/v1/events") + f"&limit={_ROWS}", _ROWS * DEAR_ATOMIC

        async def all_can_be_bought() -> bool:
            asked = await self.scene.gateways[1].get(path, headers=self.team.headers)
            return asked.status_code == 402 and (asked.json()["rows"], asked.json()["amount_atomic"]) == (_ROWS, price)

        await eventually(all_can_be_bought, within_s=30, every_s=0.2, what="the page is complete and has its price")
        answer = await self._pays("GET", path, None, price)
        assert [row["event"]["data"]["body"] for row in answer.json["events"]] == ["c"] * _ROWS
        assert answer.json["amount_charged_atomic"] == price
        assert await self._wallet() == _DEPOSIT

    async def gets_the_same_for_the_same_payments(self) -> None:
        """Each payment once more, at the other gateway: the first answer, and nothing moves."""
        for call, answer in self.done:
            again = await self.scene.resend(1, call, answer.sent)
            assert again.status_code == 200, again.text
            assert again.headers["payment-response"] == answer.headers["payment-response"]
            hidden = {} if self.client.shows_quotes or call.path != BOOTSTRAP else {
                "api_key": None, "hook_token": None, "endpoint_with_token": None, "credentials_available": False,
            }  # fmt: skip
            assert again.json() == answer.json | hidden
        assert await self._wallet() == _DEPOSIT

    async def is_agreed(self, before: int) -> None:
        """Chain, ledger and wallet, to the unit. `before`: what the paid address had when the walk began."""
        assert await self.scene.paid_atomic() - before == self.spent
        told = await eventually(self._whole_ledger, within_s=30, every_s=0.2, what="the ledger can be read to its end")
        assert sum(one["amount_atomic"] for one in told) == await self._wallet() == _DEPOSIT
        credited = {one["payment"]["transaction"]: one["amount_atomic"] for one in told if one["kind"] == "credit"}
        assert sum(credited.values()) == self.spent
        assert credited == {_told(answer).transaction: int(_told(answer).amount or 0) for _, answer in self.done}
        assert {one["payment"]["payer"] for one in told if one["payment"]} == {self.payer.address}
        assert (await self.scene.kite.balances([self.team]))[self.team.id] == _DEPOSIT
        await self.scene.audit()

    async def _pays(self, method: str, path: str, body: Mapping[str, Any] | None, price: int) -> Answer:
        """A request that costs exactly so much: on the payer's side, on ours, in the transaction that the answer names."""
        headers = {} if not self.team.id else self.team.headers
        call = Call(method, path, headers, b"" if body is None else json.dumps(body).encode())
        before, paid_before = await self.scene.chain.balance(self.payer.address), await self.scene.paid_atomic()
        answer = await self.client.send(self.scene.kite.url, call)
        assert answer.status == 200, (answer.status, answer.content)
        told = _told(answer)
        assert (told.success, told.payer, told.amount) == (True, self.payer.address, str(price))
        assert answer.headers["x-payment-response"] == answer.headers["payment-response"]
        receipt = await self.scene.chain.receipt(told.transaction)
        assert receipt is not None
        assert int(receipt["status"], 16) == 1
        assert before - await self.scene.chain.balance(self.payer.address) == price
        assert await self.scene.paid_atomic() - paid_before == price
        self.spent += price
        self.done.append((call, answer))
        return answer

    def _of_team(self, path: str) -> str:
        return f"{path}?team_id={self.team.id}"

    async def _wallet(self) -> int:
        told = await self.scene.get(self.team, "wallet")
        assert told["reserved_atomic"] == 0
        assert told["balance_sats"] == told["balance_atomic"]
        return int(told["balance_atomic"])

    async def _is_empty(self) -> bool:
        told = await self.scene.get(self.team, "wallet")
        return (told["balance_atomic"], told["reserved_atomic"]) == (0, 0)

    async def _whole_ledger(self) -> list[dict[str, Any]] | None:
        """All entries, once as many are archived as the walk has made: three credits, a debit for each event, one for the page."""
        entries: list[dict[str, Any]] = (await self.scene.get(self.team, "ledger", limit=1000))["entries"]
        return entries if len(entries) == len(self.done) + _FIRST // DEAR_ATOMIC + 1 else None


async def walk_of(scene: PaidKite, client: PayingClient, payer: Payer) -> None:
    """The whole of it."""
    before, walk = await scene.paid_atomic(), Walk(scene, client, payer)
    await walk.opens_a_team()
    await walk.empties_the_wallet()
    await walk.deposits()
    await walk.buys_a_page()
    await walk.gets_the_same_for_the_same_payments()
    await walk.is_agreed(before)
    assert await scene.chain.balance(payer.address) == WALLET_ATOMIC - walk.spent


# What a payer of these tests begins with.
WALLET_ATOMIC: Final = 10 * USDC


def _told(answer: Answer) -> Any:
    return decode_payment_response_header(answer.headers["payment-response"])
