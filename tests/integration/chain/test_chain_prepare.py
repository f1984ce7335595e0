"""`kitectl chain prepare` and the faucet on an anvil that they did not start: repeatable, and nothing is done to what is no anvil."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kite_cli.admin.prepare_chain import prepare_chain
from kite_cli.failure import EXIT_FAILED, EXIT_UNAVAILABLE, CommandFailed
from kite_cli.listening import listening
from kite_cli.local.chain.anvil import ChainOptions
from kite_cli.local.chain.known import CHAIN_ID, PAY_TO, TOKENS
from kite_cli.local.chain.rpc import local_rpc
from kite_cli.local.chain.token import balance_of
from kite_cli.pay.faucet import pour
from support.chain import own_chain

# A reset anvil has nothing on it: the token that the local stack put there is gone.
_RESET = "anvil_reset"


@asynccontextmanager
async def real_node(version: str) -> AsyncIterator[tuple[str, list[str]]]:
    """A node that is no anvil; its address, and the methods it was asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        call: dict[str, Any] = await request.json()
        asked.append(call["method"])
        return web.json_response({"jsonrpc": "2.0", "id": call["id"], "result": version})

    app = web.Application()
    app.router.add_post("/", answer)
    async with listening(app) as url:
        yield url, asked


async def test_a_bare_anvil_has_the_token_afterwards_and_a_repeat_changes_nothing(tmp_path: Path) -> None:
    async with own_chain(tmp_path) as chain, local_rpc(chain.url) as rpc:
        await rpc.call(_RESET)
        first = await prepare_chain(chain.url, 30)
        assert (first.chain_id, first.token, first.is_new) == (CHAIN_ID, TOKENS[CHAIN_ID].address, True)
        _, balance = await pour(tmp_path, PAY_TO, 3, chain.url)
        block = await rpc.number("eth_blockNumber")
        again = await prepare_chain(chain.url, 30)
        assert again.is_new is False
        assert balance == await balance_of(rpc, TOKENS[CHAIN_ID], PAY_TO) == 3_000_000
        assert await rpc.number("eth_blockNumber") == block


@pytest.mark.parametrize("version", ["Geth/v1.16.0", "reth/v1.9", "", "not-anvil/1"])
async def test_what_is_no_anvil_is_left_alone(tmp_path: Path, version: str) -> None:
    async with real_node(version) as (url, asked):
        for refused in (prepare_chain(url, 5), pour(tmp_path, PAY_TO, 1, url)):
            with pytest.raises(CommandFailed, match="no local chain") as failed:
                await refused
            assert failed.value.code == EXIT_FAILED
        assert set(asked) == {"web3_clientVersion"}


async def test_a_chain_of_another_id_is_refused_by_its_number(tmp_path: Path) -> None:
    async with own_chain(tmp_path, ChainOptions()) as chain, local_rpc(chain.url) as rpc:
        await rpc.call("anvil_setChainId", 31337)
        with pytest.raises(CommandFailed, match="31337"):
            await prepare_chain(chain.url, 30)


async def test_a_chain_that_never_answers_is_told_of() -> None:
    with pytest.raises(CommandFailed, match="no chain answers") as failed:
        await prepare_chain("http://127.0.0.1:9", 0.3)
    assert failed.value.code == EXIT_UNAVAILABLE
