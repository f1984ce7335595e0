"""Standings, SubscriptionChanges and ClientRateLimits over Redis: one script each. Returns facts, refuses nothing.

What a team has is read, and a change of it begun, only on the server process that billing vouches for, as messages are admitted: another
one may hold an older copy, in which counters are lower and money is not reserved that is.
"""

import hashlib
from collections.abc import Callable
from typing import Any, Final

from kite_common.errors import Unavailable
from kite_common.ids import CommandId, TeamId
from kite_common.money import UNLIMITED
from kite_common.projection import keys
from kite_gateway.adapters.place import Place
from kite_gateway.adapters.scripts import ScriptRunner, load_script
from kite_gateway.domain.rate_limit import RateLimit, describe
from kite_gateway.domain.standing import PlanTerms, Standing
from kite_gateway.domain.subscription_change import Begun, SubscriptionChange

# Requests a minute of one client address on routes without bearer (wire contract, 2.4).
PUBLIC_PER_MINUTE: Final = 300


class RedisStandings:
    """`stream_time_of` and `server_of` take a partition: milliseconds, and the server process its accounts are on."""

    def __init__(
        self, runner: ScriptRunner, place_of: Callable[[TeamId], Place], stream_time_of: Callable[[int], int],
        server_of: Callable[[int], str | None],
    ) -> None:  # fmt: skip
        self._runner, self._place_of, self._stream_time_of, self._server_of = runner, place_of, stream_time_of, server_of
        self._standing = load_script("standing")

    async def of(self, team_id: TeamId) -> Standing | None:
        """One round trip, nothing is changed by it."""
        place = self._place_of(team_id)
        reply = await self._runner.run(
            self._standing, _account_keys(team_id, place), (self._stream_time_of(place.partition), keys.LAPSE_MS),
            _vouched_for(self._server_of(place.partition)),
        )  # fmt: skip
        return None if len(reply) == 1 else _standing(reply)


class RedisSubscriptionChanges:
    """The field `changing` of the account's hash."""

    def __init__(
        self, runner: ScriptRunner, place_of: Callable[[TeamId], Place], stream_time_of: Callable[[int], int],
        server_of: Callable[[int], str | None],
    ) -> None:  # fmt: skip
        self._runner, self._place_of, self._stream_time_of, self._server_of = runner, place_of, stream_time_of, server_of
        self._begin, self._end = load_script("begin_change"), load_script("end_change")

    async def begin(self, team_id: TeamId, change: SubscriptionChange) -> Begun:
        """Check and begin in one step."""
        place = self._place_of(team_id)
        reply = await self._runner.run(self._begin, _account_keys(team_id, place), (
            change.command_id, change.subscription_id, change.revision, int(change.provider_changes),
            self._stream_time_of(place.partition), keys.LAPSE_MS,
        ), _vouched_for(self._server_of(place.partition)))  # fmt: skip
        return Begun(reply)

    async def end(self, team_id: TeamId, command_id: CommandId, *, has_outcome: bool) -> None:
        """Nothing happens if Redis is away."""
        try:
            await self._runner.run(self._end, (keys.account(team_id),), (command_id, int(has_outcome)))
        except Unavailable:
            return


class RedisClientRateLimits:
    """One bucket a client address, shared by all gateways."""

    def __init__(self, runner: ScriptRunner) -> None:
        self._runner, self._take = runner, load_script("take_public")

    async def take(self, client: str) -> tuple[bool, RateLimit | None]:
        """Addresses stand in Redis as digests, and for a minute at most."""
        key = keys.client_bucket(hashlib.sha256(client.encode()).hexdigest()[:32])
        allowed, level = await self._runner.run(self._take, (key,), (PUBLIC_PER_MINUTE,))
        return bool(allowed), describe(level, PUBLIC_PER_MINUTE)


def _vouched_for(server: str | None) -> str:
    if server is None:
        raise Unavailable("the accounts are not projected")
    return server


def _account_keys(team_id: TeamId, place: Place) -> tuple[str, ...]:
    account, reservations, reserved, _ = place.admission
    return account, reservations, reserved, keys.replays(team_id)


def _standing(reply: list[Any]) -> Standing:
    """What standing.lua returned; its first comment names the places."""
    texts = [text.decode() for text in reply[13:18]]
    rate, terms = reply[18], _terms(reply[19:23])
    return Standing(*reply[:13], *texts, rate, terms)  # type: ignore[call-arg]  # as many places as standing.lua names


def _terms(reply: list[bytes]) -> PlanTerms | None:
    if b"" in reply:
        return None
    replay_price, max_payload, sources, monthly = map(int, reply)
    return PlanTerms(max_payload, None if sources == UNLIMITED else sources, monthly, replay_price)
