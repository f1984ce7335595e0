"""Delivery on a real broker and real sockets: what receivers get, what is on record, what survives."""

import asyncio
import base64
import json
import signal
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from Crypto.Signature import eddsa
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from kite_common.crypto import new_webhook_secret, sign_kite, team_signing_key
from kite_common.events.codec import Record
from kite_common.events.deliveries import DeadLetter, DeliveryAttempted, DeliveryParked
from kite_common.events.webhooks import WebhookConfigured
from kite_common.runtime.system import SystemClock, monotonic_s, random_bytes
from kite_common.testing.eventually import eventually
from kite_common.topics import DEAD_LETTERS, EVENTS, RETRIES, WEBHOOKS
from kite_delivery.testing import Received, Receiver, answer, endless, hang


async def test_an_event_arrives_signed_and_is_on_record(scene: Any, team: str) -> None:
    async with Receiver().listening() as receiver, scene.delivering():
        config = await scene.put_config(team, receiver.url)
        event_id = await scene.send(team)
        [outcome] = await scene.until_statuses(team, ["delivered"])
    [received] = receiver.received
    assert Webhook(scene.secret).verify(received.body, received.headers)
    assert received.headers["webhook-id"] == event_id
    assert from_http_event(HTTPMessage(headers=received.headers, body=received.body)).get_extension("kiteseq") == outcome.kiteseq
    assert received.headers["traceparent"].startswith("00-")
    assert isinstance(outcome, DeliveryAttempted)
    assert (outcome.webhook_config_id, outcome.attempt, outcome.response_status) == (config.id, 1, 200)


