"""Twenty copies of one payment at once, over two gateways: one transaction, one transfer, one credit, and one answer for all."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from x402 import x402Client
from x402.http.utils import decode_payment_required_header, decode_payment_response_header, encode_payment_signature_header
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import register_exact_evm_client

from kite_common.testing.eventually import eventually
from support.chain import FACILITATOR, USDC, Payer
from support.kite import Team
from support.payer_walk import BOOTSTRAP, DEAR_ATOMIC, INVOICES, PaidKite, Walk
from support.payers import Call, PythonClient

COPIES = 20
# What a copy may be told before it gets the answer: resend the same.
UNCLEAR = {(503, "settlement_pending"), (503, "facilitator_unavailable")}
pytestmark = pytest.mark.timeout(180)


async def signed(scene: PaidKite, payer: Payer, call: Call) -> str:
    """The payment header the official client makes for a request that is not paid for."""
    asked = await scene.gateways[0].request(call.method, call.path, headers=call.headers, content=call.body)
    assert asked.status_code == 402, asked.text
    client = x402Client()
    register_exact_evm_client(client, EthAccountSigner(payer.account))
    offered = decode_payment_required_header(asked.headers["payment-required"])
    return encode_payment_signature_header(await client.create_payment_payload(offered))


async def until_taken(scene: PaidKite, number: int, call: Call, payment: str) -> list[httpx.Response]:
    """One copy, sent again for as long as the answer says so: all answers it got, the last one final."""
    answers: list[httpx.Response] = []
    while True:
        gateway = scene.gateways[number % 2]
        answers.append(await gateway.request(
            call.method, call.path, headers={**call.headers, "payment-signature": payment}, content=call.body
        ))  # fmt: skip
        if "retry-after" not in answers[-1].headers:
            return answers
        await asyncio.sleep(int(answers[-1].headers["retry-after"]))


async def copies_of(scene: PaidKite, payer: Payer, call: Call, price: int, meanwhile: set[tuple[int, str]]) -> bytes:
    """Send them, hold the chain against the answers; the one body all got. `meanwhile`: statuses and codes that may come before."""
    payment = await signed(scene, payer, call)
    before = [await scene.chain.balance(payer.address), await scene.paid_atomic(), await transactions(scene)]
    all_answers = await asyncio.gather(*(until_taken(scene, number, call, payment) for number in range(COPIES)))
    assert {answers[-1].status_code for answers in all_answers} == {200}
    waited = {(one.status_code, one.json()["error"]) for answers in all_answers for one in answers[:-1]}
    assert waited <= meanwhile
    assert len({answers[-1].headers["payment-response"] for answers in all_answers}) == 1
    (body,) = {answers[-1].content for answers in all_answers}
    after = [await scene.chain.balance(payer.address), await scene.paid_atomic(), await transactions(scene)]
    assert [now - then for now, then in zip(after, before, strict=True)] == [-price, price, 1]
    told = decode_payment_response_header(all_answers[0][-1].headers["payment-response"])
    assert (told.success, told.amount, told.payer) == (True, str(price), payer.address)
    return body


async def transactions(scene: PaidKite) -> int:
    """How many transactions the facilitator has sent, successful or not."""
    return await scene.chain.rpc.number("eth_getTransactionCount", FACILITATOR, "latest")


async def credits_of(scene: PaidKite, team: Team, count: int) -> list[int]:
    """What payments have credited to a team, once its ledger shows `count` entries."""

    async def shown() -> Sequence[dict[str, Any]]:
        entries: list[dict[str, Any]] = (await scene.get(team, "ledger", limit=1000))["entries"]
        return entries if len(entries) >= count else ()

    entries = await eventually(shown, within_s=30, every_s=0.2, what=f"the ledger shows {count} entries")
    assert len(entries) == count
    return [one["amount_atomic"] for one in entries if one["kind"] == "credit"]


async def test_copies_of_a_deposit_are_one_deposit(scene: PaidKite) -> None:
    payer, (team,) = await scene.chain.payer(), await scene.kite.teams(1, plan="starter", balance=0)

    async def known() -> bool:
        asked = [await one.get("/api/v1/wallet", params={"team_id": team.id}, headers=team.headers) for one in scene.gateways]
        return {one.status_code for one in asked} == {200}

    await eventually(known, within_s=30, what="the team's key is known to both gateways")
    call = Call("POST", f"{INVOICES}?team_id={team.id}", team.headers, json.dumps({"amount_atomic": USDC}).encode())
    body = json.loads(await copies_of(scene, payer, call, USDC, UNCLEAR))
    assert (body["amount_deposited_atomic"], body["balance_atomic"]) == (USDC, USDC)
    wallet = await scene.get(team, "wallet")
    assert (wallet["balance_atomic"], wallet["reserved_atomic"], wallet["debt_atomic"]) == (USDC, 0, 0)
    assert await credits_of(scene, team, 1) == [USDC]
    await scene.audit()


async def test_copies_of_a_bootstrap_are_one_team_with_one_set_of_credentials(scene: PaidKite) -> None:
    payer = await scene.chain.payer()
    call = Call("POST", BOOTSTRAP, {}, json.dumps({"source": "copies", "deposit_atomic": USDC}).encode())
    body = json.loads(await copies_of(scene, payer, call, USDC, UNCLEAR | {(409, "bootstrap_in_progress")}))
    assert body["credentials_available"] is True
    team = Team(body["team_id"], body["api_key"])
    assert (await scene.get(team, "wallet"))["balance_atomic"] == USDC
    assert await credits_of(scene, team, 1) == [USDC]
    await scene.audit()


async def test_copies_of_a_page_are_one_page_charged_once(scene: PaidKite) -> None:
    payer = await scene.chain.payer()
    walk = Walk(scene, PythonClient(payer), payer)
    await walk.opens_a_team()
    await walk.empties_the_wallet()
    price = 2 * DEAR_ATOMIC
    call = Call("GET", f"/api/v1/events?team_id={walk.team.id}&limit=2", walk.team.headers)

    async def can_be_bought() -> bool:
        asked = await scene.gateways[0].request(call.method, call.path, headers=call.headers)
        return asked.status_code == 402 and asked.json()["amount_atomic"] == price

    await eventually(can_be_bought, within_s=30, every_s=0.2, what="the page has its rows")
    # A gateway has eight pages of a team under way at once, and tells the others to come again.
    body = json.loads(await copies_of(scene, payer, call, price, UNCLEAR | {(429, "rate_limit_exceeded")}))
    assert (len(body["events"]), body["amount_charged_atomic"]) == (2, price)
    assert (await scene.get(walk.team, "wallet"))["balance_atomic"] == 0
    # Two credits, ten events, one page.
    assert sorted(await credits_of(scene, walk.team, 13)) == sorted([USDC, price])
    await scene.audit()
