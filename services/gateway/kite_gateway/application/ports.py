"""What the gateway needs from outside. Each port belongs to the use cases here and knows no client library."""

from typing import Protocol

from kite_common.events.commands import Command, CommandOutcome
from kite_common.events.deliveries import DeliveryOrdered
from kite_common.events.payments import PaymentOutcome, PaymentResult
from kite_common.events.usage import UsageRecorded
from kite_common.events.webhooks import WebhookConfigured
from kite_common.ids import CommandId, EventId, TeamId, WebhookConfigId
from kite_gateway.domain.access import Principal
from kite_gateway.domain.admission import AdmissionRequest, Facts
from kite_gateway.domain.hooks.credentials import KnownHook
from kite_gateway.domain.rate_limit import RateLimit
from kite_gateway.domain.standing import Standing
from kite_gateway.domain.subscription_change import Begun, SubscriptionChange
from kite_gateway.domain.topup import Due


class Credentials(Protocol):
    """Who holds which API key."""

    def identify(self, key_text: str, now_ms: int) -> Principal | None:
        """The holder of a key that is good at `now_ms`, None for any other text. Takes no IO.

        Raises Unavailable until all issued keys are known.
        """
        ...


class Hooks(Protocol):
    """The endpoints providers deliver to, and the tokens that open them."""

    def find(self, team_id: TeamId, source: str, token: str | None, now_ms: int) -> KnownHook:
        """What is known of an endpoint, and of the token (None = none was shown) there, at `now_ms`. Takes no IO.

        Raises Unavailable until all endpoints and tokens are known, and while an endpoint's secrets cannot be unsealed.
        """
        ...


class Reservations(Protocol):
    """Limit, quota, wallet and claims of a team, checked and taken in one atomic step. Refuses nothing by itself."""

    async def admit(self, request: AdmissionRequest) -> Facts:
        """Check and, if every check passes, reserve the event and claim its key. An unadmitted request holds nothing.

        Raises Unavailable if no answer came in time; what was reserved then lapses by itself.
        """
        ...

    async def peek(self, request: AdmissionRequest) -> Facts:
        """What `admit` would find now: takes the token, reserves and claims nothing. Raises Unavailable."""
        ...

    async def confirm(self, request: AdmissionRequest) -> None:
        """Mark the claims of a published event as accepted, so that its repeat is answered. Best effort: billing does it too."""
        ...

    async def release(self, request: AdmissionRequest, reserved_at_ms: int) -> None:
        """Give back what `admit` took at that time, for an event that is surely not in the log; nothing that has been reserved since.

        Best effort: it lapses by itself.
        """
        ...


class RateLimits(Protocol):
    """The team's token bucket, for routes that cost nothing else."""

    async def take(self, team_id: TeamId) -> tuple[bool, RateLimit | None]:
        """Take one request; whether it was allowed, and the limit as it is then. Raises Unavailable."""
        ...


class ClientRateLimits(Protocol):
    """The token bucket of a client address, for routes without bearer."""

    async def take(self, client: str) -> tuple[bool, RateLimit | None]:
        """Take one request; whether it was allowed, and the limit as it is then. Raises Unavailable."""
        ...


class Standings(Protocol):
    """What teams have and use, by the arithmetic of admission."""

    async def of(self, team_id: TeamId) -> Standing | None:
        """The team as admission would find it now; None until its account is known. Raises Unavailable."""
        ...


class Arrivals(Protocol):
    """What billing has done, seen from here. Neither raises: who waits in vain goes on without."""

    async def of_account(self, team_id: TeamId, applied: int | None, timeout_s: float) -> bool:
        """Whether the account's projection has reached a position within that time; of None, whether there is one."""
        ...

    async def of_team(self, team_id: TeamId, api_key: str | None, timeout_s: float) -> bool:
        """Whether a new team has an account, and its API key opens it here, within that time."""
        ...


