"""Measures paying: the 402 that asks for it, payments through the whole chain of processes, and what a signature costs.

On a local chain that mines each transaction at once: a real one adds its block time.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.load.job import Sender
from kite_cli.bench.options import Sizes
from kite_cli.bench.processes import sample, use_between
from kite_cli.bench.spread import percentile
from kite_cli.bench.steps import Steps
from kite_cli.bench.teams import open_teams
from kite_cli.bench.whole import Kite, bare_stack, start_services
from kite_cli.local.chain.rpc import local_rpc
from kite_cli.local.chain.token import mint

_SERVICES: Final = ("gateway", "billing", "facilitator", "chain", "kafka", "valkey")
_INVOICES: Final = "/api/v1/wallet/invoices"
_AT_ONCE: Final = 8
_ASKED_PER_S: Final = 100
_AMOUNT: Final = 10_000
_BALANCE: Final = 1_000_000_000_000
_SIGNATURES: Final = 200
_PAYMENT_REQUIRED: Final = 402


@dataclass(frozen=True, slots=True)
class Paying:
    """One run. `unpaid_*`: milliseconds from the time a request was due to its 402. `paid_*`: from the first request of a payment to its
    200, with the 402 and the signing between. `recover_ms`: CPU time of one signer recovered. `cores`: what each process kept busy while
    paying."""

    unpaid_p50_ms: float
    unpaid_p95_ms: float
    paid_per_s: float
    paid_p50_ms: float
    paid_p95_ms: float
    recover_ms: float
    cores: Mapping[str, float]


async def measure_payments(sizes: Sizes, steps: Steps) -> tuple[Paying, ...]:
    """Pay `sizes.runs` times for `sizes.measure_s` seconds. Raises BenchFailed, StepFailed."""
    async with _paid_kite() as kite:
        (team,) = await open_teams(kite, 1)
        async with AsyncExitStack() as clients:
            payers = [await clients.enter_async_context(one) for one in await _payers(kite, _AT_ONCE)]
            await _paid(kite, team, payers, sizes.warm_up_s)
            return tuple([await _run(kite, team, payers, sizes, steps) for _ in range(sizes.runs)])


@asynccontextmanager
async def _paid_kite() -> AsyncIterator[Kite]:
    async with bare_stack() as kite:
        await kite.local.start_chain()
        await start_services(kite, ("facilitator", "gateway", "billing"))
        yield kite


async def _run(kite: Kite, team: Sender, payers: Sequence[httpx.AsyncClient], sizes: Sizes, steps: Steps) -> Paying:
    async with steps.step(f"payments, {_AT_ONCE} at once", 2 * sizes.measure_s) as step:
        asked = await _asked(kite, team, sizes.measure_s)
        before = sample(kite.pids)
        paid, took_s = await _paid(kite, team, payers, sizes.measure_s)
        use = use_between(before, sample(kite.pids))
        step.said = f"{len(paid) / took_s:.1f} payments/s, 402 p95 {percentile(asked, 0.95):.1f} ms"
    return Paying(
        percentile(asked, 0.5), percentile(asked, 0.95), len(paid) / took_s, percentile(paid, 0.5), percentile(paid, 0.95), _recover_ms(),
        {name: use.share(name) for name in _SERVICES},
    )  # fmt: skip


async def _asked(kite: Kite, team: Sender, seconds: float) -> list[float]:
    """Ask for offers at a fixed rate; milliseconds each took from when it was due, in rising order. Raises BenchFailed."""
    async with httpx.AsyncClient(trust_env=False, timeout=30, limits=httpx.Limits(max_connections=64)) as client:

        async def ask(due: float) -> float:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            answer = await _post(client, kite, team)
            if answer.status_code != _PAYMENT_REQUIRED:
                raise BenchFailed(f"a request without a payment is answered {answer.status_code} {answer.text[:200]}")
            return (time.monotonic() - due) * 1000

        began = time.monotonic() + 0.1
        count = max(1, int(seconds * _ASKED_PER_S))
        return sorted(await asyncio.gather(*(ask(began + number / _ASKED_PER_S) for number in range(count))))


async def _paid(kite: Kite, team: Sender, payers: Sequence[httpx.AsyncClient], seconds: float) -> tuple[list[float], float]:
    """Pay again and again with every payer; milliseconds each took, in rising order, and the seconds all of it took. Raises BenchFailed."""
    began = time.monotonic()
    took: list[float] = []

    async def pay(payer: httpx.AsyncClient) -> None:
        while time.monotonic() - began < seconds:
            at = time.monotonic()
            answer = await _post(payer, kite, team)
            if answer.is_error:
                raise BenchFailed(f"a payment is answered {answer.status_code} {answer.text[:200]}")
            took.append((time.monotonic() - at) * 1000)

    await asyncio.gather(*map(pay, payers))
    return sorted(took), time.monotonic() - began


async def _post(client: httpx.AsyncClient, kite: Kite, team: Sender) -> httpx.Response:
    return await client.post(
        kite.local.addresses.url("gateway") + _INVOICES, params={"team_id": team.team_id},
        headers={"Authorization": f"Bearer {team.key}"}, json={"amount_atomic": _AMOUNT},
    )  # fmt: skip


async def _payers(kite: Kite, count: int) -> list[httpx.AsyncClient]:
    """Clients of wallets of their own, with money."""
    from eth_account import Account
    from x402 import x402Client
    from x402.http.clients.httpx import x402AsyncTransport
    from x402.mechanisms.evm import EthAccountSigner
    from x402.mechanisms.evm.exact import register_exact_evm_client

    payers = []
    async with local_rpc(kite.local.chain.url) as rpc:
        for _ in range(count):
            account, client = Account.create(), x402Client()
            await mint(rpc, kite.local.chain.token, account.address, _BALANCE)
            register_exact_evm_client(client, EthAccountSigner(account))
            payers.append(httpx.AsyncClient(transport=x402AsyncTransport(client, httpx.AsyncHTTPTransport()), timeout=60, trust_env=False))
    return payers


def _recover_ms() -> float:
    """CPU milliseconds in which the gateway recovers who has signed."""
    from eth_keys.datatypes import PrivateKey

    from kite_common.events.payments import Authorization
    from kite_common.x402.networks import asset_of
    from kite_common.x402.precheck import digest_of, signer_of

    key, asset = PrivateKey(b"\x01" * 32), asset_of("eip155:84532")
    signed = Authorization(
        from_address=key.public_key.to_address(), to_address="0x" + "22" * 20, value="1", valid_after="0", valid_before="9",
        nonce="0x" + "33" * 32,
    )  # fmt: skip
    made = key.sign_msg_hash(digest_of(asset, signed)).to_bytes()
    signature = "0x" + (made[:64] + bytes([27 + made[64]])).hex()
    began = time.process_time()
    for _ in range(_SIGNATURES):
        signer_of(asset, signed, signature)
    return (time.process_time() - began) * 1000 / _SIGNATURES
