"""The levers tests pull on a chain, on a real one: each must do what its name says, or the tests that use it show nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from kite_cli.local.chain.rpc import RpcFailed, local_rpc
from support.chain import FACILITATOR, PAY_TO, USDC, Chain, OwnChain, own_chain
from support.chain_faults import MADE_UP_HASH, FacilitatorDouble, Lie, facilitator_double, rpc_proxy


@pytest.fixture(scope="module")
async def chain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnChain]:
    async with own_chain(tmp_path_factory.mktemp("chain")) as running:
        yield running


async def test_anybody_may_submit_an_authorization_and_only_once(chain: Chain) -> None:
    payer, before = await chain.payer(5 * USDC), await chain.balance(PAY_TO)
    authorization = payer.authorize(2 * USDC)
    await chain.front_run(authorization)
    assert await chain.balance(payer.address) == 3 * USDC
    assert await chain.balance(PAY_TO) == before + 2 * USDC
    assert await chain.is_used(payer.address, authorization.nonce)
    with pytest.raises(RpcFailed, match="used or canceled"):
        await chain.front_run(authorization)


async def test_a_signature_over_anything_else_is_refused(chain: Chain) -> None:
    payer = await chain.payer()
    other = payer.authorize(USDC)
    with pytest.raises(RpcFailed, match="invalid signature"):
        await chain.front_run(type(other)(**vars(payer.authorize(2 * USDC)) | {"signature": other.signature}))


async def test_a_cancelled_nonce_is_used_and_paid_nobody(chain: Chain) -> None:
    payer = await chain.payer()
    authorization = payer.authorize()
    await chain.cancel(payer, authorization.nonce)
    assert await chain.is_used(payer.address, authorization.nonce)
    with pytest.raises(RpcFailed, match="used or canceled"):
        await chain.front_run(authorization)
    assert await chain.balance(payer.address) == 100 * USDC


async def test_one_transaction_may_use_two_authorizations(chain: Chain) -> None:
    payer, before = await chain.payer(), await chain.balance(PAY_TO)
    receipt = await chain.receipt(await chain.both_in_one(payer.authorize(), payer.authorize(3 * USDC, to=FACILITATOR)))
    assert receipt is not None
    assert len(receipt["logs"]) == 4
    assert await chain.balance(PAY_TO) == before + USDC
    assert await chain.balance(payer.address) == 96 * USDC


async def test_a_reorganisation_takes_a_payment_back(chain: Chain) -> None:
    payer = await chain.payer()
    authorization = payer.authorize()
    transaction = await chain.front_run(authorization)
    await chain.reorg(1)
    assert await chain.balance(payer.address) == 100 * USDC
    assert not await chain.is_used(payer.address, authorization.nonce)
    assert await chain.receipt(transaction) is None


async def test_an_authorization_ends_with_the_time_of_the_chain(chain: Chain) -> None:
    payer = await chain.payer()
    authorization = payer.authorize()
    async with chain.later(301):
        with pytest.raises(RpcFailed, match="expired"):
            await chain.front_run(authorization)
    await chain.front_run(authorization)


async def test_without_automine_a_transaction_waits_for_a_block(chain: Chain) -> None:
    payer = await chain.payer()
    await chain.automine(False)
    try:
        running = asyncio.create_task(chain.front_run(payer.authorize()))
        done, _ = await asyncio.wait([running], timeout=0.3)
        assert not done
        assert await chain.balance(payer.address) == 100 * USDC
        await chain.mine()
        await running
    finally:
        await chain.automine(True)
    assert await chain.balance(payer.address) == 99 * USDC


async def test_gas_and_depth_are_set_as_told(chain: Chain) -> None:
    await chain.set_gas(FACILITATOR, 0)
    assert await chain.gas(FACILITATOR) == 0
    await chain.set_gas(FACILITATOR, 10**18)
    head = await chain.head()
    await chain.mine(12)
    assert await chain.head() == head + 12


async def test_a_killed_chain_of_a_test_comes_back_with_its_token(tmp_path: Path) -> None:
    async with own_chain(tmp_path) as chain:
        await chain.mint(PAY_TO, USDC)
        await chain.child.kill9()
        await chain.child.wait_ready()
        assert await chain.balance(PAY_TO) == 0
        await chain.front_run((await chain.payer()).authorize())
        assert await chain.balance(PAY_TO) == USDC


async def test_the_proxy_is_transparent_until_it_is_told_otherwise(chain: Chain) -> None:
    async with rpc_proxy(chain.url) as proxy, local_rpc(proxy.own_url, timeout_s=0.5) as rpc:
        transaction = await chain.mint(PAY_TO, USDC)
        head = await chain.head()
        assert await rpc.number("eth_blockNumber") == head
        proxy.behind = 1
        assert await rpc.number("eth_blockNumber") == head - 1
        assert (await rpc.call("eth_getBlockByNumber", "latest", False))["number"] == hex(head - 1)
        assert await rpc.call("eth_getTransactionReceipt", transaction) is None
        logs = {"fromBlock": hex(head), "address": chain.token.address}
        assert await rpc.call("eth_getLogs", logs | {"fromBlock": hex(head - 1)}) == await rpc.call(
            "eth_getLogs", logs | {"fromBlock": hex(head - 1), "toBlock": hex(head - 1)}
        )
        proxy.heal()
        assert len(await rpc.call("eth_getLogs", logs)) == 1
        proxy.null_receipts = True
        assert await rpc.call("eth_getTransactionReceipt", transaction) is None
        proxy.heal()
        assert (await rpc.call("eth_getTransactionReceipt", transaction))["blockNumber"] == hex(head)
        proxy.errors = frozenset({"eth_blockNumber"})
        with pytest.raises(RpcFailed, match="upstream"):
            await rpc.call("eth_blockNumber")
        proxy.heal()
        proxy.refuses = True
        with pytest.raises(RpcFailed, match="no usable answer"):
            await rpc.call("eth_blockNumber")
        proxy.heal()
        proxy.silent = True
        with pytest.raises(RpcFailed, match="Timeout"):
            await rpc.call("eth_blockNumber")


async def _asked(double: FacilitatorDouble, path: str, body: object) -> tuple[int, object]:
    """Status and JSON; a status of 0 if there was none, a text if the body is none."""
    timeout = aiohttp.ClientTimeout(total=0.5)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.post(double.url + path, json=body) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.text())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return 0, None


@pytest.mark.parametrize("settles_first", [False, True])
@pytest.mark.parametrize("lie", [lie for lie in Lie if lie is not Lie.REVERTED])
async def test_a_double_moves_the_money_if_told_to_and_answers_as_told(chain: Chain, lie: Lie, settles_first: bool) -> None:
    payer = await chain.payer()
    request = payer.authorize().request(chain.requirement())
    async with facilitator_double(chain) as double:
        double.settle, double.settles_first = lie, settles_first
        status, body = await _asked(double, "/settle", request)
    moved = await chain.balance(payer.address) == 99 * USDC
    assert moved == (settles_first or lie is Lie.HONEST)
    if lie in (Lie.CUT, Lie.NOTHING, Lie.HANG_UP):
        assert status == 0
    elif lie in (Lie.ERROR_500, Lie.HTML):
        assert isinstance(body, str)
    else:
        assert isinstance(body, dict)
        assert body["success"] == (lie not in (Lie.REFUSED, Lie.PENDING))
        if lie is Lie.MADE_UP_HASH:
            assert await chain.receipt(MADE_UP_HASH) is None


async def test_a_double_sends_what_is_reverted_and_says_so(chain: Chain) -> None:
    payer = await chain.payer(balance=USDC // 2)
    authorization = payer.authorize()
    async with facilitator_double(chain) as double:
        double.settle = Lie.REVERTED
        _, body = await _asked(double, "/settle", authorization.request(chain.requirement()))
    assert isinstance(body, dict)
    assert (body["success"], body["errorReason"]) == (False, "transaction_failed")
    receipt = await chain.receipt(body["transaction"])
    assert receipt is not None
    assert receipt["status"] == "0x0"
    assert await chain.balance(payer.address) == USDC // 2
