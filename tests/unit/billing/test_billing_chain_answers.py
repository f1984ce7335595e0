"""What a node may say: everything else is unreadable, and never an error of another kind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kite_billing.adapters.chain import RpcChain
from kite_billing.application.ports import ChainUnreadable
from kite_billing.domain.payments.evidence import TRANSFER, word_of
from kite_common.runtime.http import HttpServer
from kite_common.testing.eventually import eventually
from support.payments_world import TERMS, word

HOST = "127.0.0.1"
TOPICS = [TRANSFER, word_of("0x" + "77" * 20), word_of(TERMS.pay_to)]


@contextlib.asynccontextmanager
async def node(result: Any) -> AsyncIterator[RpcChain]:
    """A node that answers everything with this."""

    async def answer(request: Request) -> JSONResponse:
        return JSONResponse({"jsonrpc": "2.0", "id": (await request.json())["id"], "result": result})

    app = Starlette(routes=[Route("/", answer, methods=["POST"])])
    server, stop = HttpServer(app, host=HOST, port=0, drain_timeout_s=5), asyncio.Event()
    running = asyncio.create_task(server.run(stop))
    await eventually(lambda: server.readiness().ready, what="the node listens")
    chain = RpcChain(f"http://{HOST}:{server.port}/", TERMS.asset.address)
    try:
        yield chain
    finally:
        await chain.close()
        stop.set()
        await running


def block(number: int) -> dict[str, str]:
    return {"number": hex(number), "hash": word(1, "b"), "timestamp": "0x1"}


def transfer(**given: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "address": TERMS.asset.address, "topics": TOPICS, "data": word(7), "blockNumber": "0x5", "blockHash": word(1, "b"),
        "transactionHash": word(1, "f"), "logIndex": "0x0",
    }  # fmt: skip
    return fields | given


async def test_a_number_no_record_can_hold_is_unreadable() -> None:
    async with node(block((1 << 53) - 1)) as chain:
        assert (await chain.head()).number == (1 << 53) - 1
    async with node(block(1 << 53)) as chain:
        with pytest.raises(ChainUnreadable):
            await chain.head()


async def test_transfers_are_read() -> None:
    async with node([transfer()]) as chain:
        [log] = await chain.transfers_to(TERMS.pay_to, 0, 9)
    assert (log.topics, log.data) == (tuple(TOPICS), word(7))


@pytest.mark.parametrize(
    "given",
    [
        {"topics": TOPICS[:2]}, {"topics": []}, {"topics": [word(1), *TOPICS[1:]]}, {"data": "0x"}, {"data": "0x" + "f" * 8_000},
        {"blockNumber": hex(1 << 53)}, {"logIndex": hex(1 << 60)}, {"removed": True},
    ],
    ids=["two topics", "no topic", "another event", "no value", "a long value", "high block", "high index", "removed"],
)  # fmt: skip
async def test_what_is_no_transfer_is_unreadable(given: dict[str, Any]) -> None:
    async with node([transfer(**given)]) as chain:
        with pytest.raises(ChainUnreadable):
            await chain.transfers_to(TERMS.pay_to, 0, 9)
