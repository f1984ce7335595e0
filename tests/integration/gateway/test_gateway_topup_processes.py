"""Top-ups over real processes: two gateways, billing, the facilitator and a chain; gateways die at each step of a paid message.

After each test: one transfer, one credit, one event, one charge for each payment, and the wallet to the unit.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis
from x402.http.utils import decode_payment_required_header, decode_payment_response_header

from kite_cli.admin.hooks import create_hook
from kite_cli.local.chain.anvil import ChainOptions
from kite_cli.local.environment import PARTITIONS
from kite_cli.local.ports import LOOPBACK, PortBook
from kite_cli.local.readiness import answers_ok
from kite_cli.local.stack import LocalStack, ServiceSpec, StackOptions
from kite_cli.target import LogTarget
from kite_common.ids import TeamId
from kite_common.plans import shipped_catalog
from kite_common.projection import keys
from kite_common.runtime.faults import FAULT_POINT
from kite_common.stream.admin import ensure_topics
from kite_common.stream.kafka import Kafka
from kite_common.testing.eventually import eventually
from kite_common.topics import ALL, EVENTS
from support.chain import PAY_TO, USDC, Authorization, Chain, chain_of, header
from support.kite import COMPRESSED, Kite, Team
from support.log import read_all

# Of the plan starter.
PRICE: Final = 100
PATH: Final = "/api/v1/agents/messages"
MESSAGE: Final = {"from": "planner", "to": "builder", "body": "paid"}


@dataclass(frozen=True)
class Scene:
    """The processes, and the gateways as clients see them."""

    kite: Kite
    chain: Chain
    gateways: tuple[httpx.AsyncClient, httpx.AsyncClient]
    redis: Redis

    async def team(self, balance: int = 0) -> Team:
        """A team on the plan starter whose key both gateways know."""
        (team,) = await self.kite.teams(1, plan="starter", balance=balance)

        async def known() -> bool:
            asked = [await one.get("/api/v1/wallet", params={"team_id": team.id}, headers=team.headers) for one in self.gateways]
            return {one.status_code for one in asked} == {200}

        await eventually(known, within_s=20, what="the key is known")
        return team

    async def send(self, client: httpx.AsyncClient, team: Team, payment: str | None = None, **headers: str) -> httpx.Response:
        shown = {} if payment is None else {"payment-signature": payment}
        return await client.post(PATH, params={"team_id": team.id}, json=MESSAGE, headers=team.headers | shown | headers)

    async def decided(self, client: httpx.AsyncClient, team: Team, key: str) -> httpx.Response:
        """One message until it is taken or refused: on a machine that is busy with other things, a 503 may come before."""
        while True:
            answer = await self.send(client, team, **{"Idempotency-Key": key})
            if answer.status_code != 503 and answer.json().get("error") != "request_in_progress":
                return answer
            await asyncio.sleep(0.1)

    async def pay(self, team: Team) -> tuple[Authorization, str]:
        """What an official client makes of the offer of a 402: the authorization, and the header it stands in."""
        asked = await self.send(self.gateways[0], team)
        assert (asked.status_code, asked.json()["error"]) == (402, "insufficient_funds")
        required: Any = decode_payment_required_header(asked.headers["payment-required"])
        return await self.signed(required.accepts[0].model_dump(by_alias=True))

    async def signed(self, accepted: dict[str, Any]) -> tuple[Authorization, str]:
        """A payment for an offer, by a new payer."""
        authorization = (await self.chain.payer()).authorize(int(accepted["amount"]), to=accepted["payTo"])
        return authorization, header(authorization.v2(accepted))

    async def hook(self, team: Team) -> str:
        """The URL of a new hook endpoint `github`, token included, which both gateways know."""
        local = self.kite.local
        target = LogTarget(
            local.addresses.kafka_bootstrap, local.addresses.redis_url, PARTITIONS, 1, local.secrets["KITE_API_KEY_PEPPER"],
            local.secrets["KITE_HOOK_SECRET_CIPHER_KEY"],
        )  # fmt: skip
        made = await create_hook(target, shipped_catalog(), TeamId(team.id), "github", None)
        url = f"{made.endpoint}/{made.token}"

        async def known() -> bool:
            # Declared JSON that is none is refused behind the credentials.
            asked = [await one.post(url, headers={"content-type": "application/json"}) for one in self.gateways]
            return {one.status_code for one in asked} == {400}

        await eventually(known, within_s=20, what="the token is known")
        return url

    async def resent(self, team: Team, payment: str, **headers: str) -> httpx.Response:
        """The same request with the same payment until it is taken; nothing but 503 may come before, and 409 to a key that is in flight."""
        taken: list[httpx.Response] = []

        async def is_taken() -> bool:
            answer = await self.send(self.gateways[0], team, payment, **headers)
            if answer.status_code != 202:
                assert answer.status_code == 503 or (headers and answer.json()["error"] == "request_in_progress"), answer.text
                return False
            taken.append(answer)
            return True

        await eventually(is_taken, within_s=40, every_s=0.2, what="the payment is taken")
        return taken[0]

    @asynccontextmanager
    async def dying(self, point: str) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.subprocess.Process]]:
        """One more gateway, which kills itself when it gets to that point."""
        local, book = self.kite.local, PortBook()
        port = book.pick()
        env = local.environment("gateway") | COMPRESSED | {"KITE_PORT": str(port), "KITE_INSTANCE": "dying", FAULT_POINT: point}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kite_gateway.main", env=env, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await eventually(lambda: answers_ok(LOOPBACK, port, "/readyz"), within_s=60, every_s=0.1, what="the gateway is ready")
            async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as client:
                yield client, process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            book.release()

    async def stored(self, team: Team) -> list[str]:
        """The messages of a team: neither usages nor what Kite tells of its subscription."""
        records = await read_all(self.kite.kafka, EVENTS.name, range(PARTITIONS))
        return [value for _, _, key, value in records if key == team.id and '"specversion"' in value and '"kite.subscription.' not in value]

    async def audit(self, team: Team, authorization: Authorization, event_id: str, paid_before: int) -> None:
        """One transfer, one credit, one event, one charge."""
        wanted = USDC - PRICE

        async def settled() -> bool:
            return (await self.kite.balances([team]))[team.id] == wanted and await self.held(team) == 0

        await eventually(settled, within_s=30, every_s=0.2, what="the event is charged")
        assert await self.chain.is_used(authorization.payer, authorization.nonce)
        assert await self.chain.balance(PAY_TO) - paid_before == USDC
        assert await self.kite.ledger([team]) == {event_id: 1}
        stored = await self.stored(team)
        assert (len(stored), event_id in stored[0]) == (1, True)
        wallet = await self.gateways[1].get("/api/v1/wallet", params={"team_id": team.id}, headers=team.headers)
        assert (wallet.json()["balance_atomic"], wallet.json()["reserved_atomic"]) == (wanted, 0)

    async def held(self, team: Team) -> int:
        return int(await self.redis.zcard(keys.reservations(TeamId(team.id))))

    async def let_reservations_lapse(self, team: Team) -> None:
        """What ninety seconds do otherwise: the reservations of a team are that much older."""
        name = keys.reservations(TeamId(team.id))
        event_ids: list[Any] = await self.redis.zrange(name, 0, -1)
        for event_id in event_ids:
            await self.redis.zincrby(name, -2 * keys.LAPSE_MS, event_id)


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    options = StackOptions(tmp_path_factory.mktemp("topups"), chain=ChainOptions(), facilitator=True)
    async with LocalStack(options) as local:
        await ensure_topics(Kafka(local.addresses.kafka_bootstrap), ALL, PARTITIONS, 1)
        modules = {"billing": "billing", "gateway": "gateway", "gateway-2": "gateway"}
        await local.start_services([
            ServiceSpec(name, (sys.executable, "-m", f"kite_{module}.main"), env=COMPRESSED | {"KITE_INSTANCE": name}, ready_within_s=120)
            for name, module in modules.items()
        ])  # fmt: skip
        urls = [local.addresses.url(name) for name in ("gateway", "gateway-2")]
        limits, redis = httpx.Limits(max_connections=200), Redis.from_url(local.addresses.redis_url)
        async with (
            chain_of(local) as chain,
            httpx.AsyncClient(base_url=urls[0], timeout=60, limits=limits) as first,
            httpx.AsyncClient(base_url=urls[1], timeout=60, limits=limits) as second,
        ):
            yield Scene(Kite(local), chain, (first, second), redis)
        await redis.aclose()


@pytest.mark.timeout(180)
async def test_two_hundred_messages_at_once_on_a_wallet_for_fifty(scene: Scene) -> None:
    team = await scene.team(balance=50 * PRICE)
    answers = await asyncio.gather(*(scene.decided(scene.gateways[number % 2], team, f"message-{number}") for number in range(200)))
    assert Counter(one.status_code for one in answers) == {202: 50, 402: 150}
    assert all("payment-required" in one.headers for one in answers if one.status_code == 402)

    async def settled() -> bool:
        return await scene.held(team) == 0 and len(await scene.kite.ledger([team])) == 50

    await eventually(settled, within_s=30, every_s=0.2, what="all are charged")
    wallet = await scene.gateways[0].get("/api/v1/wallet", params={"team_id": team.id}, headers=team.headers)
    assert (wallet.json()["balance_atomic"], (await scene.kite.balances([team]))[team.id]) == (0, 0)
    assert set((await scene.kite.ledger([team])).values()) == {1}
    assert len(await scene.stored(team)) == 50


@pytest.mark.timeout(120)
async def test_an_empty_wallet_pays_with_its_message_and_repeats_get_the_first_answer(scene: Scene) -> None:
    team, before = await scene.team(), await scene.chain.balance(PAY_TO)
    authorization, payment = await scene.pay(team)
    first = await scene.send(scene.gateways[0], team, payment)
    assert first.status_code == 202, first.text
    told = decode_payment_response_header(first.headers["payment-response"])
    assert (told.success, told.payer, told.amount) == (True, authorization.payer, str(USDC))
    charged = {"amount_charged_atomic": PRICE, "amount_charged_sats": PRICE}
    assert first.json()["usage"] == {"events_used": 1, "events_limit": 100_000, **charged}
    for client in scene.gateways:
        again = await scene.send(client, team, payment, **{"Idempotency-Key": "another"})
        assert (again.status_code, again.content, again.headers["idempotency-replayed"]) == (202, first.content, "true")
        assert again.headers["payment-response"] == first.headers["payment-response"]
    await scene.audit(team, authorization, first.json()["id"], before)
    other = await scene.gateways[1].post(
        PATH, params={"team_id": team.id}, json=MESSAGE | {"body": "x"}, headers=team.headers | {"payment-signature": payment}
    )
    assert (other.status_code, other.json()["error"], other.json()["transaction"]) == (409, "payment_already_used", told.transaction)


@pytest.mark.timeout(120)
async def test_twenty_copies_of_one_payment_over_two_gateways_are_one_event(scene: Scene) -> None:
    team, before = await scene.team(), await scene.chain.balance(PAY_TO)
    authorization, payment = await scene.pay(team)
    answers = await asyncio.gather(*(scene.send(scene.gateways[number % 2], team, payment) for number in range(20)))
    counted = Counter(one.status_code for one in answers)
    assert counted.keys() <= {202, 503}, counted
    assert counted[202] >= 1
    taken = await scene.resent(team, payment)
    assert {one.content for one in answers if one.status_code == 202} == {taken.content}
    await scene.audit(team, authorization, taken.json()["id"], before)


@pytest.mark.timeout(120)
async def test_a_key_whose_gateway_died_between_log_and_answer_is_answered_with_its_one_event(scene: Scene) -> None:
    team, key = await scene.team(balance=2 * PRICE), {"Idempotency-Key": "mine"}
    async with scene.dying("message.published") as (client, process):
        with pytest.raises(httpx.TransportError):
            await scene.send(client, team, **key)
        assert await process.wait() == -9
    taken = await scene.decided(scene.gateways[0], team, "mine")
    again = await scene.send(scene.gateways[1], team, **key)
    assert (taken.status_code, again.status_code, again.json()["id"]) == (202, 202, taken.json()["id"])
    assert again.headers["idempotency-replayed"] == taken.headers["idempotency-replayed"] == "true"

    async def settled() -> bool:
        return await scene.held(team) == 0 and await scene.kite.ledger([team]) == {taken.json()["id"]: 1}

    await eventually(settled, within_s=30, every_s=0.2, what="it is charged once")
    assert (await scene.kite.balances([team]))[team.id] == PRICE
    assert len(await scene.stored(team)) == 1


POINTS: Final = (
    "topup.peeked", "payment.submitted", "topup.credited", "credit.projected", "topup.admitted", "topup.published", "topup.kept",
)  # fmt: skip


@pytest.mark.timeout(180)
async def test_a_delivery_that_was_paid_for_is_one_event_although_its_gateway_died_before_the_answer(scene: Scene) -> None:
    team, before = await scene.team(), await scene.chain.balance(PAY_TO)
    url, headers = await scene.hook(team), {"X-GitHub-Delivery": "d1"}
    asked = await scene.gateways[0].post(url, json={}, headers=headers)
    required: Any = decode_payment_required_header(asked.headers["payment-required"])
    assert (asked.status_code, url.rpartition("/")[2] in asked.text, required.resource.url.endswith("/github")) == (402, False, True)
    authorization, payment = await scene.signed(required.accepts[0].model_dump(by_alias=True))
    paid = headers | {"payment-signature": payment}
    async with scene.dying("topup.published") as (client, process):
        with pytest.raises(httpx.TransportError):
            await client.post(url, json={}, headers=paid)
        assert await process.wait() == -9
    answers: list[httpx.Response] = []

    async def taken() -> bool:
        answers.append(await scene.gateways[1].post(url, json={}, headers=paid))
        return answers[-1].status_code != 503

    await eventually(taken, within_s=30, every_s=0.1, what="the delivery is answered")
    assert answers[-1].status_code == 202, answers[-1].text
    event_id = answers[-1].json()["id"]
    unpaid = await scene.gateways[0].post(url, json={}, headers=headers)
    assert (unpaid.status_code, unpaid.json()) == (200, {"status": "duplicate_ignored", "id": event_id})
    await scene.audit(team, authorization, event_id, before)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "mine"}], ids=["plain", "key"])
async def test_a_gateway_dies_at_a_step_and_the_same_payment_ends_in_one_event(scene: Scene, point: str, headers: dict[str, str]) -> None:
    team, before = await scene.team(), await scene.chain.balance(PAY_TO)
    authorization, payment = await scene.pay(team)
    async with scene.dying(point) as (client, process):
        with pytest.raises(httpx.TransportError):
            await scene.send(client, team, payment, **headers)
        assert await process.wait() == -9
    if point == "topup.admitted":
        # Nobody knows whether the event is in the log, until billing does: it must not be written once more. Whoever asks is told that the
        # money has arrived; under another key, too.
        for other in ({}, {"Idempotency-Key": "another"}):
            waits = await scene.send(scene.gateways[1], team, payment, **other)
            assert (waits.status_code, decode_payment_response_header(waits.headers["payment-response"]).success) == (503, True)
        assert await scene.stored(team) == []
        await scene.let_reservations_lapse(team)
    # The key of the first request, or none: the payment alone must find its event.
    taken = await scene.resent(team, payment)
    assert (await scene.resent(team, payment, **headers)).content == taken.content
    assert (await scene.send(scene.gateways[1], team, payment)).content == taken.content
    await scene.audit(team, authorization, taken.json()["id"], before)
