"""One event on its way to one endpoint, and the endpoint: the values all other rules speak about. Decides nothing."""

from dataclasses import dataclass

from kite_common.events.webhooks import SignatureScheme
from kite_common.ids import DeliveryId, EventId, TeamId, WebhookConfigId


@dataclass(frozen=True, slots=True)
class Batching:
    """How many events one POST may carry at most, and how long the first of them waits for more."""

    max_events: int
    max_wait_ms: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A team's webhook config at one moment, without its secrets. Times are milliseconds since 1970.

    `active_since_ms` is when it began to count by the log, `changed_ms` the append time of its last change (for an inactive
    one: when it ended), `updated_at` the change's own stamp, by which two writers tell whether they saw the same one.
    """

    team_id: TeamId
    config_id: WebhookConfigId
    url: str
    event_types: tuple[str, ...]
    active: bool
    active_since_ms: int
    changed_ms: int
    updated_at: int
    signature: SignatureScheme = "v1"
    batching: Batching | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event and how far its delivery is. `body` is the exact CloudEvent with kiteseq, the same in every attempt.

    `config_id` and `delivery_id` are None until the event has met an endpoint. `attempts` counts those made so far.
    `due_ms` is when the next attempt may start. `recipient` is whom an agent message is for: first attempts to one are in order.
    `held` says that it waits for its endpoint's breaker and may be tried before `due_ms`; `ends_ms` is when it ends if it is held still.
    `due_ms` is when the next attempt may start. `redrives` is how often it was redriven; `attempts_before` of its attempts belong to the
    rounds before, and `appended_ms` is when this round was ordered. A `test` is of no stream: one attempt, `kiteseq` only a place in lists.
    """

    partition: int
    team_id: TeamId
    event_id: EventId
    event_type: str
    kiteseq: int
    body: bytes
    appended_ms: int
    due_ms: int = 0
    attempts: int = 0
    config_id: WebhookConfigId | None = None
    delivery_id: DeliveryId | None = None
    traceparent: str | None = None
    recipient: str | None = None
    held: bool = False
    ends_ms: int | None = None
    redrives: int = 0
    attempts_before: int = 0
    test: bool = False

    @property
    def order(self) -> str | None:
        """What its attempt keeps order with: first attempts to the same recipient; nothing else, no retry and nothing that was ordered."""
        return None if self.attempts or self.ordered else self.recipient

    @property
    def attempt(self) -> int:
        """The number of the next attempt, from 1."""
        return self.attempts + 1

    @property
    def attempt_of_round(self) -> int:
        """The same counted from the beginning of this round: what the schedule goes by."""
        return self.attempt - self.attempts_before

    @property
    def ordered(self) -> bool:
        """Whether somebody asked for this very delivery: then no filter holds it back."""
        return self.redrives > 0 or self.test
