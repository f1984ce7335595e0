"""Requests that pay by themselves: the official x402 client over httpx.

Where an answer says so, or none comes, the same payment is sent again, never another. Every request has an Idempotency-Key, so that a
command that ended without an answer can be repeated without paying twice: it is told before a payment leaves, and with every failure after.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
from x402 import SpendControlAsset, SpendControls, x402Client
from x402.http.clients.httpx import PaymentError, x402AsyncTransport
from x402.http.utils import decode_payment_response_header
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import register_exact_evm_client

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.gateway_client import ApiRefused, answer_of
from kite_cli.output import usdc
from kite_cli.pay.wallet import Wallet

# A payment waits for the chain, and billing may be coming back from a restart.
_TIMEOUT_S: Final = 60.0
_PATIENCE_S: Final = 60.0
_LONGEST_WAIT_S: Final = 5.0
_UNAVAILABLE: Final = 503
_REFUSED: Final = 402
# With Retry-After: another copy of the payment is under way, or the team asks for too much at once.
_LATER: Final = (409, 429)
_PAYMENT: Final = "payment-signature"


@dataclass(frozen=True, slots=True)
class Paid:
    """An answer, and the payment it cost; None if it was free."""

    body: Mapping[str, Any]
    transaction: str | None
    amount_atomic: int | None
    network: str | None


@dataclass(frozen=True, slots=True)
class Terms:
    """Under what a request may pay: at most so much, whatever the gateway asks for; and equal requests with the same key pay once, whatever
    is signed for them."""

    most_atomic: int
    idempotency_key: str


class PayingClient:
    """One wallet's view of a gateway, under its terms."""

    def __init__(self, http: httpx.AsyncClient, url: str, wire: "Wire", terms: Terms) -> None:
        self._http, self._url, self._wire, self._terms = http, url, wire, terms

    async def call(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, json: object = None, api_key: str | None = None
    ) -> Paid:
        """Send a request, pay if it is asked for, and give the answer. Raises ApiRefused for one >= 400, CommandFailed for none.

        Whatever is raised once a payment was sent says how to repeat it, but for a 402: that one says that nothing was taken.
        """
        headers = {"Idempotency-Key": self._terms.idempotency_key} | ({} if api_key is None else {"Authorization": f"Bearer {api_key}"})
        try:
            answer = await self._http.request(method, self._url + path, params=query, json=json, headers=headers)
            return _paid(answer_of(answer), answer.headers.get("payment-response"))
        except PaymentError as error:
            if self._wire.has_paid or isinstance(error.__cause__, httpx.HTTPError):
                raise self._unanswered(error.__cause__ or error) from error
            most = usdc(self._terms.most_atomic)
            advice = f"Nothing was paid. What may be paid is USDC, and at most {most}; for a page, --most allows more."
            raise CommandFailed(f"the x402 client does not pay: {error}", advice) from error
        except httpx.HTTPError as error:
            raise self._unanswered(error) from error
        except CommandFailed as error:
            if not self._wire.has_paid or (isinstance(error, ApiRefused) and error.status == _REFUSED):
                raise
            raise CommandFailed(error.what, self._repeat(), error.code) from error

    def _unanswered(self, error: BaseException) -> CommandFailed:
        if self._wire.has_paid:
            return CommandFailed(f"no usable answer to the payment: {type(error).__name__}", self._repeat(), EXIT_UNAVAILABLE)
        advice = "See `kitectl status`; start it with `make run`, or check KITE_PUBLIC_URL. Nothing was paid."
        return CommandFailed(f"the gateway at {self._url} does not answer: {type(error).__name__}", advice, EXIT_UNAVAILABLE)

    def _repeat(self) -> str:
        key = self._terms.idempotency_key
        return f"The money may have moved. Repeat the command with --idempotency-key {key}: together they pay once."


@asynccontextmanager
async def paying_client(url: str, wallet: Wallet, terms: Terms, announce: Callable[[str], None]) -> AsyncIterator[PayingClient]:
    """A client that signs with the wallet. `announce` is given the Idempotency-Key right before the first payment leaves; if it raises,
    none does."""
    client = x402Client()
    most = SpendControlAsset(network="eip155:*", asset="USDC", max_amount_per_payment=str(terms.most_atomic))
    client.set_spend_controls(SpendControls(allowed_assets=[most]))
    register_exact_evm_client(client, EthAccountSigner(wallet.account))
    wire = Wire(httpx.AsyncHTTPTransport(), before_paying=lambda: announce(terms.idempotency_key))
    # Without the proxies of the environment: the address is exactly the one that was chosen.
    async with httpx.AsyncClient(transport=x402AsyncTransport(client, wire), timeout=_TIMEOUT_S, trust_env=False) as http:
        yield PayingClient(http, url, wire, terms)


class Wire(httpx.AsyncBaseTransport):
    """Sends a request with a payment again, byte for byte, until it is answered: that is always safe, signing another one is not."""

    def __init__(
        self, inner: httpx.AsyncBaseTransport, pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        before_paying: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._inner, self._pause, self._before_paying = inner, pause, before_paying
        self.has_paid = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        pays = _PAYMENT in request.headers
        if pays and not self.has_paid:
            self._before_paying()
            self.has_paid = True
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
            await self._pause(wait_s)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _wait_s(answer: httpx.Response) -> float:
    """After how long the same request is to be sent again; 0 if the answer is the answer."""
    retry = answer.headers.get("retry-after", "")
    if answer.status_code == _UNAVAILABLE or (answer.status_code in _LATER and retry):
        return min(float(retry) if retry.isdigit() and int(retry) else 1.0, _LONGEST_WAIT_S)
    return 0


def _paid(body: Mapping[str, Any], told: str | None) -> Paid:
    """The answer is what was paid for: a receipt that cannot be read must not take it away."""
    if told is None:
        return Paid(body, None, None, None)
    try:
        settled = decode_payment_response_header(told)
        return Paid(body, settled.transaction, None if settled.amount is None else int(settled.amount), settled.network)
    except ValueError:
        return Paid(body, None, None, None)
