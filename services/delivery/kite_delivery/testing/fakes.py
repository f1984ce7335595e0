"""Fakes of the ports we own. They keep the promises of the real ones as far as a test without IO can see."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from kite_common.crypto import SigningKey
from kite_common.errors import Malformed
from kite_common.events.deliveries import DeadLetter, DeliveryAttempted, DeliveryConcluded, DeliveryParked, DeliveryPending
from kite_common.ids import EventId, TeamId, WebhookConfigId
from kite_delivery.domain.delivery import Delivery, Endpoint
from kite_delivery.domain.facts import Attempt
from kite_delivery.domain.outcome import Answer, Reply
from kite_delivery.domain.request import OutboundRequest
from kite_delivery.domain.route import End

SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

Fact = DeliveryAttempted | DeliveryConcluded | DeliveryParked | DeliveryPending | DeadLetter


def an_endpoint(
    team: str = "team_a", config_id: str = "11111111-1111-4111-8111-111111111111", url: str = "https://hooks.example.com/in",
    event_types: tuple[str, ...] = (),
    *, active: bool = True, active_since_ms: int = 1_000, changed_ms: int = 1_000, updated_at: int = 1_000,
) -> Endpoint:  # fmt: skip
    """An endpoint that counts from 1 s after the epoch on."""
    return Endpoint(TeamId(team), WebhookConfigId(config_id), url, event_types, active, active_since_ms, changed_ms, updated_at)


def a_delivery(
    team: str = "team_a", event_id: str = "01890000-0000-7000-8000-000000000001", event_type: str = "com.kite.agent.message",
    body: bytes = b'{"specversion":"1.0","kiteseq":8195}', *, partition: int = 3, offset: int = 8, appended_ms: int = 2_000,
) -> Delivery:  # fmt: skip
    """A delivery that has met no endpoint yet."""
    return Delivery(partition, TeamId(team), EventId(event_id), event_type, (offset << 10) | partition, body, appended_ms)


class FakeEndpoints:
    """Configs in a dictionary; `unreadable` makes secrets fail."""

    def __init__(self, *endpoints: Endpoint, secrets: tuple[str, ...] = (SECRET,)) -> None:
        self.by_team: dict[TeamId, Endpoint] = {endpoint.team_id: endpoint for endpoint in endpoints}
        self.live_secrets = secrets
        self.unreadable = False
        self.keys: tuple[SigningKey, ...] = ()
        self.deactivated: list[Endpoint] = []

    def of(self, team_id: TeamId) -> Endpoint | None:
        return self.by_team.get(team_id)

    def secrets(self, endpoint: Endpoint, now_ms: int) -> tuple[str, ...]:  # noqa: ARG002 - the port's signature
        if self.unreadable:
            raise Malformed("sealed under a key that is not configured")
        return self.live_secrets

    def signing_keys(self, endpoint: Endpoint) -> tuple[SigningKey, ...]:
        if endpoint.signature == "v1a" and not self.keys:
            raise Malformed("no key for v1a is configured")
        return self.keys if endpoint.signature == "v1a" else ()

    async def deactivate(self, endpoint: Endpoint, partition: int, now_ms: int) -> bool:  # noqa: ARG002 - the port's signature
        current = self.by_team.get(endpoint.team_id)
        if current is None or (current.config_id, current.updated_at) != (endpoint.config_id, endpoint.updated_at):
            return False
        self.by_team[endpoint.team_id] = replace(current, active=False, changed_ms=now_ms)
        self.deactivated.append(endpoint)
        return True


@dataclass
class FakeSender:
    """Answers by a rule; `hold` makes requests wait until it is set."""

    answer: Callable[[OutboundRequest], Reply] = lambda _request: Answer(200)
    hold: asyncio.Event | None = None
    sent: list[OutboundRequest] = field(default_factory=list)

    async def send(self, request: OutboundRequest) -> Reply:
        self.sent.append(request)
        if self.hold is not None:
            await self.hold.wait()
        else:
            await asyncio.sleep(0)
        return self.answer(request)


class FakeLog:
    """DeliveryLog and RetrySchedule in one list, so that the order of all facts can be seen. `broken` makes writes raise."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.broken: Exception | None = None
        self.aside_ms = 5_000
        self.rests_until_ms: list[int] = []

    async def write(self, partition: int, facts: Sequence[DeliveryAttempted | DeliveryConcluded | DeliveryPending]) -> None:  # noqa: ARG002 - the port's signature
        await self._append(*facts)

    async def bury(self, partition: int, letter: DeadLetter) -> None:  # noqa: ARG002 - the port's signature
        await self._append(letter)

    async def park(self, partition: int, parked: DeliveryParked, until_ms: int) -> None:  # noqa: ARG002 - the port's signature
        await self._append(parked)
        self.rests_until_ms.append(until_ms)

    def aside_until(self, delivery: Delivery, now_ms: int) -> int:  # noqa: ARG002 - the port's signature
        return now_ms + self.aside_ms

    @property
    def parked(self) -> list[DeliveryParked]:
        """What waits for another attempt."""
        return [fact for fact in self.facts if isinstance(fact, DeliveryParked)]

    @property
    def statuses(self) -> list[str]:
        """The statuses recorded, in order."""
        return [fact.status for fact in self.facts if isinstance(fact, DeliveryAttempted | DeliveryConcluded | DeliveryPending)]

    async def _append(self, *facts: Fact) -> None:
        await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken
        self.facts.extend(facts)


class SilentObserver:
    """Sees everything and says nothing."""

    def attempted(self, attempt: Attempt) -> None:
        pass

    def concluded(self, delivery: Delivery, end: End) -> None:
        pass

    def load(self, lanes: int, in_flight: int, left_alone: int) -> None:
        pass
