"""Deliver one event to one endpoint: build, send, classify, decide, record. No HTTP words, no Kafka words.

Sending and recording are two calls, so that a stop may interrupt the first and never the second. The order of records is what
makes a crash between any two of them harmless: the attempt first, then what follows from it. A delivery whose records are
incomplete is read again from where it came from and attempted again under the same `webhook-id`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from kite_common.clock import Clock
from kite_common.errors import Malformed
from kite_common.topics import EVENTS
from kite_delivery.application.ports import DeliveryLog, Endpoints, Observer, RetrySchedule, Sender
from kite_delivery.domain import facts
from kite_delivery.domain.delivery import Delivery, Endpoint
from kite_delivery.domain.facts import Attempt
from kite_delivery.domain.outcome import Failure, Reply, classify
from kite_delivery.domain.request import build
from kite_delivery.domain.retry import Done, GiveUp, RetryAt, RetryPolicy, next_step
from kite_delivery.domain.route import End, EndStatus, Route, route


class DeliverMessage:
    """The use case. `jitter` gives numbers in [0, 1), `trace` the traceparent of a child span (or of a new trace)."""

    def __init__(
        self, endpoints: Endpoints, sender: Sender, log: DeliveryLog, retries: RetrySchedule, observer: Observer,
        *, policy: RetryPolicy, clock: Clock, jitter: Callable[[], float], trace: Callable[[str | None], str],
    ) -> None:  # fmt: skip
        self._endpoints, self._sender, self._log, self._retries, self._observer = endpoints, sender, log, retries, observer
        self._policy, self._clock, self._jitter, self._trace = policy, clock, jitter, trace
        self._test_policy = replace(policy, waits_s=())

    def route(self, delivery: Delivery) -> Route:
        """Where it goes by the config of this moment. Blocks on nothing."""
        return route(delivery, self._endpoints.of(delivery.team_id))

    async def attempt(self, delivery: Delivery) -> Attempt | End:
        """Make the next attempt, or find that none is to be made. Writes nothing; may be cancelled at any point."""
        going = self.route(delivery)
        if isinstance(going, End):
            return going
        return await self._attempt(facts.bound(delivery, going.endpoint), going.endpoint)

    async def settle(self, attempt: Attempt) -> None:
        """Record an attempt and what follows from it; returns when all of it is durable."""
        match attempt.step:
            case GiveUp("blocked"):
                status: EndStatus = "dead" if attempt.delivery.test else "blocked"
                end = End(status, "target_not_allowed", attempt.endpoint.config_id, attempt.endpoint.url)
                return await self.conclude([(attempt.delivery, end)])
            case Done():
                await self._record(attempt)
            case RetryAt(due_ms):
                await self._record(attempt)
                await self._park(replace(attempt.delivery, attempts=attempt.delivery.attempt, due_ms=due_ms))
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
        """Park a delivery that found no place in its lane; that is not an attempt."""
        aside = replace(facts.bound(delivery, endpoint), due_ms=self._retries.aside_until(delivery, self._clock.unix_ms()))
        await self._park(aside)

    async def put_back(self, delivery: Delivery) -> None:
        """Park a delivery that cannot go on here, as it is: the process stops, or it is not due by far."""
        going = self.route(delivery)
        if isinstance(going, End):
            await self.conclude([(delivery, going)])
        else:
            await self._park(facts.bound(delivery, going.endpoint))

    async def _attempt(self, delivery: Delivery, endpoint: Endpoint) -> Attempt:
        started_ms, traceparent = self._clock.unix_ms(), self._trace(delivery.traceparent)
        reply = await self._send(delivery, endpoint, started_ms, traceparent)
        ended_ms = self._clock.unix_ms()
        outcome = classify(reply, ended_ms)
        policy = self._test_policy if delivery.test else self._policy
        step = next_step(outcome, delivery.attempt_of_round, policy, ended_ms, self._jitter())
        return Attempt(delivery, endpoint, reply, outcome, step, started_ms, ended_ms, traceparent)

    async def _send(self, delivery: Delivery, endpoint: Endpoint, now_ms: int, traceparent: str) -> Reply:
        try:
            request = build(delivery, endpoint, self._endpoints.secrets(endpoint, now_ms), now_ms, traceparent)
        except (Malformed, ValueError):
            # A sealing key that is missing here may be back before the schedule ends; what is unsigned is never sent.
            return Failure("secret")
        return await self._sender.send(request)

    async def _record(self, attempt: Attempt) -> None:
        await self._log.write(attempt.delivery.partition, [facts.attempted(attempt)])

    async def _park(self, delivery: Delivery) -> None:
        await self._retries.park(delivery.partition, facts.parked(delivery, self._clock.unix_ms()))

    async def _give_up(self, attempt: Attempt, reason: str) -> None:
        """The record before the switch: were the config off first, a crash would turn `dead` into `cancelled`."""
        delivery = attempt.delivery
        await self._record(attempt)
        if not delivery.test:
            await self._log.bury(delivery.partition, facts.given_up(delivery, reason, EVENTS.name, attempt.ended_ms))
        if reason == "gone":
            await self._endpoints.deactivate(attempt.endpoint, delivery.partition, self._clock.unix_ms())
