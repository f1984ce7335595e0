"""The facilitator as a process on a real chain: what it settles, what it refuses, what it says of its gas, when it begins anew."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kite_common.testing.eventually import eventually
from support.chain import FACILITATOR, PAY_TO, USDC, Chain, Facilitator, OwnChain, own_chain, running_facilitator

TOKEN = "a token of this test"


@pytest.fixture(scope="module")
async def chain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnChain]:
    async with own_chain(tmp_path_factory.mktemp("chain")) as running:
        yield running


@pytest.fixture(scope="module")
async def facilitator(chain: OwnChain, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facilitator]:
    async with running_facilitator(chain, tmp_path_factory.mktemp("facilitator"), X402_FACILITATOR_CONFIRM_S="2") as running:
        yield running


async def ask(facilitator: Facilitator, path: str, body: object = None, token: str | None = None) -> tuple[int, Any]:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        call = session.get(facilitator.url + path) if body is None else session.post(facilitator.url + path, json=body)
        async with call as answer:
            return answer.status, await answer.json()


async def test_it_settles_what_is_signed_and_a_repeat_moves_nothing(chain: Chain, facilitator: Facilitator) -> None:
    payer, before = await chain.payer(), await chain.balance(PAY_TO)
    request = payer.authorize(2 * USDC).request(chain.requirement(2 * USDC))
    assert (await ask(facilitator, "/verify", request))[1]["isValid"] is True
    status, settled = await ask(facilitator, "/settle", request)
    assert (status, settled["success"], settled["network"], settled["payer"]) == (200, True, chain.network, payer.address)
    receipt = await chain.receipt(settled["transaction"])
    assert receipt is not None
    assert await chain.balance(PAY_TO) == before + 2 * USDC
    _, again = await ask(facilitator, "/settle", request)
    assert again["success"] is False
    assert await chain.balance(PAY_TO) == before + 2 * USDC


async def test_copies_at_once_are_one_transaction_and_get_its_answer(chain: Chain, facilitator: Facilitator) -> None:
    payer, before = await chain.payer(), await chain.balance(PAY_TO)
    request = payer.authorize().request(chain.requirement())
    answers = await asyncio.gather(*(ask(facilitator, "/settle", request) for _ in range(8)))
    assert len({answer["transaction"] for _, answer in answers}) == 1
    assert all(answer["success"] for _, answer in answers)
    assert await chain.balance(PAY_TO) == before + USDC


async def test_it_says_what_it_settles_and_what_its_gas_is(chain: Chain, facilitator: Facilitator) -> None:
    _, supported = await ask(facilitator, "/supported")
    assert {"x402Version": 2, "scheme": "exact", "network": chain.network} in [
        {name: kind[name] for name in ("x402Version", "scheme", "network")} for kind in supported["kinds"]
    ]
    status, health = await ask(facilitator, "/healthz")
    assert (status, health["address"]) == (200, FACILITATOR)
    assert int(health["gas_wei"]) > 10**15


@pytest.mark.parametrize("changed", [{"payTo": FACILITATOR}, {"network": "eip155:8453"}, {"asset": FACILITATOR}, {"scheme": "upto"}])
async def test_what_is_not_of_this_deployment_is_refused(chain: Chain, facilitator: Facilitator, changed: dict[str, str]) -> None:
    payer = await chain.payer()
    request = payer.authorize().request(chain.requirement() | changed)
    assert [(await ask(facilitator, path, request))[0] for path in ("/verify", "/settle")] == [403, 403]


@pytest.mark.parametrize(
    "body", [{}, {"paymentPayload": {}, "paymentRequirements": {}}, {"paymentPayload": 1, "paymentRequirements": []}, []]
)
async def test_what_cannot_be_read_is_a_400_without_its_text(facilitator: Facilitator, body: object) -> None:
    assert await ask(facilitator, "/settle", body) == (400, {"error": "the body is no x402 request of scheme exact"})


async def test_what_cannot_be_paid_is_refused(chain: Chain, facilitator: Facilitator) -> None:
    payer = await chain.payer(0)
    request = payer.authorize().request(chain.requirement())
    _, verified = await ask(facilitator, "/verify", request)
    assert (verified["isValid"], verified["invalidReason"]) == (False, "invalid_exact_evm_insufficient_balance")
    status, settled = await ask(facilitator, "/settle", request)
    assert (status, settled["success"]) == (200, False)


async def test_after_three_settlements_without_an_end_it_begins_anew(chain: OwnChain, tmp_path: Path) -> None:
    async with running_facilitator(chain, tmp_path, X402_FACILITATOR_CONFIRM_S="0.3") as own:
        payer = await chain.payer()
        await chain.automine(False)
        try:
            for _ in range(3):
                _, settled = await ask(own, "/settle", payer.authorize().request(chain.requirement()))
                assert settled["errorReason"] == "settlement_pending"
            first = own.child.pid
        finally:
            await chain.mine()
            await chain.automine(True)

        async def another() -> bool:
            return own.child.pid not in (None, first) and own.child.is_ready

        await eventually(another, what="a facilitator that began anew", within_s=30)
        _, settled = await ask(own, "/settle", payer.authorize().request(chain.requirement()))
        assert settled["success"] is True


async def test_a_token_keeps_others_from_its_gas(chain: OwnChain, tmp_path: Path) -> None:
    async with running_facilitator(chain, tmp_path, X402_FACILITATOR_TOKEN=TOKEN) as own:
        payer = await chain.payer()
        request = payer.authorize().request(chain.requirement())
        assert [(await ask(own, "/settle", request, token))[0] for token in (None, "another")] == [401, 401]
        assert (await ask(own, "/settle", request, TOKEN))[1]["success"] is True


async def test_without_gas_it_is_not_ready(chain: OwnChain, tmp_path: Path) -> None:
    gas = await chain.gas(FACILITATOR)
    async with running_facilitator(chain, tmp_path) as own:
        await chain.set_gas(FACILITATOR, 0)
        try:
            async def red() -> bool:
                return (await ask(own, "/healthz"))[0] == 503

            await eventually(red, what="the alarm", within_s=15)
        finally:
            await chain.set_gas(FACILITATOR, gas)
