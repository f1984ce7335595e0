"""The facilitator interface of x402: GET /supported, POST /verify, POST /settle; /healthz for people. No rules.

Errors are `{"error", "message"}` in our own words; a payment that is refused is an answer, not an error.
"""

import hmac
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kite_common.errors import KiteError, Malformed
from kite_common.runtime.http import ReadinessCheck, operations_routes
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import monotonic_s
from kite_common.x402.key import payment_id, payment_key
from kite_common.x402.networks import checksum
from kite_facilitator.adapters.http.orders import NotServed, parse_order
from kite_facilitator.application.gas import Gas
from kite_facilitator.application.ports import Chain, ChainAway
from kite_facilitator.application.settle_once import Settlements
from kite_facilitator.domain.order import Order, Served

log = get_logger("kite.facilitator")

LARGEST_BODY: Final = 64 * 1024
Answer = dict[str, Any]
Work = Callable[[Order], Awaitable[Answer]]


class _Refused(KiteError):
    """An answer that is no result."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True, slots=True)
class Desk:
    """What the routes work with. `check` raises ChainAway while nothing may be done; `token` None: everybody may call."""

    served: Served
    chain: Chain
    settlements: Settlements
    gas: Gas
    check: Callable[[], None]
    signer: str
    supported: Answer
    metrics: Metrics
    token: str | None = field(default=None, repr=False)


def create_app(desk: Desk, readiness: ReadinessCheck) -> ASGIApp:
    """The app of one facilitator."""
    routes = _Routes(desk)
    return Starlette(routes=[
        Route("/supported", routes.supported, methods=["GET"]), Route("/verify", routes.verify, methods=["POST"]),
        Route("/settle", routes.settle, methods=["POST"]), Route("/healthz", routes.health, methods=["GET"]),
        *operations_routes(readiness, desk.metrics),
    ])  # fmt: skip


class _Routes:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def supported(self, _request: Request) -> Response:
        return _json(200, self._desk.supported)

    async def health(self, _request: Request) -> Response:
        gas, row = self._desk.gas, self._desk.settlements.unclear
        told = {
            "status": "gas_low" if gas.is_low else "ok", "signer": self._desk.signer, "gas_wei": None if gas.wei is None else str(gas.wei),
            "gas_floor_wei": str(gas.floor_wei), "unclear_in_a_row": row,
        }  # fmt: skip
        return _json(503 if gas.is_low else 200, told)

    async def verify(self, request: Request) -> Response:
        return await self._answered("verify", request, self._verify)

    async def settle(self, request: Request) -> Response:
        return await self._answered("settle", request, self._settle)

    async def _verify(self, order: Order) -> Answer:
        verified = await self._desk.chain.verify(order)
        told = {"isValid": verified.valid, "invalidReason": verified.reason, "payer": checksum(order.authorization.from_address)}
        return _told("verified", order, self._desk.served, told, verified.reason)

    async def _settle(self, order: Order) -> Answer:
        settled = await self._desk.settlements.settle(order)
        told = {
            "success": settled.success, "errorReason": settled.reason, "transaction": settled.transaction,
            "network": order.network_name(self._desk.served.asset), "payer": checksum(order.authorization.from_address),
            "amount": str(order.amount) if settled.success else None,
        }  # fmt: skip
        return _told("settled", order, self._desk.served, told, settled.reason)

    async def _answered(self, call: str, request: Request, work: Work) -> Response:
        began = monotonic_s()
        status, answer, result = await self._done(request, work)
        self._desk.metrics.counter("kite_facilitator_answers_total").labels(call=call, result=result).inc()
        self._desk.metrics.histogram("kite_facilitator_seconds").labels(call=call).observe(monotonic_s() - began)
        return _json(status, answer)

    async def _done(self, request: Request, work: Work) -> tuple[int, Answer, str]:
        try:
            answer = await self._admitted(request, work)
        except _Refused as refused:
            return refused.status, {"error": refused.code, "message": refused.message}, refused.code
        except Exception as error:  # noqa: BLE001 - the edge of a request: counted, told in our words only
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error("facilitator.failed", error_type=type(error).__name__, place=f"{place.filename}:{place.lineno}")  # noqa: TRY400 - texts may name nodes
            return 500, {"error": "internal_error", "message": "Something went wrong on our side."}, "internal_error"
        return 200, answer, "ok" if answer.get("isValid", answer.get("success")) else "refused"

    async def _admitted(self, request: Request, work: Work) -> Answer:
        self._authorize(request)
        try:
            order = parse_order(await _body(request), self._desk.served)
        except NotServed as error:
            raise _Refused(403, "not_served", str(error)) from None
        except (Malformed, ClientDisconnect) as error:
            raise _Refused(400, "invalid_request", str(error)) from None
        try:
            self._desk.check()
            if not await self._desk.gas.suffices():
                raise _Refused(503, "out_of_gas", "The key cannot pay for gas; nothing was sent.")
            return await work(order)
        except ChainAway as error:
            log.warning("facilitator.chain_away", reason=str(error))
            raise _Refused(503, "chain_unavailable", "The chain cannot be reached; nothing was sent.") from None

    def _authorize(self, request: Request) -> None:
        token = self._desk.token
        given = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise _Refused(401, "unauthorized", "This facilitator asks for a bearer token.")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise _Refused(413, "payload_too_large", "A request has at most 64 KiB.")
    return bytes(body)


def _told(what: str, order: Order, served: Served, told: Answer, reason: str | None) -> Answer:
    """The answer without nulls, and its line in the log: the payment by its public name, nothing of what was signed."""
    name = payment_id(payment_key(served.asset, order.authorization))
    log.info(f"facilitator.{what}", payment_id=name, reason=reason, transaction=told.get("transaction"))
    return {key: value for key, value in told.items() if value is not None}


def _json(status: int, answer: Answer) -> Response:
    return Response(orjson.dumps(answer), status, media_type="application/json", headers={"cache-control": "no-store"})
