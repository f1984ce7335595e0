"""Reservations and RateLimits over Redis: limit, quota, wallet and idempotency claim in one atomic script. Returns facts, refuses nothing.

The keys and what they hold are the contract of kite_common.projection.keys; billing settles what is reserved here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kite_common.errors import Unavailable
from kite_common.ids import EventId, TeamId
from kite_common.projection import keys
from kite_common.runtime import faults
from kite_common.runtime.observe import get_logger
from kite_gateway.adapters.place import Place
from kite_gateway.adapters.scripts import Script, ScriptRunner, load_script
from kite_gateway.domain.admission import AdmissionRequest, Facts, FirstAnswer, Outcome, Usage
from kite_gateway.domain.rate_limit import RateLimit, describe

log = get_logger("kite.gateway.redis")

# Lapsed reservations one call gives back, so that no call takes long; the next ones go on.
_LAPSED_PER_CALL: Final = 100

_REPEATS: Final = (Outcome.REPLAYED, Outcome.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator decides: a rate for all teams (None: the plan's), the rate without a subscription (0: no limit), the longest
    billing lag."""

    every_team_per_minute: int | None
    without_subscription_per_minute: int
    billing_lag_s: float


class RedisReservations:
    """`stream_time_of`, `lag_of` and `server_of` take a partition: milliseconds, seconds, and the server process its accounts are on."""

    def __init__(
        self, runner: ScriptRunner, place_of: Callable[[TeamId], Place], limits: Limits,
        stream_time_of: Callable[[int], int], lag_of: Callable[[int], float], server_of: Callable[[int], str | None],
    ) -> None:  # fmt: skip
        self._runner, self._place_of, self._limits = runner, place_of, limits
        self._stream_time_of, self._lag_of, self._server_of = stream_time_of, lag_of, server_of
        self._admit, self._confirm, self._release = load_script("admit"), load_script("confirm"), load_script("release")
        self._rates = _rates(limits)

    async def admit(self, request: AdmissionRequest) -> Facts:
        """One round trip. Raises Unavailable: no answer in time, or billing is so far behind that admission must stop.

        Also while Redis is not the server process that billing wrote the accounts to: what it holds of them may be older.
        """
        facts = await self._run(request, reserves=True)
        if request.payment is not None:
            faults.reached("topup.admitted")
        return facts

    async def peek(self, request: AdmissionRequest) -> Facts:
        """One round trip, which takes a token and nothing else. Raises Unavailable as `admit` does."""
        facts = await self._run(request, reserves=False)
        faults.reached("topup.peeked")
        return facts

    async def _run(self, request: AdmissionRequest, *, reserves: bool) -> Facts:
        place = self._place_of(request.team_id)
        if self._lag_of(place.partition) > self._limits.billing_lag_s:
            raise Unavailable("billing is too far behind")
        server = self._server_of(place.partition)
        if server is None:
            raise Unavailable("the accounts are not projected")
        reply = await self._runner.run(self._admit, (*place.admission, *_claims(request)), (
            request.event_id, self._stream_time_of(place.partition), keys.LAPSE_MS, _LAPSED_PER_CALL, *self._rates,
            keys.IDEMPOTENCY_TTL_S, request.claim.body_digest if request.claim else "", request.received_ms,
            0 if request.delivery is None else 1, request.body_bytes, int(request.takes_token), int(reserves),
            *((0, "") if request.payment is None else (keys.PAYMENT_CLAIM_TTL_S, request.payment.receipt)),
        ), server)  # fmt: skip
        return _facts(reply)

    async def confirm(self, request: AdmissionRequest) -> None:
        """Nothing happens if Redis is away: billing marks the claims when it settles the event."""
        if names := _claims(request):
            await self._try(self._confirm, names, request.event_id)

    async def release(self, request: AdmissionRequest, reserved_at_ms: int) -> None:
        """Nothing happens if Redis is away: the reservation lapses with stream time."""
        _, reservations, reserved, _ = self._place_of(request.team_id).admission
        await self._try(self._release, (reservations, reserved, *_claims(request)), request.event_id, reserved_at_ms)

    async def _try(self, script: Script, names: tuple[str, ...], event_id: EventId, *more: int) -> None:
        """What is tried here is also done by billing; its failure must not become the answer to a request whose fate is decided."""
        try:
            await self._runner.run(script, names, (event_id, *more))
        except Unavailable:
            return
        except RuntimeError:
            log.exception("redis.script_failed", event_id=event_id)


class RedisRateLimits:
    """The same bucket, for routes that reserve nothing."""

    def __init__(self, runner: ScriptRunner, place_of: Callable[[TeamId], Place], limits: Limits) -> None:
        self._runner, self._place_of, self._rates = runner, place_of, _rates(limits)
        self._take = load_script("take")

    async def take(self, team_id: TeamId) -> tuple[bool, RateLimit | None]:
        """A team whose account is not projected has the limit of one without a subscription."""
        account, _, _, bucket = self._place_of(team_id).admission
        allowed, rate, level = await self._runner.run(self._take, (account, bucket), self._rates)
        return bool(allowed), describe(level, rate)


def _claims(request: AdmissionRequest) -> tuple[str, ...]:
    """The keys of what a request claims, in the order of admit.lua."""
    ids = (request.claim.id if request.claim else None, request.payment.claim if request.payment else None, request.delivery)
    return tuple(keys.idempotency(request.team_id, one) for one in ids if one is not None)


def _rates(limits: Limits) -> tuple[str | int, int]:
    every = limits.every_team_per_minute
    return ("" if every is None else every), limits.without_subscription_per_minute


def _facts(reply: list[Any]) -> Facts:
    """What admit.lua returned; which places are there depends on the outcome, its first comment names them."""
    outcome = Outcome(reply[0])
    if len(reply) == 2:
        return Facts(outcome, reply[1])
    if outcome is Outcome.PAYLOAD_TOO_LARGE:
        return Facts(outcome, reply[1], largest_bytes=reply[2])
    if len(reply) == 4:
        return Facts(outcome, *reply[1:])
    at_ms, per_minute, level, month_used, month_limit, day_used, day_limit, period_start, period_end, price, available = reply[1:12]
    repeats = outcome in _REPEATS
    return Facts(
        outcome, at_ms, per_minute, level, month_used, month_limit, day_used, day_limit, period_start, period_end, price, available,
        reply[12].decode(), _first_answer(reply) if repeats else None, debt_atomic=0 if repeats else reply[13],
    )  # fmt: skip


def _first_answer(reply: list[Any]) -> FirstAnswer:
    event_id, received_ms, used, limit, charged, receipt = reply[13:19]
    return FirstAnswer(EventId(event_id.decode()), received_ms, Usage(used, limit, charged), receipt.decode())
