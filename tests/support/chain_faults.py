"""What may go wrong between billing and the chain: an RPC proxy that fails, and a facilitator that fails or lies. Both are real servers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web

from kite_cli.local.ports import LOOPBACK
from support.chain import Authorization, Chain

MADE_UP_HASH: Final = "0x" + "be" * 32
SECRET_TEXT: Final = "Traceback: upstream said node-7.internal key=sk_live_4711"
# Which parameter of a method names the block it reads at; for logs it is in the filter.
_BLOCK_PARAMETER: Final = {"eth_call": 1, "eth_getCode": 1, "eth_getBalance": 1, "eth_getBlockByNumber": 0, "eth_getTransactionCount": 1}


@dataclass
class RpcProxy:
    """A node as seen through a proxy; its faults may be changed at any time, and apply to what comes after.

    `refuses`: connections are cut. `silent`: no answer. `delay_s`: before each answer. `errors`: methods that get an error of the node.
    `null_receipts`: no transaction is ever mined. `behind`: the head, and all that is read at it, is that many blocks old.
    `methods` holds what was asked.
    """

    url: str
    port: int = 0
    refuses: bool = False
    silent: bool = False
    delay_s: float = 0.0
    errors: frozenset[str] = frozenset()
    null_receipts: bool = False
    behind: int = 0
    methods: list[str] = field(default_factory=list)

    @property
    def own_url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    def heal(self) -> None:
        """No faults from now on."""
        self.refuses = self.silent = self.null_receipts = False
        self.delay_s, self.errors, self.behind = 0.0, frozenset(), 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one HTTP request with a call, or several."""
        body = orjson.loads(await request.read())
        calls = body if isinstance(body, list) else [body]
        self.methods += [call["method"] for call in calls]
        if self.silent:
            await asyncio.Event().wait()
        await asyncio.sleep(self.delay_s)
        if self.refuses:
            return _cut(request)
        answers = [await self._call(request.app[SESSION], call) for call in calls]
        return web.json_response(answers if isinstance(body, list) else answers[0])

    async def _call(self, session: aiohttp.ClientSession, call: dict[str, Any]) -> dict[str, Any]:
        method, parameters, own = call["method"], list(call.get("params", [])), {"jsonrpc": "2.0", "id": call.get("id")}
        if method in self.errors:
            return own | {"error": {"code": -32000, "message": SECRET_TEXT}}
        if method == "eth_getTransactionReceipt" and self.null_receipts:
            return own | {"result": None}
        if self.behind:
            await self._set_back(session, method, parameters)
        answer = await self._ask(session, method, *parameters)
        if self.behind and "result" in answer:
            answer["result"] = await self._aged(session, method, answer["result"])
        return answer | own

    async def _set_back(self, session: aiohttp.ClientSession, method: str, parameters: list[Any]) -> None:
        place = _BLOCK_PARAMETER.get(method)
        if place is not None and len(parameters) > place and parameters[place] in ("latest", "pending"):
            parameters[place] = hex(await self._old_head(session))
        if method == "eth_getLogs" and parameters[0].get("toBlock", "latest") == "latest":
            parameters[0] = parameters[0] | {"toBlock": hex(await self._old_head(session))}

    async def _aged(self, session: aiohttp.ClientSession, method: str, result: Any) -> Any:
        if method == "eth_blockNumber":
            return hex(await self._old_head(session))
        is_later = method == "eth_getTransactionReceipt" and result and int(result["blockNumber"], 16) > await self._old_head(session)
        return None if is_later else result

    async def _old_head(self, session: aiohttp.ClientSession) -> int:
        return max(0, int((await self._ask(session, "eth_blockNumber"))["result"], 16) - self.behind)

    async def _ask(self, session: aiohttp.ClientSession, method: str, *parameters: Any) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        async with session.post(self.url, data=orjson.dumps(request), headers={"content-type": "application/json"}) as answer:
            found: dict[str, Any] = orjson.loads(await answer.read())
            return found


@asynccontextmanager
async def rpc_proxy(url: str) -> AsyncIterator[RpcProxy]:
    """A proxy before a node, without faults at first."""
    proxy = RpcProxy(url)
    async with _served({"/{path:.*}": proxy.answer}) as proxy.port:
        yield proxy


class Lie(Enum):
    """How a facilitator answers a settle, or a verify; HONEST does and says what is true, as far as the chain tells."""

    HONEST = "honest"
    ERROR_500 = "500 with a text that must go nowhere"
    HTML = "200 with a page"
    CUT = "half a body"
    NOTHING = "no answer at all"
    HANG_UP = "a closed connection"
    HUGE = "more than 64 KiB of JSON"
    REFUSED = "a refusal with a reason of the SDK's"
    PENDING = "settlement_pending with a hash"
    REVERTED = "no lie: the transaction was sent, mined and reverted, as the payer has not got the money"
    NO_HASH = "success without a hash"
    OTHER_NETWORK = "success on another network"
    MADE_UP_HASH = "success with a hash nobody knows"


