"""One payment shown twenty times at once, to two gateways: one transfer, one credit, one answer."""

import asyncio
import json

import pytest
from x402.http.utils import decode_payment_required_header

from support.chain import header
from support.payer_walk import BOOTSTRAP, INVOICES, WALLET_ATOMIC, PaidKite, Walk
from support.payers import Call, PythonClient

pytestmark = pytest.mark.timeout(180)
COPIES = 20
AMOUNT = 1_000_000


async def test_copies_of_a_deposit_are_one_transfer_and_one_credit(scene: PaidKite) -> None:
    payer = await scene.chain.payer(WALLET_ATOMIC)
    walk = Walk(scene, PythonClient(payer), payer)
    await walk.opens_a_team()
    before = await scene.paid_atomic()
    path = f"{INVOICES}?team_id={walk.team.id}"
    call = Call("POST", path, walk.team.headers, json.dumps({"amount_atomic": AMOUNT}).encode())
    asked = await scene.gateways[0].request(call.method, call.path, headers=call.headers, content=call.body)
    offer = decode_payment_required_header(asked.headers["payment-required"]).accepts[0]
    sent = ("payment-signature", header(payer.authorize(AMOUNT).v2(offer.model_dump(by_alias=True))))
    answers = await asyncio.gather(*(scene.resend(number, call, sent) for number in range(COPIES)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({(answer.content, answer.headers["payment-response"]) for answer in answers}) == 1
    assert answers[0].json()["balance_atomic"] == 2 * AMOUNT
    assert await scene.paid_atomic() - before == AMOUNT
    assert (await scene.get(walk.team, "wallet"))["balance_atomic"] == 2 * AMOUNT
    await scene.audit()


async def test_copies_of_a_bootstrap_are_one_team(scene: PaidKite) -> None:
    payer, before = await scene.chain.payer(WALLET_ATOMIC), await scene.paid_atomic()
    call = Call("POST", BOOTSTRAP, {}, json.dumps({"source": "copies"}).encode())
    asked = await scene.gateways[0].request(call.method, call.path, content=call.body)
    offer = decode_payment_required_header(asked.headers["payment-required"]).accepts[0]
    sent = ("payment-signature", header(payer.authorize(AMOUNT).v2(offer.model_dump(by_alias=True))))
    answers = await asyncio.gather(*(scene.resend(number, call, sent) for number in range(COPIES)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert {answer.json()["error"] for answer in answers if answer.status_code == 409} <= {"bootstrap_in_progress"}
    again = await scene.resend(1, call, sent)
    assert again.status_code == 200
    assert {answer.content for answer in answers if answer.status_code == 200} <= {again.content}
    assert again.json()["credentials_available"] is True
    assert await scene.paid_atomic() - before == AMOUNT
    await scene.audit()
