"""GET /supported, POST /verify and /settle, GET /healthz: shapes of the x402 facilitator API. No text of an exception leaves.

401 wrong token, 400 unreadable, 403 not of this deployment, 413 too large, 502 the node or the SDK failed: whether anything was sent is
not known then.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kite_common.errors import Malformed
from kite_common.runtime import faults
from kite_common.runtime.http import ReadinessCheck, operations_routes
from kite_common.runtime.metrics import Metrics
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import monotonic_s
from kite_facilitator.adapters.gas import GasGauge
from kite_facilitator.adapters.requests import read_payment
from kite_facilitator.application.ports import Chain, Payment
from kite_facilitator.application.settle_once import SettleOnce
from kite_facilitator.domain.scope import Scope, is_ours

log = get_logger("kite.facilitator")

_LARGEST_BODY: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Surface:
    """What the routes are made of. `token` None: everybody who reaches the port may use it."""

    chain: Chain
    settle: SettleOnce
    gas: GasGauge
    scope: Scope
    address: str
    supported: Mapping[str, Any]
    token: bytes | None
    readiness: ReadinessCheck
    metrics: Metrics


def create_app(surface: Surface) -> ASGIApp:
    """The app."""

    async def supported(request: Request) -> Response:
        return _refused(request, surface) or JSONResponse(dict(surface.supported))

    async def verify(request: Request) -> Response:
        return await _answer(request, surface, lambda payment: _verify(surface, payment))

    async def settle(request: Request) -> Response:
        return await _answer(request, surface, lambda payment: _settle(surface, payment))

    async def healthz(_request: Request) -> Response:
        gas_wei, is_enough = surface.gas.wei, surface.gas.is_enough
        body = {
            "status": "ok" if is_enough else "failing", "address": surface.address, "gas_wei": None if gas_wei is None else str(gas_wei),
            "unclear_in_a_row": surface.settle.streak,
        }  # fmt: skip
        return JSONResponse(body, 200 if is_enough else 503)

    return Starlette(routes=[
        Route("/supported", supported), Route("/verify", verify, methods=["POST"]), Route("/settle", settle, methods=["POST"]),
        Route("/healthz", healthz), *operations_routes(surface.readiness, surface.metrics),
    ])  # fmt: skip


async def _verify(surface: Surface, payment: Payment) -> Mapping[str, Any]:
    return await surface.chain.verify(payment)


async def _settle(surface: Surface, payment: Payment) -> Mapping[str, Any]:
    faults.reached("facilitator.settle.before")
    settled = await surface.settle(payment)
    faults.reached("facilitator.settle.after")
    return settled.body


async def _answer(request: Request, surface: Surface, call: Callable[[Payment], Awaitable[Mapping[str, Any]]]) -> Response:
    began, refused = monotonic_s(), _refused(request, surface)
    if refused is not None:
        return refused
    body = await _body(request)
    if body is None:
        return _error(413, "the body is too large")
    try:
        payment = read_payment(body)
    except Malformed as error:
        return _error(400, str(error))
    if not is_ours(surface.scope, payment.wanted):
        return _error(403, "this facilitator settles nothing but its own deployment's payments")
    try:
        answer = await call(payment)
    except Exception as error:  # noqa: BLE001 - the SDK's and web3's errors have no common root, and their texts must not leave
        log.warning("facilitator.failed", path=request.url.path, reason=type(error).__name__, payer=payment.wanted.payer)
        return _error(502, "the chain did not answer")
    log.info(
        "facilitator.answered", path=request.url.path, payer=payment.wanted.payer, success=answer.get("success", answer.get("isValid")),
        reason=answer.get("errorReason", answer.get("invalidReason")), transaction=answer.get("transaction"),
        took_ms=round((monotonic_s() - began) * 1000, 2),
    )  # fmt: skip
    return JSONResponse(dict(answer))


def _refused(request: Request, surface: Surface) -> Response | None:
    if surface.token is None:
        return None
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), surface.token):
        return None
    return _error(401, "a bearer token is needed")


async def _body(request: Request) -> bytes | None:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY:
            return None
    return bytes(body)


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