@dataclass
class FacilitatorDouble:
    """A facilitator that does as it is told. `verify` and `settle` are how it answers; with `settles_first` the money has moved by then.

    Money is moved by account 0 (anyone may submit an authorization). `reason` is what REFUSED says. `calls` holds (path, body).
    `network` is what it says it supports, the chain's own at first; `is_down`: it hangs up on everybody.
    """

    chain: Chain
    port: int = 0
    verify: Lie = Lie.HONEST
    settle: Lie = Lie.HONEST
    settles_first: bool = False
    reason: str = "invalid_exact_evm_insufficient_balance"
    delay_s: float = 0.0
    network: str | None = None
    is_down: bool = False
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    def count(self, path: str) -> int:
        """How often it was called."""
        return sum(called == path for called, _ in self.calls)

    def heal(self) -> None:
        """Honest, quick and up from now on."""
        self.verify = self.settle = Lie.HONEST
        self.settles_first = self.is_down = False
        self.delay_s, self.network, self.reason = 0.0, None, "invalid_exact_evm_insufficient_balance"

    async def on_supported(self, request: web.Request) -> web.StreamResponse:
        """GET /supported."""
        if self.is_down:
            return _cut(request)
        kind = {"x402Version": 2, "scheme": "exact", "network": self.network or self.chain.network}
        return web.json_response({"kinds": [kind], "extensions": [], "signers": {"eip155:*": []}})

    async def on_verify(self, request: web.Request) -> web.StreamResponse:
        """POST /verify."""
        body = await self._received(request)
        payer = body["paymentPayload"]["payload"]["authorization"]["from"]
        if self.is_down:
            return _cut(request)
        if self.verify is Lie.HONEST:
            return web.json_response({"isValid": True, "payer": payer})
        refusal = {"isValid": False, "invalidReason": self.reason, "invalidMessage": SECRET_TEXT, "payer": payer}
        return await _broken(request, self.verify) or web.json_response(refusal)

    async def on_settle(self, request: web.Request) -> web.StreamResponse:
        """POST /settle."""
        body = await self._received(request)
        if self.is_down:
            return _cut(request)
        authorization = _authorization_in(body)
        moves = self.settle is Lie.HONEST or self.settles_first
        submit = self.chain.reverted if self.settle is Lie.REVERTED else self.chain.front_run
        transaction = await submit(authorization) if moves or self.settle is Lie.REVERTED else MADE_UP_HASH
        return await _broken(request, self.settle) or web.json_response(self._said(authorization.payer, transaction))

    def _said(self, payer: str, transaction: str) -> dict[str, Any]:
        success = {"success": True, "transaction": transaction, "network": self.chain.network, "payer": payer}
        failure = success | {"success": False, "errorMessage": SECRET_TEXT}
        answers: dict[Lie, dict[str, Any]] = {
            Lie.HONEST: success,
            Lie.REFUSED: failure | {"transaction": "", "errorReason": self.reason},
            Lie.PENDING: failure | {"errorReason": "settlement_pending"},
            Lie.REVERTED: failure | {"errorReason": "transaction_failed"},
            Lie.NO_HASH: success | {"transaction": ""},
            Lie.OTHER_NETWORK: success | {"network": "eip155:1"},
            Lie.MADE_UP_HASH: success | {"transaction": MADE_UP_HASH},
        }
        return answers[self.settle]

    async def _received(self, request: web.Request) -> dict[str, Any]:
        body: dict[str, Any] = orjson.loads(await request.read())
        self.calls.append((request.path, body))
        await asyncio.sleep(self.delay_s)
        return body


@asynccontextmanager
async def facilitator_double(chain: Chain) -> AsyncIterator[FacilitatorDouble]:
    """A double, honest at first."""
    double = FacilitatorDouble(chain)
    routes = {"/supported": double.on_supported, "/verify": double.on_verify, "/settle": double.on_settle}
    async with _served(routes) as double.port:
        yield double


SESSION: Final = web.AppKey("session", aiohttp.ClientSession)
_Handler = Callable[[web.Request], Any]


@asynccontextmanager
async def _served(routes: Mapping[str, _Handler]) -> AsyncIterator[int]:
    app = web.Application()
    for path, handler in routes.items():
        app.router.add_route("*", path, handler)
    app[SESSION] = aiohttp.ClientSession()
    # Handlers that never answer end when the server does.
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    listener = socket.create_server((LOOPBACK, 0))
    try:
        await web.SockSite(runner, listener).start()
        yield listener.getsockname()[1]
    finally:
        await app[SESSION].close()
        await runner.cleanup()


async def _broken(request: web.Request, lie: Lie) -> web.StreamResponse | None:
    """The answer of a lie that is none of the protocol's shapes; None for others."""
    match lie:
        case Lie.ERROR_500:
            return web.Response(status=500, text=SECRET_TEXT)
        case Lie.HTML:
            return web.Response(text=f"<html>{SECRET_TEXT}</html>", content_type="text/html")
        case Lie.HUGE:
            return web.json_response({"success": True, "isValid": True, "padding": "x" * 70_000})
        case Lie.CUT:
            return await _half(request)
        case Lie.NOTHING:
            await asyncio.Event().wait()
        case Lie.HANG_UP:
            return _cut(request)
    return None


async def _half(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"content-type": "application/json", "content-length": "400"})
    await answer.prepare(request)
    await answer.write(b'{"success": true, "isValid": true, "transac')
    return _cut(request, answer)


def _cut(request: web.Request, answer: web.StreamResponse | None = None) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort() if answer is None else request.transport.close()
    return answer or web.Response()


def _authorization_in(body: dict[str, Any]) -> Authorization:
    payload = body["paymentPayload"]["payload"]
    fields = payload["authorization"]
    return Authorization(
        fields["from"], fields["to"], int(fields["value"]), int(fields["validAfter"]), int(fields["validBefore"]), fields["nonce"],
        payload["signature"],
    )  # fmt: skip
