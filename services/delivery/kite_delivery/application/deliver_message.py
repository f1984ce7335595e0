"""Deliver one event to one endpoint: build, send, classify, decide, record. No HTTP words, no Kafka words.

Sending and recording are two calls, so that a stop may interrupt the first and never the second. The order of records is what
makes a crash between any two of them harmless: the attempt first, then what follows from it. A delivery whose records are
incomplete is read again from where it came from and attempted again under the same `webhook-id`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, assert_never

from kite_common.clock import Clock
from kite_common.errors import Malformed
from kite_common.topics import EVENTS
from kite_delivery.application.batches import Batches, Joined
from kite_delivery.application.ports import DeliveryLog, Endpoints, Observer, RetrySchedule, Sender
from kite_delivery.domain import facts
from kite_delivery.domain.delivery import Delivery, Endpoint
from kite_delivery.domain.facts import Attempt
from kite_delivery.domain.outcome import Failure, Reply, classify
from kite_delivery.domain.request import OutboundRequest, build, build_batch
from kite_delivery.domain.retry import Done, GiveUp, RetryAt, RetryPolicy, ends_ms, may_come_early, next_step
from kite_delivery.domain.route import End, Route, route

_TEST_RESTS_MOST_S: Final = 60.0


class _ConfigChanged(Exception):  # noqa: N818 - not an error: the attempt begins anew by the config of now
    """The config is no longer the one the attempt began with, and nothing was sent."""


class DeliverMessage:
    """The use case. `jitter` gives numbers in [0, 1), `trace` the traceparent of a child span (or of a new trace).

    `most_in_batch` is how many attempts at one endpoint may be under way at once.
    """

    def __init__(
        self, endpoints: Endpoints, sender: Sender, log: DeliveryLog, retries: RetrySchedule, observer: Observer,
        *, policy: RetryPolicy, clock: Clock, jitter: Callable[[], float], trace: Callable[[str | None], str], most_in_batch: int = 16,
    ) -> None:  # fmt: skip
        self._endpoints, self._sender, self._log, self._retries, self._observer = endpoints, sender, log, retries, observer
        self._policy, self._clock, self._jitter, self._trace = policy, clock, jitter, trace
        self._batches = Batches(self._post_batch, most_in_batch)
        self._test_policy = replace(policy, waits_s=())

    def route(self, delivery: Delivery) -> Route:
        """Where it goes by the config of this moment. Blocks on nothing."""
        return route(delivery, self._endpoints.of(delivery.team_id))

    async def attempt(self, delivery: Delivery) -> Attempt | End:
        """Make the next attempt, or find that none is to be made. Writes nothing; may be cancelled at any point."""
        while True:
            going = self.route(delivery)
            if isinstance(going, End):
                return going
            try:
                return await self._attempt(facts.bound(delivery, going.endpoint), going.endpoint)
            except _ConfigChanged:
                continue

    async def settle(self, attempt: Attempt, rest_s: Callable[[], float | None] = lambda: None) -> None:
        """Record an attempt and what follows from it; returns when all of it is durable.

        `rest_s` says how long a delivery to an endpoint that is left alone should rest, None if it is not left alone.
        """
        match attempt.step:
            case GiveUp("blocked"):
                end = End("blocked", "target_not_allowed", attempt.endpoint.config_id, attempt.endpoint.url)
                if attempt.delivery.test:
                    return await self.conclude([(attempt.delivery, replace(end, status="dead"))])
                return await self._conclude_dead(attempt.delivery, end, "blocked")
            case Done():
                await self._record(attempt)
            case RetryAt(due_ms):
                await self._record(attempt)
                await self._park_retry(attempt, due_ms, rest_s)
            case GiveUp(reason):
                await self._give_up(attempt, reason)
            case _ as unreachable:
                assert_never(unreachable)
        self._observer.attempted(attempt)
        return None

    async def conclude(self, ended: Sequence[tuple[Delivery, End]]) -> None:
        """Record deliveries of one partition that ended without a further attempt; returns when all of it is durable."""
        now_ms = self._clock.unix_ms()
        await self._log.write(ended[0][0].partition, [facts.concluded(delivery, end, now_ms) for delivery, end in ended])
        for delivery, end in ended:
            self._observer.concluded(delivery, end)

    async def set_aside(self, delivery: Delivery, endpoint: Endpoint) -> None:
        """Park a delivery that found no place in its lane; that is not an attempt. One that was held stays so, due when it was."""
        until_ms = self._retries.aside_until(delivery, self._clock.unix_ms())
        aside = replace(facts.bound(delivery, endpoint), due_ms=delivery.due_ms if delivery.held else until_ms)
        await self._park(aside, until_ms)

    async def hold(self, delivery: Delivery, endpoint: Endpoint, rest_s: float) -> None:
        """Park a delivery whose endpoint is left alone, for `rest_s`; that is not an attempt. It ends when its schedule would have."""
        now_ms, delivery = self._clock.unix_ms(), facts.bound(delivery, endpoint)
        if delivery.ends_ms is not None and now_ms >= delivery.ends_ms:
            end = End("dead", "endpoint_down", endpoint.config_id, endpoint.url)
            return await self.conclude([(delivery, end)]) if delivery.test else await self._conclude_dead(delivery, end, "endpoint_down")
        return await self._rest(delivery, rest_s, now_ms)

    async def put_back(self, delivery: Delivery) -> None:
        """Park a delivery that cannot go on here, as it is: the process stops, or it is not due by far."""
        going = self.route(delivery)
        if isinstance(going, End):
            await self.conclude([(delivery, going)])
        else:
            await self._park(facts.bound(delivery, going.endpoint))

    async def _attempt(self, delivery: Delivery, endpoint: Endpoint) -> Attempt:
        started_ms, traceparent = self._clock.unix_ms(), self._trace(delivery.traceparent)
        reply, speaks = await self._send(delivery, endpoint, started_ms, traceparent)
        ended_ms = self._clock.unix_ms()
        outcome = classify(reply, ended_ms)
        policy = self._test_policy if delivery.test else self._policy
        step = next_step(outcome, delivery.attempt_of_round, policy, ended_ms, self._jitter(), delivery.due_ms)
        return Attempt(delivery, endpoint, reply, outcome, step, started_ms, ended_ms, traceparent, speaks)

    async def _send(self, delivery: Delivery, endpoint: Endpoint, now_ms: int, traceparent: str) -> Joined:
        if endpoint.batching is not None and not delivery.attempts:
            return await self._batches.send(delivery, endpoint, endpoint.batching)
        return Joined(await self._post(endpoint, now_ms, partial(build, delivery, endpoint, traceparent=traceparent)))

    async def _post_batch(self, deliveries: Sequence[Delivery], endpoint: Endpoint) -> Reply:
        current = self._endpoints.of(endpoint.team_id)
        if current is None or (current.config_id, current.updated_at) != (endpoint.config_id, endpoint.updated_at):
            # While it gathered. One POST's address and secrets are of one version, and what is on record names that address.
            raise _ConfigChanged
        return await self._post(endpoint, self._clock.unix_ms(), partial(build_batch, deliveries, endpoint))

    async def _post(self, endpoint: Endpoint, now_ms: int, build_signed: Callable[..., OutboundRequest]) -> Reply:
        try:
            secrets, keys = self._endpoints.secrets(endpoint, now_ms), self._endpoints.signing_keys(endpoint)
            request = build_signed(secrets=secrets, now_ms=now_ms, keys=keys)
        except (Malformed, ValueError):
            # A sealing key that is missing here may be back before the schedule ends; what is unsigned is never sent.
            return Failure("secret")
        return await self._sender.send(request)

    async def _record(self, attempt: Attempt) -> None:
        await self._log.write(attempt.delivery.partition, [facts.attempted(attempt)])

    async def _park_retry(self, attempt: Attempt, due_ms: int, rest_s: Callable[[], float | None]) -> None:
        """By the schedule, never longer; of an endpoint that is left alone now, until it is back, if that is earlier."""
        tried = attempt.delivery
        was_early = attempt.started_ms < tried.due_ms
        retry = replace(tried, attempts=tried.attempt, due_ms=due_ms, held=False, ends_ms=None)
        if may_come_early(attempt.outcome, tried.attempt_of_round, self._policy, was_early=was_early) and (rest := rest_s()) is not None:
            rest = min(rest, (due_ms - attempt.ended_ms) / 1000)
            await self._rest(replace(retry, ends_ms=tried.ends_ms), rest, attempt.ended_ms)
        else:
            await self._park(retry)

    async def _rest(self, delivery: Delivery, rest_s: float, now_ms: int) -> None:
        last_ms = delivery.ends_ms
        if last_ms is None:
            last_ms = ends_ms(delivery.attempt_of_round - 1, delivery.due_ms, self._policy, now_ms)
        # Somebody waits for the verdict of a test: it comes back soon, to be the POST that tries the endpoint.
        rest_s = min(rest_s, _TEST_RESTS_MOST_S) if delivery.test else rest_s
        await self._park(replace(delivery, held=True, ends_ms=last_ms), until_ms=now_ms + round(rest_s * 1000))

    async def _park(self, delivery: Delivery, until_ms: int | None = None) -> None:
        """Until it is due; what is held and put back looks again as soon as it can."""
        now_ms = self._clock.unix_ms()
        if until_ms is None:
            until_ms = now_ms if delivery.held else delivery.due_ms
        await self._retries.park(delivery.partition, facts.parked(delivery, now_ms), until_ms)

    async def _conclude_dead(self, delivery: Delivery, end: End, reason: str) -> None:
        """Without a further attempt, and with a dead letter: its bytes are kept."""
        await self._log.bury(delivery.partition, facts.given_up(delivery, reason, EVENTS.name, self._clock.unix_ms()))
        await self.conclude([(delivery, end)])

    async def _give_up(self, attempt: Attempt, reason: str) -> None:
        """The record before the switch: were the config off first, a crash would turn `dead` into `cancelled`."""
        delivery = attempt.delivery
        await self._record(attempt)
        if not delivery.test:
            letter = facts.given_up(delivery, facts.burial(attempt, reason), EVENTS.name, attempt.ended_ms)
            await self._log.bury(delivery.partition, letter)
        if reason == "gone":
            await self._endpoints.deactivate(attempt.endpoint, delivery.partition, self._clock.unix_ms())