class SubscriptionChanges(Protocol):
    """At most one change of a team's subscription at a time."""

    async def begin(self, team_id: TeamId, change: SubscriptionChange) -> Begun:
        """Begin the change if the subscription is still as it was decided on. One that has begun is begun for its repeats too.

        Raises Unavailable: it may have begun or not; its repeat may begin it again.
        """
        ...

    async def end(self, team_id: TeamId, command_id: CommandId, *, has_outcome: bool) -> None:
        """It has an outcome, or this sender has surely not sent it: then it goes on if a repeat has begun it, too.

        Best effort: it ends by itself when it is projected, or has provably not been sent.
        """
        ...


class Commands(Protocol):
    """Commands to billing (`kite_common.projection.outcomes.CommandSender`)."""

    async def send(self, command: Command, *, not_after_ms: int | None = None) -> CommandOutcome:
        """Send a command, not after that time, and wait for its outcome.

        Raises Unavailable (nothing was sent, nor will be) or OutcomeOpen: send the same again.
        """
        ...


class Till(Protocol):
    """The payment that one request shows."""

    async def pay(self, due: Due) -> PaymentOutcome | None:
        """Hand it in. An outcome is `credited`; None: the request goes on without a payment.

        Raises ApiError for whatever keeps the request from going on: what is wrong with the payment, its fate, or why the request is
        refused itself.
        """
        ...


class PaymentResults(Protocol):
    """What payments were answered with, for their repeats."""

    async def keep(self, result: PaymentResult) -> None:
        """Keep an answer. Best effort: without it the repeat does the work again, which ends in the same event."""
        ...


class MessageLog(Protocol):
    """The event log of the team."""

    async def append(self, team_id: TeamId, event: bytes, traceparent: str, usage: UsageRecorded, received_ms: int) -> None:
        """Append an event and its usage, both or neither; returns once all replicas in sync have them.

        `received_ms` is when the request came: one that is too old by now may have lost its reservation, and is not written.

        Raises Unavailable if surely nothing was written, OutcomeOpen if that is not known.
        """
        ...


class WebhookConfigs(Protocol):
    """The one outbound webhook config of each team."""

    async def current(self, team_id: TeamId) -> WebhookConfigured | None:
        """The config, active or not, with everything that was stored before the call. Raises Unavailable."""
        ...

    async def store(self, config: WebhookConfigured, *, instead_of: WebhookConfigured | None, not_after_ms: int) -> bool:
        """Store a config if the team's still is `instead_of`, not after that time; True once it is durable and `current` gives it back.

        False: another has been stored since, by whichever process; nothing was changed. Raises Unavailable (nothing was), OutcomeOpen.
        """
        ...


class DeliveryCommands(Protocol):
    """The way to delivery, beside the events it delivers anyway."""

    async def place_now(self, team_id: TeamId) -> int:
        """The kiteseq that the team's next event may have: where lists of deliveries show what is no event. Raises Unavailable."""
        ...

    async def give(self, order: DeliveryOrdered, *, not_after_ms: int) -> None:
        """Have an order carried out, handed over not after that time; durable on return. Raises Unavailable, OutcomeOpen."""
        ...


class SecretSeal(Protocol):
    """Seals the signing secrets of webhook configs."""

    def seal(self, secret: str, team_id: TeamId, config_id: WebhookConfigId) -> str | None:
        """The sealed secret, readable only together with team and config; None if the server has no key to seal with."""
        ...

    def holds(self, sealed: str, secret: str, team_id: TeamId, config_id: WebhookConfigId) -> bool:
        """Whether this is that secret, sealed for team and config; False too if it cannot be opened here."""
        ...

    def new_secret(self) -> str:
        """A fresh secret of the server's making, `whsec_` and base64 of 32 random bytes."""
        ...


class Ids(Protocol):
    """Fresh identifiers."""

    def event_id(self, unix_ms: int) -> EventId:
        """The id of an event received at that time."""
        ...

    def webhook_config_id(self, unix_ms: int) -> WebhookConfigId:
        """The id of a config created at that time."""
        ...
