"""Requests that pay by themselves: the official x402 client over httpx.

Where an answer says so, or none comes, the same payment is sent again, never another. Every request has an Idempotency-Key, so that a
command that ended without an answer can be repeated without paying twice.
"""

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
from kite_cli.gateway_client import ApiRefused, answer_of
from kite_cli.pay.wallet import Wallet

# A payment waits for the chain, and billing may be coming back from a restart.
_TIMEOUT_S: Final = 60.0
_PATIENCE_S: Final = 60.0
_LONGEST_WAIT_S: Final = 5.0
_UNAVAILABLE: Final = 503
# With Retry-After: the payment is under way, by another copy of it.
_IN_PROGRESS: Final = 409
_PAYMENT: Final = "payment-signature"


@dataclass(frozen=True, slots=True)
class Paid:
    """An answer, and the payment it cost; None if it was free."""

    body: Mapping[str, Any]
    transaction: str | None
    amount_atomic: int | None
    network: str | None


class PayingClient:
    """One wallet's view of a gateway. `idempotency_key`: equal requests with the same key pay once, whatever is signed."""

    def __init__(self, http: httpx.AsyncClient, url: str, wire: "_Wire", idempotency_key: str) -> None:
        self._http, self._url, self._wire, self._idempotency_key = http, url, wire, idempotency_key

    async def call(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, json: object = None, api_key: str | None = None
    ) -> Paid:
        """Send a request, pay if it is asked for, and give the answer. Raises ApiRefused for one >= 400, CommandFailed for none."""
        headers = {"Idempotency-Key": self._idempotency_key} | ({} if api_key is None else {"Authorization": f"Bearer {api_key}"})
        try:
            answer = await self._http.request(method, self._url + path, params=query, json=json, headers=headers)
            return _paid(answer_of(answer), answer.headers.get("payment-response"))
        except PaymentError as error:
            if isinstance(error.__cause__, httpx.HTTPError):
                raise self._unanswered(error.__cause__) from error
            raise CommandFailed(f"the x402 client cannot pay: {error}", "`kitectl wallet show` tells what the wallet has.") from error
        except httpx.HTTPError as error:
            raise self._unanswered(error) from error
        except ApiRefused as error:
            if error.status != _UNAVAILABLE or not self._wire.has_paid:
                raise
            raise CommandFailed(error.what, self._repeat(), EXIT_UNAVAILABLE) from error

    def _unanswered(self, error: httpx.HTTPError) -> CommandFailed:
        if self._wire.has_paid:
            return CommandFailed(f"no answer to the payment: {type(error).__name__}", self._repeat(), EXIT_UNAVAILABLE)
        advice = "See `kitectl status`; start it with `make run`, or check KITE_PUBLIC_URL. Nothing was paid."
        return CommandFailed(f"the gateway at {self._url} does not answer: {type(error).__name__}", advice, EXIT_UNAVAILABLE)

    def _repeat(self) -> str:
        return f"The money may have moved. Repeat the command with --idempotency-key {self._idempotency_key}: together they pay once."


@asynccontextmanager
async def paying_client(url: str, wallet: Wallet, idempotency_key: str) -> AsyncIterator[PayingClient]:
    """A client that signs with the wallet."""
    client = x402Client()
    register_exact_evm_client(client, EthAccountSigner(wallet.account))
    wire = _Wire(httpx.AsyncHTTPTransport())
    # Without the proxies of the environment: the address is exactly the one that was chosen.
    async with httpx.AsyncClient(transport=x402AsyncTransport(client, wire), timeout=_TIMEOUT_S, trust_env=False) as http:
        yield PayingClient(http, url, wire, idempotency_key)


class _Wire(httpx.AsyncBaseTransport):
    """Sends a request with a payment again, byte for byte, until it is answered: that is always safe, signing another one is not."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.has_paid = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        pays = _PAYMENT in request.headers
        self.has_paid = self.has_paid or pays
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_S
        while True:
            wait_s = 1.0
            try:
                answer = await self._inner.handle_async_request(request)
            except httpx.TransportError:
                if not pays or loop.time() + wait_s > deadline:
                    raise
            else:
                wait_s = _wait_s(answer)
                if wait_s == 0 or loop.time() + wait_s > deadline:
                    return answer
                await answer.aclose()
            await asyncio.sleep(wait_s)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _wait_s(answer: httpx.Response) -> float:
    """After how long the same request is to be sent again; 0 if the answer is the answer."""
    retry = answer.headers.get("retry-after", "")
    if answer.status_code == _UNAVAILABLE or (answer.status_code == _IN_PROGRESS and retry):
        return min(float(retry) if retry.isdigit() and int(retry) else 1.0, _LONGEST_WAIT_S)
    return 0


def _paid(body: Mapping[str, Any], told: str | None) -> Paid:
    if told is None:
        return Paid(body, None, None, None)
    settled = decode_payment_response_header(told)
    return Paid(body, settled.transaction, None if settled.amount is None else int(settled.amount), settled.network)
