"""SIGKILL of billing at every fault point, then a restart: in the end every payment has one outcome and exactly one credit.

Each point is one start: the process dies there, and the next one, which is to die at the next point, takes over what it left. So recoveries
are killed too. Real Kafka, Valkey and chain; the facilitator is a double, which settles with real transactions.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from kite_billing.adapters import payment_faults as points
from kite_common.events.payments import PaymentAssigned, PaymentOutcome, PaymentResult
from kite_common.ids import UNATTRIBUTED, new_team_id
from kite_common.runtime.system import random_bytes
from kite_common.testing.eventually import eventually
from support.chain_faults import Lie
from support.paid_billing import PaidBilling, Payment, Process, paid_billing
from support.stack import RunningStack

VALUE = 1_000_000
DIES_WITHIN_S = 40
HAPPY = (
    *(point for point in points.TRANSITIONS if point.split(".")[1] in ("claimed", "settling", "settled", "credited")),
    points.VERIFY_BEFORE, points.VERIFY_ENDED, points.SETTLE_BEFORE, points.SETTLE_ENDED, points.LOOK_ENDED, points.LEDGER_DECIDING,
    points.LEDGER_COMMITTED, points.OUTCOME_BEFORE, points.OUTCOME_TOLD,
)  # fmt: skip


def of(*events: str) -> tuple[str, ...]:
    return tuple(point for point in points.TRANSITIONS if point.split(".")[1] in events)


@pytest.fixture(scope="module")
async def scene(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PaidBilling]:
    async with paid_billing(stack, tmp_path_factory.mktemp("kills")) as scene:
        yield scene
        assert await scene.secrets_in_the_open() == []


async def death(process: Process, point: str) -> None:
    """Wait until the process has killed itself."""
    await eventually(lambda: process.poll() is not None, within_s=DIES_WITHIN_S, what=f"billing dies at {point}")
    assert process.returncode == -signal.SIGKILL, point


async def die_at(scene: PaidBilling, at: tuple[str, ...], begin: Callable[[], Awaitable[object]]) -> None:
    """For each point: something begins, and billing dies there."""
    for point in at:
        process = scene.start(point)
        await begin()
        await death(process, point)


async def credited_once(scene: PaidBilling, payment: Payment, outcome: PaymentOutcome) -> None:
    assert (outcome.result, outcome.team_id, outcome.amount_atomic) == ("credited", payment.team_id, VALUE), outcome
    assert await scene.entries(payment.team_id) == [VALUE]
    assert (await scene.show(payment)).model_copy(update={"submission_id": outcome.submission_id}) == outcome


async def adds_up(scene: PaidBilling) -> None:
    audit = await scene.audit()
    assert audit.ok, audit


def test_no_point_is_forgotten_here() -> None:
    tested = {*HAPPY, *of("rejected", "unknown", "dead", "reversed", "observed", "assigned", "noted"), points.SCAN_ENDED}
    assert tested == set(points.POINTS)


async def test_a_payment_survives_deaths_at_every_step_of_its_way(scene: PaidBilling) -> None:
    paying: list[tuple[Payment, asyncio.Task[PaymentOutcome]]] = []

    async def begin() -> None:
        payment = await scene.payment()
        paying.append((payment, asyncio.create_task(scene.pay(payment, within_s=200))))

    await die_at(scene, HAPPY, begin)
    last = scene.start()
    for payment, task in paying:
        await credited_once(scene, payment, await task)
    await adds_up(scene)
    last.kill()


async def test_a_refusal_and_an_unclear_answer_survive_deaths(scene: PaidBilling) -> None:
    for lie, at, result in ((Lie.REFUSED, of("rejected"), "refused"), (Lie.ERROR_500, of("unknown"), "credited")):
        paying: list[tuple[Payment, asyncio.Task[PaymentOutcome]]] = []

        async def begin(paying: list[tuple[Payment, "asyncio.Task[PaymentOutcome]"]] = paying) -> None:
            payment = await scene.payment()
            paying.append((payment, asyncio.create_task(scene.pay(payment, within_s=100))))

        scene.facilitator.settle = lie
        await die_at(scene, at, begin)
        if lie is Lie.ERROR_500:
            scene.facilitator.settle = Lie.HONEST
        last = scene.start()
        outcomes = [(payment, await task) for payment, task in paying]
        assert {outcome.result for _, outcome in outcomes} == {result}
        scene.facilitator.settle = Lie.HONEST
        for payment, _ in outcomes:
            # Whatever it was: the same payment pays in the end.
            await credited_once(scene, payment, await scene.pay(payment))
        await adds_up(scene)
        last.kill()


async def test_the_end_of_a_cancelled_authorization_survives_deaths(scene: PaidBilling) -> None:
    scene.facilitator.verify, scene.facilitator.reason = Lie.REFUSED, "invalid_exact_evm_nonce_already_used"
    paying: list[tuple[Payment, asyncio.Task[PaymentOutcome]]] = []

    async def begin() -> None:
        payer = await scene.chain.payer()
        payment = scene.payment_of(payer)
        await scene.chain.cancel(payer, payment.signed.nonce)
        paying.append((payment, asyncio.create_task(scene.pay(payment, within_s=100))))

    await die_at(scene, of("dead"), begin)
    last = scene.start()
    for payment, task in paying:
        assert ((await task).result, (await task).reason) == ("refused", "authorization_canceled")
        assert await scene.entries(payment.team_id) == []
    scene.facilitator.verify, scene.facilitator.reason = Lie.HONEST, "invalid_exact_evm_insufficient_balance"
    await adds_up(scene)
    last.kill()


async def test_a_reorganisation_survives_deaths(scene: PaidBilling) -> None:
    payment, process = await scene.payment(), scene.start()
    await credited_once(scene, payment, await scene.pay(payment))
    process.kill()
    await scene.chain.reorg(1)

    async def begin() -> None:
        """The transaction is gone: whoever starts finds that out."""

    await die_at(scene, of("reversed"), begin)
    last = scene.start()
    await eventually(lambda: _has(scene, payment.team_id, [VALUE, -VALUE, VALUE]), within_s=60, what="reversed, and credited again")
    await adds_up(scene)
    last.kill()


async def test_unclaimed_money_and_its_assignment_survive_deaths(scene: PaidBilling) -> None:
    keys: list[str] = []

    async def transfer() -> None:
        keys.append(await scene.transfer(VALUE))

    await die_at(scene, (points.SCAN_ENDED, *of("observed")), transfer)
    process = scene.start()
    for key in keys:
        await eventually(lambda key=key: _is_observed(scene, key), within_s=30, what="it is observed")  # type: ignore[misc]
    await adds_up(scene)
    assert await scene.entries(UNATTRIBUTED) == [VALUE] * len(keys)
    process.kill()
    teams = [new_team_id(random_bytes(16)) for _ in keys]
    waiting = list(zip(keys, teams, strict=True))

    async def assign() -> None:
        key, team = waiting.pop()
        await scene.publish(PaymentAssigned(payment_key=key, command_id="c", team_id=team, note="a ticket"))

    await die_at(scene, of("assigned"), assign)
    last = scene.start()
    for team in teams[1:]:
        await eventually(lambda team=team: _has(scene, team, [VALUE]), within_s=30, what="the team has it")  # type: ignore[misc]
    assert (await scene.audit()).unattributed_atomic == VALUE
    await adds_up(scene)
    last.kill()


async def test_a_stored_result_survives_deaths(scene: PaidBilling) -> None:
    process, paid = scene.start(), [await scene.payment() for _ in of("noted")]
    for payment in paid:
        await credited_once(scene, payment, await scene.pay(payment))
    process.kill()
    waiting = list(paid)

    async def remember() -> None:
        await scene.publish(PaymentResult(payment_key=waiting.pop().key, status=202, body='{"id":"1"}'))

    await die_at(scene, of("noted"), remember)
    last = scene.start()
    for payment in paid:
        outcome = await scene.pay(payment)
        assert (outcome.result, outcome.stored_status, outcome.stored_body) == ("credited", 202, '{"id":"1"}')
        assert await scene.entries(payment.team_id) == [VALUE]
    last.kill()


async def _is_observed(scene: PaidBilling, key: str) -> bool:
    record = await scene.record(key)
    return record is not None and (record.state, record.credited_to) == ("observed", UNATTRIBUTED)


async def _has(scene: PaidBilling, team: str, expected: list[int]) -> bool:
    return await scene.entries(team) == expected