async def test_during_an_overlap_both_secrets_and_the_servers_key_sign_and_after_it_the_newest_alone(scene: Any, team: str) -> None:
    root, now_ms, both = random_bytes(32), SystemClock().unix_ms(), [new_webhook_secret(random_bytes(32)) for _ in range(2)]
    async with Receiver().listening() as receiver, scene.delivering(webhook_signing_key=root.hex()):
        config = await scene.put_config(team, receiver.url)
        changed = {"config_id": config.id, "created_at": config.created_at, "signature": "v1a"}
        for number, ends_ms in enumerate((now_ms + 3_600_000, now_ms - 1), start=1):
            secrets = scene.sealed(team, config.id, (both[0], None), (both[1], ends_ms))
            await scene.put_config(team, receiver.url, secrets=secrets, updated_at=config.updated_at + number, **changed)
            await scene.send(team)
            await scene.until_statuses(team, ["delivered"] * number)
    during, after = receiver.received
    assert [part.split(",")[0] for part in during.headers["webhook-signature"].split(" ")] == ["v1a", "v1", "v1"]
    for secret in both:
        assert Webhook(secret).verify(during.body, during.headers)
    assert Webhook(both[0]).verify(after.body, after.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(both[1]).verify(after.body, after.headers)
    for received in receiver.received:
        signed = f"{received.headers['webhook-id']}.{received.headers['webhook-timestamp']}.".encode() + received.body
        verifier = eddsa.new(eddsa.import_public_key(team_signing_key(root, team).public), "rfc8032")
        verifier.verify(signed, base64.b64decode(received.headers["webhook-signature"].split(" ")[0].removeprefix("v1a,")))
        assert received.headers["x-kite-signature"] == sign_kite(both[0], received.body)


async def test_events_that_come_together_share_one_request_and_failed_ones_come_again_one_by_one(scene: Any, team: str) -> None:
    reactions = [answer(500)]
    async with Receiver(lambda _received: reactions.pop(0) if reactions else answer(200)).listening() as receiver:
        await scene.put_config(team, receiver.url, mode="batch", batch_max_events=4, batch_max_wait_ms=1_000)
        # They are all in the log before anybody reads them.
        events = [await scene.send(team) for _ in range(4)]
        async with scene.delivering():
            await scene.until_statuses(team, ["retrying"] * 4 + ["delivered"] * 4)
    batch, *again = receiver.received
    assert batch.headers["content-type"] == "application/cloudevents-batch+json; charset=utf-8"
    assert Webhook(scene.secret).verify(batch.body, batch.headers) == [json.loads(one.body) for one in sorted(again, key=_event_id)]
    assert sorted(one.headers["webhook-id"] for one in again) == events
    assert (len(again), batch.headers["x-kite-batch-size"]) == (4, "4")
    assert {one.headers["x-kite-delivery-attempt"] for one in again} == {"2"}


def _event_id(received: Received) -> str:
    return received.headers["webhook-id"]


async def test_a_config_stored_before_a_message_is_always_seen(scene: Any, team: str) -> None:
    teams = [f"{team}{number}" for number in range(30)]
    async with Receiver().listening() as receiver, scene.delivering():
        for one in teams:
            await scene.put_config(one, receiver.url)
            await scene.send(one)
        for one in teams:
            await scene.until_statuses(one, ["delivered"])


async def test_only_events_from_the_activation_on_are_delivered_also_after_an_update(scene: Any, team: str) -> None:
    early = await scene.send(team)
    config = await scene.put_config(team, "http://127.0.0.1:9/old")
    between = await scene.send(team)
    async with Receiver().listening() as receiver:
        await scene.put_config(team, receiver.url, config_id=config.id, created_at=config.created_at, updated_at=config.updated_at + 1)
        async with scene.delivering():
            await scene.until_statuses(team, ["no_endpoint", "delivered"])
    assert await scene.statuses(team, early) == ["no_endpoint"]
    assert await scene.statuses(team, between) == ["delivered"]


async def test_a_failing_receiver_is_tried_ten_times_with_equal_bytes_and_then_the_delivery_is_dead(scene: Any, team: str) -> None:
    async with Receiver(lambda _received: answer(500, b"no")).listening() as receiver, scene.delivering():
        await scene.put_config(team, receiver.url)
        event_id = await scene.send(team)
        outcomes = await scene.until_statuses(team, ["retrying"] * 9 + ["dead"], within_s=40)
        letters = await eventually(lambda: scene.facts(DEAD_LETTERS.name, team), what="there is a dead letter")
    assert len({received.body for received in receiver.received}) == 1
    assert {received.headers["webhook-id"] for received in receiver.received} == {event_id}
    assert [received.headers["x-kite-delivery-attempt"] for received in receiver.received] == [str(n) for n in range(1, 11)]
    for earlier, later in zip(outcomes, outcomes[1:], strict=False):
        assert later.started_at >= earlier.next_attempt_at
    assert isinstance(letters[0], DeadLetter)
    assert letters[0].reason == "attempts_exhausted"


async def test_redirects_timeouts_and_refused_connections_are_tried_again_until_they_work(scene: Any, team: str) -> None:
    reactions = [answer(302, Location="/elsewhere"), hang(), answer(404), answer(200)]
    async with Receiver(lambda _received: reactions.pop(0)).listening() as receiver, scene.delivering():
        await scene.put_config(team, receiver.url)
        await scene.send(team)
        outcomes = await scene.until_statuses(team, ["retrying"] * 3 + ["delivered"], within_s=40)
    assert [(outcome.response_status, outcome.error) for outcome in outcomes] == [(302, None), (None, "timeout"), (404, None), (200, None)]


async def test_retry_after_is_waited_for(scene: Any, team: str) -> None:
    reactions = [answer(429, Retry_After="2"), answer(200)]
    async with Receiver(lambda _received: reactions.pop(0)).listening() as receiver, scene.delivering():
        await scene.put_config(team, receiver.url)
        await scene.send(team)
        first, second = await scene.until_statuses(team, ["retrying", "delivered"])
    assert second.started_at - first.started_at >= 2000


async def test_410_ends_the_delivery_and_the_endpoint(scene: Any, team: str) -> None:
    async with Receiver(lambda _received: answer(410)).listening() as receiver, scene.delivering():
        config = await scene.put_config(team, receiver.url)
        await scene.send(team)
        [outcome] = await scene.until_statuses(team, ["dead"])
        stored = await eventually(lambda: _inactive(scene, team), what="the config is switched off")
        await scene.send(team)
        await scene.until_statuses(team, ["dead", "no_endpoint"])
    assert outcome.reason == "gone"
    assert stored is not None
    assert (stored.id, stored.created_at) == (config.id, config.created_at)
    assert len(receiver.received) == 1


async def test_a_deletion_cancels_what_waits(scene: Any, team: str) -> None:
    async with Receiver(lambda _received: answer(500)).listening() as receiver, scene.delivering(delivery_retry_waits_s=(3.0,)):
        config = await scene.put_config(team, receiver.url)
        await scene.send(team)
        await scene.until_statuses(team, ["retrying"])
        await scene.put_config(team, receiver.url, active=False, config_id=config.id)
        await scene.until_statuses(team, ["retrying", "cancelled"])
    assert len(receiver.received) == 1


async def test_a_hanging_receiver_and_an_endless_answer_slow_no_other_team(scene: Any, team: str) -> None:
    hanging, endless_team, quick = f"{team}h", f"{team}e", f"{team}q"
    async with (
        Receiver(lambda _received: hang()).listening() as deaf, Receiver(lambda _received: endless()).listening() as flooding,
        Receiver().listening() as decent, scene.delivering(delivery_attempt_timeout_s=15.0),
    ):  # fmt: skip
        for one, receiver in ((hanging, deaf), (endless_team, flooding), (quick, decent)):
            await scene.put_config(one, receiver.url)
        for number in range(40):
            await scene.send(hanging, to=f"agent {number}")
            await scene.send(quick)
            if number < 5:
                await scene.send(endless_team)
        await scene.until_statuses(endless_team, ["delivered"] * 5)
        await scene.until_statuses(quick, ["delivered"] * 40)
        assert await scene.statuses(hanging) == []
        assert len(deaf.received) == 4
        parked = await eventually(lambda: _parked(scene, hanging), what="what the lane cannot take is parked")
    assert {one.attempts for one in parked} == {0}


async def test_first_attempts_to_one_recipient_arrive_in_the_order_of_the_log(scene: Any, team: str) -> None:
    async with Receiver().listening() as receiver:
        await scene.put_config(team, receiver.url)
        sent = [await scene.send(team) for _ in range(60)]
        async with scene.delivering(delivery_concurrency=16, delivery_queue_wait_s=10.0):
            await scene.until_statuses(team, ["delivered"] * 60)
    assert [received.headers["webhook-id"] for received in receiver.received] == sent


async def test_an_endpoint_that_is_back_gets_what_was_held_without_the_waits_of_the_schedule(scene: Any, team: str) -> None:
    """The schedule would have them wait 300 s; the outage lasts a few, so what nobody has tried is there half of that later."""
    times = {
        "delivery_retry_waits_s": (300.0,) * 9, "delivery_breaker_failures": 4, "delivery_breaker_open_s": 0.2,
        "delivery_breaker_open_most_s": 0.4,
    }  # fmt: skip
    async with Receiver(lambda _received: answer(500)).listening() as receiver:
        await scene.put_config(team, receiver.url)
        sent = [await scene.send(team) for _ in range(30)]
        async with scene.delivering(**times):
            held = await eventually(lambda: _held(scene, team, 20), within_s=30, what="most of them are held, untried") or set()
            receiver.behaviour = lambda _received: answer(200)
            arrived = await eventually(lambda: _delivered(scene, team, held), within_s=60, what="all of these are delivered") or set()
    assert held <= arrived <= set(sent)
    assert not {fact.status for fact in await scene.outcomes(team)} - {"retrying", "delivered"}


async def test_a_private_target_is_blocked_for_good(scene: Any, team: str) -> None:
    async with Receiver().listening() as receiver, scene.delivering(allow_private_targets=False):
        await scene.put_config(team, f"http://localhost:{receiver.port}/")
        await scene.send(team)
        [outcome] = await scene.until_statuses(team, ["blocked"])
    assert outcome.reason == "target_not_allowed"
    assert receiver.connections == 0


async def test_filtered_types_are_recorded_and_not_sent(scene: Any, team: str) -> None:
    async with Receiver().listening() as receiver, scene.delivering():
        await scene.put_config(team, receiver.url, event_types=("com.github.*",))
        await scene.send(team)
        await scene.until_statuses(team, ["filtered"])
    assert receiver.received == []


async def test_bytes_that_are_no_event_become_a_dead_letter_and_stop_nothing(scene: Any, team: str) -> None:
    async with Receiver().listening() as receiver, scene.delivering():
        await scene.put_config(team, receiver.url)
        await scene.write(EVENTS.name, Record(team.encode(), b"{broken", (("kite-record", b"event"),)))
        await scene.write(RETRIES[0].name, Record(team.encode(), b"{broken", (("kite-record", b"delivery-parked"),)))
        await scene.send(team)
        await scene.until_statuses(team, ["delivered"])
        letters = await eventually(lambda: _letters(scene, team, 2), what="both are dead letters")
    assert letters is not None
    assert {letter.topic.removeprefix(scene.prefix) for letter in letters} == {EVENTS.name, RETRIES[0].name}


async def test_killed_between_the_post_and_the_commit_the_attempt_is_repeated_under_the_same_id(scene: Any, team: str) -> None:
    async with Receiver(lambda _received: hang()).listening() as receiver:
        await scene.put_config(team, receiver.url)
        event_id = await scene.send(team)
        process = scene.start_process()
        await eventually(lambda: receiver.received, within_s=40, what="the first POST has arrived")
        process.send_signal(signal.SIGKILL)
        process.wait()
        receiver.behaviour = lambda _received: answer(200)
        scene.start_process()
        await scene.until_statuses(team, ["delivered"], within_s=40)
    assert [_essence(received) for received in receiver.received] == [_essence(receiver.received[0])] * 2
    assert receiver.received[1].headers["webhook-id"] == event_id


async def test_killed_while_a_delivery_waits_in_memory_it_is_not_lost(scene: Any, team: str) -> None:
    async with Receiver(lambda _received: answer(500)).listening() as receiver:
        await scene.put_config(team, receiver.url)
        await scene.send(team)
        waits = {"KITE_DELIVERY_RETRY_WAITS_S": "2.9", "KITE_DELIVERY_TIERS_S": "1.5,30,31,32,33,34", "KITE_DELIVERY_RETRY_JITTER": "0"}
        process = scene.start_process(**waits)
        [first] = await scene.until_statuses(team, ["retrying"], within_s=40)
        await eventually(lambda: _now_ms() >= first.next_attempt_at - 700, what="it waits in memory for the rest of its time")
        process.send_signal(signal.SIGKILL)
        process.wait()
        receiver.behaviour = lambda _received: answer(200)
        scene.start_process(**waits)
        await scene.until_statuses(team, ["retrying", "delivered"], within_s=40)
    assert [received.headers["x-kite-delivery-attempt"] for received in receiver.received] == ["1", "2"]


async def test_a_stop_parks_what_hangs_and_the_next_process_goes_on(scene: Any, team: str) -> None:
    async with Receiver(lambda _received: hang()).listening() as receiver:
        await scene.put_config(team, receiver.url)
        async with scene.delivering(delivery_attempt_timeout_s=15.0, delivery_release_within_s=0.2):
            event_id = await scene.send(team)
            await eventually(lambda: receiver.received, what="the POST hangs")
        [parked] = await _parked(scene, team)
        assert (parked.event_id, parked.attempts) == (event_id, 0)
        receiver.behaviour = lambda _received: answer(200)
        async with scene.delivering():
            await scene.until_statuses(team, ["delivered"])
    assert len(receiver.received) == 2


async def test_two_hundred_messages_in_a_row_all_arrive(scene: Any, team: str) -> None:
    """How long they take is told, not judged: timings on a busy machine decide no test."""
    arrived: dict[str, float] = {}

    def note(received: Received) -> Any:
        arrived[received.headers["webhook-id"]] = monotonic_s()
        return answer(200)

    async with Receiver(note).listening() as receiver, scene.delivering():
        await scene.put_config(team, receiver.url)
        await scene.send(team)
        await scene.until_statuses(team, ["delivered"])
        sent = {}
        for _ in range(200):
            began = monotonic_s()
            sent[await scene.send(team)] = began
            await asyncio.sleep(0.004)
        await eventually(lambda: arrived.keys() >= sent.keys(), what="all have arrived")
    delays_ms = sorted((arrived[one] - began) * 1000 for one, began in sent.items())
    print(f"send to receipt: p50 {delays_ms[100]:.1f} ms, p99 {delays_ms[197]:.1f} ms")  # noqa: T201 - shown by pytest -s


def _now_ms() -> int:
    return SystemClock().unix_ms()


def _essence(received: Received) -> tuple[str, str, bytes]:
    return received.headers["webhook-id"], received.headers["x-kite-delivery-attempt"], received.body


async def _parked(scene: Any, team: str) -> list[DeliveryParked]:
    return [fact for topic in RETRIES for fact in await scene.facts(topic.name, team) if isinstance(fact, DeliveryParked)]


async def _held(scene: Any, team: str, count: int) -> set[str] | None:
    held = {one.event_id for one in await _parked(scene, team) if one.held and not one.attempts}
    return held if len(held) >= count else None


async def _delivered(scene: Any, team: str, expected: set[str]) -> set[str] | None:
    arrived = {outcome.event_id for outcome in await scene.outcomes(team) if outcome.status == "delivered"}
    return arrived if expected <= arrived else None


async def _letters(scene: Any, team: str, count: int) -> list[DeadLetter] | None:
    letters = [fact for fact in await scene.facts(DEAD_LETTERS.name, team) if isinstance(fact, DeadLetter)]
    return letters if len(letters) == count else None


async def _inactive(scene: Any, team: str) -> WebhookConfigured | None:
    configs = [fact for fact in await scene.facts(WEBHOOKS.name, team) if isinstance(fact, WebhookConfigured)]
    return configs[-1] if not configs[-1].active else None


async def test_a_position_that_was_forgotten_sends_nothing_again(scene: Any, team: str) -> None:
    async with Receiver().listening() as receiver:
        await scene.put_config(team, receiver.url)
        async with scene.delivering():
            await scene.send(team)
            await scene.until_statuses(team, ["delivered"])
        await scene.forget_group("kite-delivery")
        async with scene.delivering(until_ready=False) as components:
            await eventually(lambda: _lost(components), within_s=30, what="delivery says that its position is lost")
            await scene.send(team)
        assert len(receiver.received) == 1
    assert await scene.statuses(team) == ["delivered"]


def _lost(components: Any) -> bool:
    [state] = [component.readiness() for component in components if component.name.endswith("kite-delivery")]
    return not state.ready and "PositionLost" in (state.reason or "")
