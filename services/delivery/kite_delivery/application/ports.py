"""What delivery needs from outside, by need. Every awaited write returns only once it is durable in the log."""

from collections.abc import Sequence
from typing import Protocol

from kite_common.crypto import SigningKey
from kite_common.events.deliveries import DeadLetter, DeliveryAttempted, DeliveryConcluded, DeliveryParked, DeliveryPending
from kite_common.ids import TeamId
from kite_delivery.domain.delivery import Delivery, Endpoint
from kite_delivery.domain.facts import Attempt
from kite_delivery.domain.outcome import Reply
from kite_delivery.domain.request import OutboundRequest
from kite_delivery.domain.route import End


class Endpoints(Protocol):
    """The webhook configs of this moment."""

    def of(self, team_id: TeamId) -> Endpoint | None:
        """The team's config, also an inactive one; None if it never had one."""
        ...

    def secrets(self, endpoint: Endpoint, now_ms: int) -> tuple[str, ...]:
        """The signing secrets that live now, newest first. Raises Malformed if they cannot be read."""
        ...

    def signing_keys(self, endpoint: Endpoint) -> Sequence[SigningKey]:
        """The team's Ed25519 keys if the endpoint asks for their signatures, newest first. Raises Malformed if it has none."""
        ...

    async def deactivate(self, endpoint: Endpoint, partition: int, now_ms: int) -> bool:
        """Switch the config off, but only if it still is the one that was seen; False if it is not."""
        ...


class Sender(Protocol):
    """Makes one POST."""

    async def send(self, request: OutboundRequest) -> Reply:
        """Send and read the answer, bounded in time and size. Whatever happens is a Reply: only cancelling raises."""
        ...


class DeliveryLog(Protocol):
    """Where attempts and ends are recorded."""

    async def write(self, partition: int, facts: Sequence[DeliveryAttempted | DeliveryConcluded | DeliveryPending]) -> None:
        """Append the facts; waits as long as the log is away."""
        ...

    async def bury(self, partition: int, letter: DeadLetter) -> None:
        """Append a dead letter; waits as long as the log is away."""
        ...


class RetrySchedule(Protocol):
    """Keeps a delivery until it is due and brings it back."""

    async def park(self, partition: int, parked: DeliveryParked, until_ms: int) -> None:
        """Keep it until about `until_ms`, milliseconds since 1970; waits as long as the log is away."""
        ...

    def aside_until(self, delivery: Delivery, now_ms: int) -> int:
        """When a delivery that found no place in its lane should try again, milliseconds since 1970."""
        ...


class Observer(Protocol):
    """Sees what happens, for logs and metrics. Changes nothing, never raises, never blocks."""

    def attempted(self, attempt: Attempt) -> None:
        """An attempt is over and recorded."""
        ...

    def concluded(self, delivery: Delivery, end: End) -> None:
        """A delivery ended without a further attempt."""
        ...

    def load(self, lanes: int, in_flight: int, left_alone: int) -> None:
        """How many lanes are in memory, how many POSTs under way, how many endpoints left alone because they only fail."""
        ...
