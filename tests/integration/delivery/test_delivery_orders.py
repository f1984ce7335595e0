"""Orders on a real broker and real sockets: redrives and test events, repeated, killed, unreadable."""

import asyncio
import signal
from typing import Any

from standardwebhooks.webhooks import Webhook

from kite_common import ids
from kite_common.events.codec import Record
from kite_common.events.deliveries import DeliveryAttempted, DeliveryPending
from kite_common.testing.eventually import eventually
from kite_common.topics import DEAD_LETTERS, DELIVERIES, DELIVERY_COMMANDS
from kite_delivery.testing import Receiver, answer


async def test_a_dead_delivery_is_redriven_under_the_same_id_and_a_repeated_order_changes_nothing(scene: Any, team: str) -> None:
    reactions = [answer(500)] * 2 + [answer(500), answer(200)]
    async with Receiver(lambda _received: reactions.pop(0)).listening() as receiver, scene.delivering(delivery_retry_waits_s=(0.3,)):
        config = await scene.put_config(team, receiver.url)
        event_id = await scene.send(team)
        await scene.until_statuses(team, ["retrying", "dead"])
        body = receiver.received[0].body.decode()
        for _ in range(3):
            await scene.order(config, event_id, attempts=2, body=body)
        await scene.until_statuses(team, ["retrying", "dead", "retrying", "delivered"])
        # Whatever was ordered before this one has been dealt with once this one is.
        await scene.order(config, event_id, attempts=4, redrives=2, body=body, id=ids.redrive_of(ids.DeliveryId(event_id), 7))
        reactions.append(answer(200))
        outcomes = await scene.until_statuses(team, ["retrying", "dead", "retrying", "delivered", "delivered"])
    assert [received.headers["webhook-id"] for received in receiver.received] == [event_id] * 5
    assert {received.body for received in receiver.received} == {body.encode()}
    assert [received.headers["x-kite-delivery-attempt"] for received in receiver.received] == ["1", "2", "3", "4", "5"]
    assert [outcome.redrives for outcome in outcomes] == [0, 0, 1, 1, 2]
    assert len({outcome.delivery_id for outcome in outcomes}) == 1


async def test_a_test_event_is_signed_passes_the_filter_and_gets_one_attempt(scene: Any, team: str) -> None:
    async with Receiver(lambda _received: answer(500)).listening() as receiver, scene.delivering():
        config = await scene.put_config(team, receiver.url, event_types=("com.github.*",))
        event_id = ids.uuid7(0, 7)
        await scene.order(config, event_id, event_type="kite.webhook.test", attempts=0, redrives=0, test=True)
        [outcome] = await scene.until_statuses(team, ["dead"])
    [received] = receiver.received
    assert Webhook(scene.secret).verify(received.body, received.headers)
    assert (received.headers["x-kite-event-type"], outcome.test) == ("kite.webhook.test", True)
    assert await scene.facts(DEAD_LETTERS.name, team) == []


async def test_an_order_survives_a_kill_at_any_point_and_an_unreadable_one_stops_nothing(scene: Any, team: str) -> None:
    hold = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        if not hold.is_set():
            await asyncio.Event().wait()
        await answer(200)(writer)

    async with Receiver(lambda _received: slowly).listening() as receiver:
        config = await scene.put_config(team, receiver.url)
        event_id = ids.uuid7(0, 9)
        await scene.write(DELIVERY_COMMANDS.name, Record(team.encode(), b"{broken", ()))
        order = await scene.order(config, event_id, attempts=10)
        process = scene.start_process()
        await eventually(lambda: bool(receiver.received), within_s=60, what="the order is carried out")
        process.send_signal(signal.SIGKILL)
        process.wait()
        hold.set()
        async with scene.delivering():
            [outcome] = await scene.until_statuses(team, ["delivered"], within_s=60)
            await scene.write(DELIVERY_COMMANDS.name, Record(team.encode(), b"{broken", ()))
            letters = await eventually(lambda: scene.facts(DEAD_LETTERS.name, team), what="there is a dead letter")
            # Remembered from before the restart: the same request asked again is the same round.
            await scene.order(config, event_id, attempts=10)
            other = await scene.order(config, ids.uuid7(0, 10), attempts=3)
            await scene.until_statuses(team, ["delivered", "delivered"])
    assert isinstance(outcome, DeliveryAttempted)
    assert (outcome.attempt, outcome.delivery_id) == (11, order.delivery_id)
    assert {received.headers["webhook-id"] for received in receiver.received} == {event_id, other.event_id}
    assert len(letters) >= 1
    pending = [fact for fact in await scene.facts(DELIVERIES.name, team) if isinstance(fact, DeliveryPending)]
    assert {fact.delivery_id for fact in pending} == {order.delivery_id, other.delivery_id}


async def test_a_test_event_on_a_kite_that_has_just_begun_is_not_taken_for_work_that_was_forgotten(scene: Any, team: str) -> None:
    """A story: a test event had its outcome before the first member of the events' group had begun: the partition was given up for lost."""
    async with Receiver().listening() as receiver:
        config = await scene.put_config(team, receiver.url)
        async with scene.delivering():
            await scene.order(config, ids.uuid7(0, 11), event_type="kite.webhook.test", attempts=0, redrives=0, test=True)
            await scene.until_statuses(team, ["delivered"])
        await scene.forget_group("kite-delivery")
        async with scene.delivering():
            await scene.send(team)
            await scene.until_statuses(team, ["delivered", "delivered"])
