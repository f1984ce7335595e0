"""`kitectl pay` against a gateway that takes the payment and then answers badly, or not: nothing that was paid for is lost, or paid twice.

The gateway is a scripted server on loopback; its offers are Kite's own, and the signatures are those of the official client.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kite_common.runtime.system import SystemClock
from kite_common.testing import payments
from kite_common.x402.offers import Purchase, payment_error
from support.kitectl import Kitectl

pytestmark = pytest.mark.timeout(120)

Step = Callable[[web.Request], Awaitable[web.StreamResponse]]
TEAM = {"team_id": "team_1", "api_key": "kite_1", "hook_token": "khk_1", "endpoint": "/hooks/team_1/my-bot", "credentials_available": True}
WALLET = {"balance_atomic": 7}


def answers(status: int, body: object, **headers: str) -> Step:
    async def step(_: web.Request) -> web.StreamResponse:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return step


class Gateway:
    """Asks every request without a payment for one, and does as told with one that has it."""

    def __init__(self) -> None:
        self.paid, self.wallet = answers(200, TEAM), answers(200, WALLET)
        self.keys: list[str] = []
        self.url = ""
        self.taken = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/api/v1/wallet":
            return await self.wallet(request)
        if "payment-signature" not in request.headers:
            return self._offer()
        self.keys.append(request.headers["Idempotency-Key"])
        self.taken.set()
        return await self.paid(request)

    def _offer(self) -> web.Response:
        purchase = Purchase("deposit", 1_000_000, payments.submitted().target, "a deposit")
        now_s = SystemClock().unix_ms() // 1000
        asked = payment_error(payments.terms(public_url=self.url), payments.request(), purchase, now_s, b"r" * 16)
        return web.json_response(asked.body(), status=asked.status, headers=dict(asked.headers))


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    scripted, app = Gateway(), web.Application()
    app.router.add_route("*", "/{path:.*}", scripted.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield scripted
    await runner.cleanup()


def environment(gateway: Gateway) -> dict[str, str]:
    return {"KITE_PUBLIC_URL": gateway.url, "KITE_TEAM_ID": "team_1", "KITE_API_KEY": "kite_1", "KITE_WALLET_KEY": "4c" * 32}


def told(gateway: Gateway) -> str:
    """What repeats the payment that the gateway got."""
    (key,) = set(gateway.keys)
    return f"--idempotency-key {key}"


@pytest.mark.parametrize(("paid", "code"), [
    (answers(500, {"error": "internal_error", "message": "Something went wrong on our side."}), 69),
    (answers(409, {"error": "idempotency_key_reused", "message": "used"}), 1),
    (answers(502, "<html>Bad Gateway</html>"), 69), (answers(504, ""), 69), (answers(200, "not JSON"), 69),
])  # fmt: skip
async def test_every_failure_after_a_payment_says_how_to_repeat_it(gateway: Gateway, tmp_path: Path, paid: Step, code: int) -> None:
    gateway.paid = paid
    ended = await Kitectl(tmp_path)("pay", "deposit", "1", **environment(gateway))
    assert ended.code == code
    # Before the payment left, and with the failure.
    assert ended.err.count(told(gateway)) == 2
    assert "Traceback" not in ended.err


async def test_a_payment_that_is_refused_is_no_reason_to_repeat_it(gateway: Gateway, tmp_path: Path) -> None:
    gateway.paid = answers(402, {"error": "invalid_payment", "message": "The payment was refused."})
    ended = await Kitectl(tmp_path)("pay", "deposit", "1", **environment(gateway))
    assert (ended.code, ended.err.count(told(gateway))) == (1, 1)
    assert "kitectl wallet show" in ended.err


async def test_a_balance_that_is_not_told_after_the_payment_takes_nothing_away(gateway: Gateway, tmp_path: Path) -> None:
    async def then_refuse(_: web.Request) -> web.StreamResponse:
        gateway.wallet = answers(429, {"error": "rate_limit_exceeded", "message": "Too many requests."})
        return web.json_response({"bought": "it"}, headers={"payment-response": "no receipt"})

    gateway.paid = then_refuse
    ended = await Kitectl(tmp_path)("pay", "deposit", "1", "--json", **environment(gateway))
    assert ended.code == 0, ended.err
    assert (ended.document["bought"], ended.document["wallet_balance_before_atomic"], ended.document["wallet_balance_after_atomic"]) == (
        "it", 7, None,
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_a_command_that_is_ended_during_the_payment_has_told_how_to_repeat_it(
    gateway: Gateway, tmp_path: Path, number: signal.Signals
) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    gateway.paid = hang
    command = await Kitectl(tmp_path).start("pay", "deposit", "1", **environment(gateway))
    async with asyncio.timeout(60):
        await gateway.taken.wait()
        command.send_signal(number)
        _, err = await command.communicate()
    assert command.returncode == (130 if number == signal.SIGINT else -number)
    assert told(gateway) in err.decode()


async def test_a_team_is_kept_before_anything_else_is_looked_at(gateway: Gateway, tmp_path: Path) -> None:
    ended = await Kitectl(tmp_path)("pay", "bootstrap", **environment(gateway))
    kept: dict[str, Any] = json.loads((tmp_path / "teams" / "team_1.json").read_text("utf-8"))
    assert (kept["api_key"], told(gateway) in ended.err) == ("kite_1", True)
