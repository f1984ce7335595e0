"""Requests that pay by themselves: the official x402 client over httpx. A 503 is met with the same payment again, never with another."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
from x402 import x402Client
from x402.http.clients.httpx import PaymentError, x402AsyncTransport
from x402.http.utils import decode_payment_response_header
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import register_exact_evm_client

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.gateway_client import answer_of
from kite_cli.pay.wallet import Wallet

# A payment waits for the chain, and billing may be coming back from a restart.
_TIMEOUT_S: Final = 60.0
_PATIENCE_S: Final = 60.0
_LONGEST_WAIT_S: Final = 5.0
_UNAVAILABLE: Final = 503


@dataclass(frozen=True, slots=True)
class Paid:
    """An answer, and the payment it cost; None if it was free."""

    body: Mapping[str, Any]
    transaction: str | None
    amount_atomic: int | None
    network: str | None


class PayingClient:
    """One wallet's view of a gateway."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http, self._url = http, url

    async def call(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, json: object = None, api_key: str | None = None
    ) -> Paid:
        """Send a request, pay if it is asked for, and give the answer. Raises ApiRefused for one >= 400, CommandFailed for none."""
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        try:
            answer = await self._http.request(method, self._url + path, params=query, json=json, headers=headers)
        except PaymentError as error:
            raise CommandFailed(f"the x402 client cannot pay: {error}", "`kitectl wallet show` tells what the wallet has.") from error
        except httpx.HTTPError as error:
            advice = "See `kitectl status`; start it with `make run`, or check KITE_PUBLIC_URL. Repeating the command pays anew."
            raise CommandFailed(f"the gateway at {self._url} does not answer: {type(error).__name__}", advice, EXIT_UNAVAILABLE) from error
        body, told = answer_of(answer), answer.headers.get("payment-response")
        if told is None:
            return Paid(body, None, None, None)
        settled = decode_payment_response_header(told)
        return Paid(body, settled.transaction, None if settled.amount is None else int(settled.amount), settled.network)


@asynccontextmanager
async def paying_client(url: str, wallet: Wallet) -> AsyncIterator[PayingClient]:
    """A client that signs with the wallet."""
    client = x402Client()
    register_exact_evm_client(client, EthAccountSigner(wallet.account))
    transport = x402AsyncTransport(client, _Patient(httpx.AsyncHTTPTransport()))
    # Without the proxies of the environment: the address is exactly the one that was chosen.
    async with httpx.AsyncClient(transport=transport, timeout=_TIMEOUT_S, trust_env=False) as http:
        yield PayingClient(http, url)


class _Patient(httpx.AsyncBaseTransport):
    """Sends a request again, payment and all, while it is answered 503: resending a payment is always safe, signing another one is not."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        while True:
            answer = await self._inner.handle_async_request(request)
            retry = answer.headers.get("retry-after", "")
            wait_s = min(float(retry) if retry.isdigit() else 1.0, _LONGEST_WAIT_S)
            if answer.status_code != _UNAVAILABLE or asyncio.get_running_loop().time() + wait_s > deadline:
                return answer
            await answer.aclose()
            await asyncio.sleep(wait_s)

    async def aclose(self) -> None:
        await self._inner.aclose()
