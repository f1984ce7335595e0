"""The facilitator as a process on a real chain: what it settles, what it refuses, and what it does when chain, gas or itself fail."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from kite_common.testing.eventually import eventually
from support.chain import FACILITATOR, FACILITATOR_KEY, PAY_TO, SETUP, USDC, Authorization, Chain, Facilitator, OwnChain, own_chain
from support.chain import running_facilitator as facilitator_on
from support.chain_faults import SECRET_TEXT, RpcProxy, rpc_proxy

GAS = 10**18


@pytest.fixture(scope="module")
async def chain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnChain]:
    async with own_chain(tmp_path_factory.mktemp("chain")) as running:
        yield running


@pytest.fixture(scope="module")
async def proxy(chain: Chain) -> AsyncIterator[RpcProxy]:
    async with rpc_proxy(chain.url) as running:
        yield running


@pytest.fixture(scope="module")
async def facilitator(chain: Chain, proxy: RpcProxy, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Facilitator]:
    """One for all tests that leave it as it was; its node is behind the proxy, at a path that nobody must see."""
    folder = tmp_path_factory.mktemp("facilitator")
    async with facilitator_on(chain, folder, rpc_url=proxy.own_url + "/v2/key-of-the-node") as running:
        yield running


def request_of(chain: Chain, authorization: Authorization, amount: int = USDC) -> dict[str, Any]:
    return authorization.request(chain.requirement(amount))


async def sent_by(chain: Chain, address: str = FACILITATOR) -> int:
    """How many transactions an account has sent."""
    return await chain.rpc.number("eth_getTransactionCount", address, "latest")


async def test_it_says_what_it_settles_and_with_whose_gas(chain: Chain, facilitator: Facilitator) -> None:
    supported = (await facilitator.http.get("/supported")).json()
    assert {(kind["x402Version"], kind["scheme"], kind["network"]) for kind in supported["kinds"]} == {
        (2, "exact", chain.network), (1, "exact", "base-sepolia"),
    }  # fmt: skip
    assert supported["signers"] == {"eip155:*": [FACILITATOR]}
    health = await facilitator.http.get("/healthz")
    assert (health.status_code, health.json()["signer"]) == (200, FACILITATOR)
    assert int(health.json()["gas_wei"]) == await chain.gas(FACILITATOR)
    assert await facilitator.is_ready()
    assert 'kite_facilitator_gas_wei' in (await facilitator.http.get("/metrics")).text


@pytest.mark.parametrize("version", [1, 2])
async def test_a_payment_is_verified_settled_and_told_of_again(chain: Chain, facilitator: Facilitator, version: int) -> None:
    payer, before = await chain.payer(5 * USDC), await chain.balance(PAY_TO)
    authorization = payer.authorize()
    request = request_of(chain, authorization) if version == 2 else authorization.request_v1(chain.requirement_v1())
    assert (await facilitator.verify(request)).json() == {"isValid": True, "payer": payer.address}
    settled = (await facilitator.settle(request)).json()
    assert settled["success"] is True
    assert settled["network"] == (chain.network if version == 2 else "base-sepolia")
    receipt = await chain.receipt(settled["transaction"])
    assert receipt is not None
    assert receipt["status"] == "0x1"
    sent = await sent_by(chain)
    assert (await facilitator.settle(request)).json() == settled
    assert await sent_by(chain) == sent
    assert await chain.balance(PAY_TO) == before + USDC


async def test_casing_is_no_difference(chain: Chain, facilitator: Facilitator) -> None:
    authorization = (await chain.payer()).authorize()
    shouted = request_of(chain, authorization)
    for requirement in (shouted["paymentRequirements"], shouted["paymentPayload"]["accepted"]):
        requirement["asset"], requirement["payTo"] = requirement["asset"].lower(), "0x" + requirement["payTo"][2:].upper()
    shouted["paymentPayload"]["payload"]["authorization"]["from"] = authorization.payer.lower()
    first = (await facilitator.settle(shouted)).json()
    assert first["success"] is True
    assert (await facilitator.settle(request_of(chain, authorization))).json() == first


async def test_many_settles_of_one_payment_at_once_are_one_transaction(chain: Chain, facilitator: Facilitator) -> None:
    payer, sent = await chain.payer(10 * USDC), await sent_by(chain)
    request = request_of(chain, payer.authorize())
    answers = await asyncio.gather(*(facilitator.settle(request) for _ in range(20)))
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["success"] is True
    assert await sent_by(chain) == sent + 1
    assert await chain.balance(payer.address) == 9 * USDC


async def test_payments_at_once_are_all_settled(chain: Chain, facilitator: Facilitator) -> None:
    before = await chain.balance(PAY_TO)
    requests = [request_of(chain, (await chain.payer()).authorize()) for _ in range(12)]
    answers = await asyncio.gather(*map(facilitator.settle, requests))
    assert all(answer.json()["success"] for answer in answers)
    assert await chain.balance(PAY_TO) == before + 12 * USDC


async def test_who_has_no_money_is_refused_and_nothing_is_sent(chain: Chain, facilitator: Facilitator) -> None:
    sent = await sent_by(chain)
    poor = await facilitator.verify(request_of(chain, (await chain.payer(0)).authorize()))
    assert poor.json()["invalidReason"] == "invalid_exact_evm_insufficient_balance"
    assert await sent_by(chain) == sent


async def test_what_somebody_else_submitted_is_settled_by_their_transaction(chain: Chain, facilitator: Facilitator) -> None:
    authorization = (await chain.payer()).authorize()
    transaction = await chain.front_run(authorization)
    answer = (await facilitator.settle(request_of(chain, authorization))).json()
    assert (answer["success"], answer["transaction"]) == (True, transaction)


async def test_a_cancelled_authorization_is_gone_and_burns_no_gas(chain: Chain, facilitator: Facilitator) -> None:
    payer, sent = await chain.payer(), await sent_by(chain)
    authorization = payer.authorize()
    await chain.cancel(payer, authorization.nonce)
    answer = (await facilitator.settle(request_of(chain, authorization))).json()
    assert (answer["success"], answer["errorReason"], answer["transaction"]) == (False, "invalid_exact_evm_nonce_already_used", "")
    assert await sent_by(chain) == sent


async def test_a_transaction_that_pays_once_for_two_nonces_settles_one(chain: Chain, facilitator: Facilitator) -> None:
    payer = await chain.payer()
    paid, elsewhere = payer.authorize(), payer.authorize(to=SETUP)
    transaction = await chain.both_in_one(paid, elsewhere)
    assert (await facilitator.settle(request_of(chain, paid))).json()["transaction"] == transaction
    answer = (await facilitator.settle(request_of(chain, elsewhere))).json()
    assert answer["success"] is True or answer["errorReason"] == "invalid_exact_evm_nonce_already_used"


Change = Callable[[dict[str, Any]], None]


def _set(*path: str, to: Any) -> Change:
    def change(request: dict[str, Any]) -> None:
        inner = request
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = to

    return change


REFUSED = {
    "another scheme": (403, _set("paymentRequirements", "scheme", to="upto")),
    "another network": (403, _set("paymentRequirements", "network", to="eip155:8453")),
    "another network accepted": (403, _set("paymentPayload", "accepted", "network", to="eip155:1")),
    "another token": (403, _set("paymentRequirements", "asset", to=SETUP)),
    "another payTo": (403, _set("paymentRequirements", "payTo", to=SETUP)),
    "another payTo accepted": (403, _set("paymentPayload", "accepted", "payTo", to=SETUP)),
    "no version": (400, _set("x402Version", to=None)),
    "version 3": (400, _set("x402Version", to=3)),
    "no payment": (400, _set("paymentPayload", to="x")),
    "no signature": (400, _set("paymentPayload", "payload", "signature", to=None)),
    "a number that is none": (400, _set("paymentPayload", "payload", "authorization", "value", to="-1")),
    "a short nonce": (400, _set("paymentPayload", "payload", "authorization", "nonce", to="0x12")),
    "a permit beside it": (400, _set("paymentPayload", "payload", "permit2Authorization", to={})),
    "no amount": (400, _set("paymentRequirements", "amount", to="1e6")),
    "a wrong digit in an address": (400, _set("paymentRequirements", "payTo", to=PAY_TO[:-1] + "d")),
    "too much": (413, _set("paymentPayload", "extensions", to={"a": "x" * 70_000})),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("path", ["/verify", "/settle"])
async def test_what_is_not_ours_or_no_payment_never_gets_to_the_chain(
    chain: Chain, facilitator: Facilitator, proxy: RpcProxy, path: str, case: str
) -> None:
    status, change = REFUSED[case]
    request = request_of(chain, (await chain.payer(0)).authorize())
    change(request)
    asked = len([method for method in proxy.methods if method not in ("eth_chainId", "eth_getBalance")])
    answer = await facilitator.http.post(path, json=request)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "message"}
    assert len([method for method in proxy.methods if method not in ("eth_chainId", "eth_getBalance")]) == asked


@pytest.mark.parametrize("body", [b"", b"[]", b'{"x402Version":2', b'{"a":1,"a":1}', b"\xff", b"[" * 10_000])
async def test_bytes_that_are_no_request_are_400(facilitator: Facilitator, body: bytes) -> None:
    assert (await facilitator.http.post("/settle", content=body)).status_code == 400


FAULTS: dict[str, dict[str, object]] = {
    "cut": {"refuses": True},
    "silent": {"silent": True},
    "error": {"errors": frozenset({"eth_call", "eth_getCode", "eth_sendRawTransaction"})},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_its_node_it_judges_nothing_and_sends_nothing(
    chain: Chain, facilitator: Facilitator, proxy: RpcProxy, fault: str
) -> None:
    request = request_of(chain, (await chain.payer()).authorize())
    for name, value in FAULTS[fault].items():
        setattr(proxy, name, value)
    try:
        answers = [await facilitator.verify(request), await facilitator.settle(request)]
    finally:
        proxy.heal()
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]) == (503, "chain_unavailable")
    assert (await facilitator.settle(request)).json()["success"] is True


async def test_a_send_that_fails_leaves_no_gap_behind_it(chain: Chain, facilitator: Facilitator, proxy: RpcProxy) -> None:
    request = request_of(chain, (await chain.payer()).authorize())
    proxy.errors = frozenset({"eth_sendRawTransaction"})
    try:
        failed = (await facilitator.settle(request)).json()
    finally:
        proxy.heal()
    assert (failed["success"], failed["errorReason"], failed["transaction"]) == (False, "transaction_failed", "")
    assert SECRET_TEXT not in str(failed)
    assert (await facilitator.settle(request)).json()["success"] is True


async def test_without_gas_nothing_is_begun_and_refilling_is_enough(chain: Chain, proxy: RpcProxy, tmp_path: Path) -> None:
    async with facilitator_on(chain, tmp_path) as facilitator:
        request = request_of(chain, (await chain.payer()).authorize())
        await chain.set_gas(FACILITATOR, 0)
        try:
            # It may still believe in its last look: then the node refuses, and nothing has landed.
            first = await facilitator.settle(request)
            assert first.status_code == 503 or first.json()["success"] is False

            async def says_so() -> bool:
                return bool((await facilitator.http.get("/healthz")).json()["status"] == "gas_low")

            await eventually(says_so, within_s=20, what="the low gas is seen")
            for call in (facilitator.verify, facilitator.settle):
                answer = await call(request)
                assert (answer.status_code, answer.json()["error"]) == (503, "out_of_gas")
            assert (await facilitator.http.get("/healthz")).status_code == 503
        finally:
            await chain.set_gas(FACILITATOR, GAS)
        assert (await facilitator.settle(request)).json()["success"] is True
        assert (await facilitator.http.get("/healthz")).status_code == 200


async def test_a_token_is_asked_for_if_one_is_set(chain: Chain, tmp_path: Path) -> None:
    async with facilitator_on(chain, tmp_path, X402_FACILITATOR_TOKEN="open-sesame") as facilitator:
        request = request_of(chain, (await chain.payer()).authorize())
        for headers in ({}, {"authorization": "Bearer open"}, {"authorization": "open-sesame"}, {"authorization": "Bearer öpen"}):
            sent = [(name.encode(), value.encode()) for name, value in headers.items()]
            assert (await facilitator.http.post("/settle", json=request, headers=sent)).status_code == 401
        facilitator.http.headers["authorization"] = "Bearer open-sesame"
        assert (await facilitator.settle(request)).json()["success"] is True
        assert b"open-sesame" not in facilitator.child.log.read_bytes()


@pytest.mark.parametrize("point", ["before_send", "sent", "mined"])
async def test_killed_while_it_settles_it_settles_once(chain: Chain, tmp_path: Path, point: str) -> None:
    payer = await chain.payer(10 * USDC)
    request = request_of(chain, payer.authorize())
    async with facilitator_on(chain, tmp_path, KITE_FAULT_POINT=f"facilitator.settle.{point}") as facilitator:
        with pytest.raises(httpx.TransportError):
            await facilitator.settle(request)
        await eventually(lambda: bool(facilitator.endings), within_s=10, what="it has died")
    assert "SIGKILL" in facilitator.endings[0]
    sent = await sent_by(chain)
    async with facilitator_on(chain, tmp_path) as facilitator:
        answer = (await facilitator.settle(request)).json()
    assert answer["success"] is True
    assert await sent_by(chain) == sent + (point == "before_send")
    assert await chain.balance(payer.address) == 9 * USDC


async def test_pending_settles_in_a_row_make_it_start_again_and_then_it_finds_what_landed(tmp_path: Path) -> None:
    async with own_chain(tmp_path / "chain") as chain, facilitator_on(chain, tmp_path, X402_FACILITATOR_CONFIRM_S="0.5") as facilitator:
        requests = [request_of(chain, (await chain.payer()).authorize()) for _ in range(3)]
        await chain.automine(False)
        answers = [(await facilitator.settle(request)).json() for request in requests]
        assert {answer["errorReason"] for answer in answers} == {"settlement_pending"}
        await eventually(lambda: bool(facilitator.endings), within_s=30, what="it has ended")
        assert "exit code 75" in facilitator.endings[0]
        assert b"nonce_gap_suspected" in facilitator.child.log.read_bytes()
        await chain.mine()
        await chain.automine(True)
        await eventually(facilitator.is_ready, within_s=60, what="it is back")
        again = [(await facilitator.settle(request)).json() for request in requests]
        assert [(answer["success"], answer["transaction"]) for answer in again] == [(True, answer["transaction"]) for answer in answers]


async def test_a_reorganised_payment_is_settled_again(tmp_path: Path) -> None:
    async with own_chain(tmp_path / "chain") as chain, facilitator_on(chain, tmp_path) as facilitator:
        payer = await chain.payer(10 * USDC)
        request = request_of(chain, payer.authorize())
        first = (await facilitator.settle(request)).json()
        await chain.reorg(1)
        await facilitator.child.kill9()
        await eventually(facilitator.is_ready, within_s=60, what="it is back")
        second = (await facilitator.settle(request)).json()
        assert (first["success"], second["success"]) == (True, True)
        assert await chain.balance(payer.address) == 9 * USDC


async def test_what_it_has_begun_is_answered_before_it_stops(tmp_path: Path) -> None:
    async with own_chain(tmp_path / "chain") as chain, facilitator_on(chain, tmp_path) as facilitator:
        request = request_of(chain, (await chain.payer()).authorize())
        await chain.automine(False)
        running = asyncio.create_task(facilitator.settle(request))

        async def is_sent() -> bool:
            return await chain.rpc.number("eth_getTransactionCount", FACILITATOR, "pending") > 0

        await eventually(is_sent, within_s=10, what="it is sent")
        facilitator.child.signal(signal.SIGTERM)
        await asyncio.wait([running], timeout=0.3)
        await chain.mine()
        assert (await running).json()["success"] is True


async def test_a_node_of_another_chain_is_never_used(chain: Chain, facilitator: Facilitator, tmp_path: Path) -> None:
    request = request_of(chain, (await chain.payer()).authorize())
    own = {"X402_NETWORK": "eip155:8453"}
    for requirement in (request["paymentRequirements"], request["paymentPayload"]["accepted"]):
        requirement |= {"network": "eip155:8453", "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"}
    async with facilitator_on(chain, tmp_path, waits=False, **own) as lost:
        async def listens() -> bool:
            try:
                return (await lost.http.get("/livez")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(listens, within_s=30, what="it listens")
        ready = await lost.http.get("/readyz")
        assert ready.status_code == 503
        assert "chain" in ready.json()["failing"]
        assert (await lost.settle(request)).status_code == 503


async def test_its_log_tells_payments_and_no_secrets(chain: Chain, facilitator: Facilitator) -> None:
    authorization = (await chain.payer()).authorize()
    await facilitator.settle(request_of(chain, authorization))
    log = facilitator.child.log.read_text()
    assert '"facilitator.settled"' in log
    assert "pay_" in log
    for secret in (FACILITATOR_KEY[2:], authorization.signature[2:], "key-of-the-node", SECRET_TEXT):
        assert secret not in log
