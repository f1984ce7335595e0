"""docs/payments-api.md: its JSON is what the app answers, its codes and reasons exist, and its program pays once whatever comes between."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from eth_account import Account
from x402 import x402Client
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import register_exact_evm_client

from kite_common.errors import CODES
from kite_common.events.payments import PaymentOutcome, PaymentSubmitted
from kite_common.runtime.system import SystemClock
from kite_common.testing import payments
from kite_common.x402.reasons import KNOWN
from kite_gateway.adapters.http.openapi_examples import EXAMPLES
from support.paid_gateway import BOOTSTRAP, WANTED, OneCreditEach, PaidGateway, decoded, outcome_of
from support.paid_routes import FakePayments

TEXT: Final = (Path(__file__).parents[2] / "docs" / "payments-api.md").read_text(encoding="utf-8")
JSON_BLOCKS: Final = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
Paid = Callable[[httpx.AsyncClient, x402Client, str, Any], Awaitable[httpx.Response]]


@dataclass
class Waits:
    """Stands for asyncio in the program: its waits are noted and take no time."""

    seconds: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


def program(waits: Waits) -> Paid:
    """The function the page shows."""
    [source] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(source, "docs/payments-api.md", "exec"), names)  # noqa: S102 - our own page
    names["asyncio"] = waits
    paid: Paid = names["paid"]
    return paid


def test_all_json_of_the_page_was_answered() -> None:
    bodies = [body for shown in EXAMPLES["operations"].values() for answers in shown["answers"].values() for body in answers.values()]
    known = [*bodies, *(decoded(value) for value in EXAMPLES["headers"].values())]
    assert len(JSON_BLOCKS) == 5
    for block in JSON_BLOCKS:
        assert json.loads(block) in known


def test_codes_and_reasons_of_the_page_exist_and_all_payment_codes_are_there() -> None:
    rows = [line.split("|")[1] for line in TEXT.splitlines() if re.match(r"\| \d{3} `", line)]
    named = {code: int(row.split()[0]) for row in rows for code in re.findall(r"`([a-z_0-9]+)`", row)}
    assert {code: CODES[code].status for code in named} == named
    payment_codes = {
        "invalid_payment_header", "payment_required", "invalid_payment", "insufficient_funds", "payment_already_used",
        "idempotency_key_reused", "bootstrap_in_progress", "settlement_pending", "facilitator_unavailable", "x402_unconfigured",
        "bootstrap_unconfigured",
    }  # fmt: skip
    assert payment_codes <= set(named)
    [reasons] = re.findall(r"\| `reason` \| do \|\n(.*?)\n\n", TEXT, re.DOTALL)
    told = {f"invalid_exact_evm_payload_authorization{name}" if name.startswith("_") else name for name in re.findall(r"`(\w+)`", reasons)}
    assert told - {"from", "extra"} <= KNOWN


@pytest.mark.parametrize(
    "before",
    [
        [], [{"result": "pending"}], [{"result": "not_taken"}, {"result": "pending"}, {"result": "in_progress"}],
        [{"result": "pending", "transaction": payments.TRANSACTION}] * 5,
    ],
    ids=["at once", "pending", "down, pending, in progress", "pending for long"],
)  # fmt: skip
def test_the_program_of_the_page_signs_once(before: list[dict[str, Any]]) -> None:
    credit, rest = OneCreditEach(payments.terms()), list(before)

    def answers(submitted: PaymentSubmitted) -> PaymentOutcome:
        return outcome_of(submitted, **rest.pop(0)) if rest else credit(submitted)

    gateway, waits = PaidGateway(payments=FakePayments(answers), clock=SystemClock()), Waits()
    answer = asyncio.run(run(program(waits), gateway))
    assert (answer.status_code, answer.json()["credentials_available"]) == (200, True)
    assert len({made.payment_key for made in gateway.submitted}) == 1
    assert (len(gateway.submitted), waits.seconds) == (len(before) + 1, [2] * len(before))
    assert gateway.submitted[0].quote_hash is not None


def test_the_program_of_the_page_stops_at_a_refusal() -> None:
    def poor(submitted: PaymentSubmitted) -> PaymentOutcome:
        reason = "invalid_exact_evm_insufficient_balance"
        return outcome_of(submitted, result="refused", status=402, code="invalid_payment", reason=reason)

    gateway = PaidGateway(payments=FakePayments(poor), clock=SystemClock())
    answer = asyncio.run(run(program(Waits()), gateway))
    assert (answer.status_code, answer.json()["reason"]) == (402, "invalid_exact_evm_insufficient_balance")
    assert len(gateway.submitted) == 1


async def run(paid: Paid, gateway: PaidGateway) -> httpx.Response:
    wallet = x402Client()
    register_exact_evm_client(wallet, EthAccountSigner(Account.from_key(payments.payer().to_bytes())))
    async with gateway.client() as http:
        return await paid(http, wallet, BOOTSTRAP, WANTED)
