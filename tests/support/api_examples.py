"""The requests whose answers are the examples of the OpenAPI document, and how they are asked: of the app over fakes, at NOW_MS."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from kite_common.testing import make, payments
from kite_gateway.testing import Account
from support import replay_examples
from support.paid_gateway import (
    BOOTSTRAP,
    DEPOSIT,
    HOOK,
    INVOICES,
    READER,
    TEAM,
    WANTED,
    WRITER,
    OneCreditEach,
    PaidGateway,
    always,
    crediting,
    quoted,
)

MESSAGE: Final = {"from": "agent-beta", "to": "agent-alpha", "body": "Here are the results you asked for.", "thread_id": "thread-abc123"}
ENDPOINT: Final = {"url": "https://example.com/kite", "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "event_types": ["com.kite.*"]}
ROTATION: Final = {"secret": "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=", "overlap_secs": 3600}
DELIVERER: Final = {"Authorization": f"Bearer {make.HOOK_TOKEN}"}
GROWTH: Final = {"plan_id": make.plan("growth").id, "provider": "x402"}
_MESSAGES, _CONFIG, _HOOK = "/api/v1/agents/messages", "/api/v1/webhook-config", "/hooks/{team_id}/{source}"
_SUBSCRIPTION, _WALLET, _USAGE = (f"/api/v1/{name}" for name in ("subscription", "wallet", "usage"))
# What people and programs read in the document as values of headers.
_SHOWN_HEADERS: Final = ("payment-required", "payment-response", "x-payment-response")

Setup = Callable[[PaidGateway], None]


@dataclass(frozen=True)
class Example:
    """One request. `name` is that of its answer: an error's code, with a word behind a dot where a code has two.

    `given` is done before; `pays`: with this payment, or, True, with a good one. `shown_as`: its body is an example too, of this name.
    `query` is that of a public route.
    """

    operation: str
    name: str
    body: object = None
    given: Setup | None = None
    pays: str | bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    shown_as: str | None = None
    query: str = ""

    @property
    def url(self) -> str:
        """Where it goes: the public routes without a team, hooks with it in the path."""
        path = self.operation.partition(" ")[2].format(team_id=TEAM, source=HOOK)
        query = f"team_id={TEAM}" if self.headers in (READER, WRITER) else self.query
        return f"{path}?{query}" if query else path


def comes_to(**outcome: Any) -> Setup:
    """Every payment comes to this."""

    def setup(gateway: PaidGateway) -> None:
        gateway.payments.answers = always(**outcome)

    return setup


def stands(**given: Any) -> Setup:
    """The team stands like this."""
    return lambda gateway: gateway.has(**given)


def _poor(gateway: PaidGateway) -> None:
    """The wallet cannot pay for one event."""
    gateway.reservations.accounts[TEAM] = Account(balance=7)


def _late(gateway: PaidGateway) -> None:
    gateway.payments.answers = OneCreditEach(payments.terms(), shows_credentials=False)


_PENDING: Final = comes_to(result="pending", transaction=payments.TRANSACTION)
_TAKEN: Final = comes_to(result="conflict", code="payment_already_used", transaction=payments.TRANSACTION)
_NOT_TAKEN: Final = comes_to(result="not_taken")
_POOR: Final = comes_to(result="refused", status=402, code="invalid_payment", reason="invalid_exact_evm_insufficient_balance")
def _configured(gateway: PaidGateway) -> None:
    """The team has a webhook config."""
    gateway.configs.configs[TEAM] = make.webhook(team_id=TEAM)


def _unconfigured(gateway: PaidGateway) -> None:
    gateway.configs.configs.clear()


_NEW_TEAM, _DEPOSIT = "POST " + BOOTSTRAP, "POST " + INVOICES

EXAMPLES: Final = (
    Example(_NEW_TEAM, "payment_required", WANTED, shown_as="a_team_on_starter"),
    Example(_NEW_TEAM, "paid", WANTED, pays=True),
    Example(_NEW_TEAM, "paid_before", WANTED, _late, pays=True),
    Example(_NEW_TEAM, "invalid_payment", WANTED, pays=payments.header(value="999999")),
    Example(_NEW_TEAM, "invalid_payment.payer_without_funds", WANTED, _POOR, pays=True),
    Example(_NEW_TEAM, "invalid_payment_header", WANTED, pays="e30="),
    Example(_NEW_TEAM, "invalid_source", WANTED | {"source": "my bot"}),
    Example(_NEW_TEAM, "invalid_deposit", WANTED | {"deposit_atomic": 5}),
    Example(_NEW_TEAM, "plan_not_found", WANTED | {"plan": "gold"}),
    Example(_NEW_TEAM, "bootstrap_in_progress", WANTED, comes_to(result="in_progress"), pays=True),
    Example(_NEW_TEAM, "payment_already_used", WANTED, _TAKEN, pays=True),
    Example(_NEW_TEAM, "settlement_pending", WANTED, _PENDING, pays=True),
    Example(_NEW_TEAM, "facilitator_unavailable", WANTED, _NOT_TAKEN, pays=True),
    Example(_DEPOSIT, "payment_required", DEPOSIT, headers=WRITER, shown_as="one_dollar"),
    Example(_DEPOSIT, "paid", DEPOSIT, headers=WRITER, pays=True),
    Example(_DEPOSIT, "invalid_payment", DEPOSIT, headers=WRITER, pays=payments.header(value="999999")),
    Example(_DEPOSIT, "invalid_payment.payer_without_funds", DEPOSIT, _POOR, headers=WRITER, pays=True),
    Example(_DEPOSIT, "invalid_payment_header", DEPOSIT, headers=WRITER, pays="e30="),
    Example(_DEPOSIT, "invalid_amount", {"amount_atomic": 0}, headers=WRITER),
    Example(_DEPOSIT, "no_active_subscription", DEPOSIT, stands(status="none"), headers=WRITER),
    Example(_DEPOSIT, "not_x402_subscription", DEPOSIT, stands(provider="clerk"), headers=WRITER),
    Example(_DEPOSIT, "payment_already_used", DEPOSIT, _TAKEN, headers=WRITER, pays=True),
    Example(_DEPOSIT, "settlement_pending", DEPOSIT, _PENDING, headers=WRITER, pays=True),
    Example(_DEPOSIT, "facilitator_unavailable", DEPOSIT, _NOT_TAKEN, headers=WRITER, pays=True),
    Example("POST " + _MESSAGES, "accepted", MESSAGE, headers=WRITER, shown_as="a_message"),
    Example("POST " + _MESSAGES, "invalid_message", MESSAGE | {"to": ""}, headers=WRITER),
    Example("POST " + _MESSAGES, "insufficient_funds", MESSAGE, _poor, headers=WRITER),
    Example("POST " + _MESSAGES, "paid_on_the_way", MESSAGE, _poor, headers=WRITER, pays=payments.header()),
    Example("POST " + _MESSAGES, "unauthorized", MESSAGE),
    Example("POST " + _HOOK, "accepted", {"hello": "world"}, headers=DELIVERER),
    Example("POST " + _HOOK, "insufficient_funds", {"hello": "world"}, _poor, headers=DELIVERER),
    Example("POST " + _HOOK, "invalid_hook_token", {"hello": "world"}),
    Example("PUT " + _CONFIG, "stored", ENDPOINT, headers=WRITER, shown_as="an_endpoint"),
    Example("PUT " + _CONFIG, "invalid_url", ENDPOINT | {"url": "ftp://example.com"}, headers=WRITER),
    Example("GET " + _CONFIG, "active", headers=READER),
    Example("POST " + _CONFIG + "/rotate-secret", "a_secret_of_the_client", ROTATION, headers=WRITER, shown_as="with_a_secret"),
    Example("POST " + _CONFIG + "/rotate-secret", "a_secret_of_the_server", headers=WRITER),
    Example("POST " + _CONFIG + "/rotate-secret", "invalid_overlap", {"overlap_secs": -1}, headers=WRITER),
    Example("GET /api/v1/webhook-keys", "one_key", query=f"team_id={TEAM}"),
    Example("GET /api/v1/webhook-keys", "missing_team_id"),
    Example("DELETE " + _CONFIG, "deactivated", headers=WRITER),
    Example("GET " + _CONFIG, "webhook_config_not_found", headers=READER),
    Example("POST " + _CONFIG + "/test", "queued", given=_configured, headers=WRITER),
    Example("POST " + _CONFIG + "/test", "webhook_config_not_found", given=_unconfigured, headers=WRITER),
    Example("GET /api/v1/plans", "shipped"),
    Example("GET " + _SUBSCRIPTION, "active", headers=READER),
    Example("GET " + _SUBSCRIPTION, "no_active_subscription", given=stands(status="none"), headers=READER),
    Example("POST " + _SUBSCRIPTION, "switched", GROWTH, headers=WRITER, shown_as="to_growth"),
    Example("POST " + _SUBSCRIPTION, "invalid_provider", GROWTH | {"provider": "cash"}, headers=WRITER),
    Example("GET " + _WALLET, "open", headers=READER),
    Example("GET " + _WALLET, "not_x402_subscription", given=stands(provider="clerk"), headers=READER),
    Example("GET " + _USAGE, "of_an_x402_subscription", headers=READER),
    Example("GET " + _USAGE, "of_a_flat_plan", given=stands(provider="clerk", price_atomic=0, charged_atomic=0), headers=READER),
)


def real_answers() -> dict[str, Any]:
    """All of them asked, in the form of `openapi_examples.json`."""
    return asyncio.run(_asked())


async def ask(gateway: PaidGateway, example: Example) -> httpx.Response:
    """The answer to one of them; whoever pays has seen the offer first, and echoes its quote."""
    gateway.start_anew()
    method = example.operation.partition(" ")[0]
    async with gateway.client() as client:
        headers = dict(example.headers)
        if example.pays is True:
            offer = await client.request(method, example.url, json=example.body, headers=headers)
            headers["payment-signature"] = payments.header(quote_id=quoted(offer))
        elif example.pays:
            headers["payment-signature"] = example.pays
        if example.given is not None:
            example.given(gateway)
        return await client.request(method, example.url, json=example.body, headers=headers)


async def _asked() -> dict[str, Any]:
    gateway, shown, operations = crediting(), dict[str, str](), dict[str, Any]()
    for example in EXAMPLES:
        answer = await ask(gateway, example)
        told = operations.setdefault(example.operation, {"requests": {}, "answers": {}})
        if example.shown_as is not None:
            told["requests"][example.shown_as] = example.body
        told["answers"].setdefault(str(answer.status_code), {})[example.name] = answer.json()
        shown = {name: answer.headers[name] for name in _SHOWN_HEADERS if name in answer.headers} | shown
    return {"headers": shown, "operations": operations | await replay_examples.answers()}
