"""Erases a team: ends what opens it, takes its texts off the compacted topics, and puts it on record that the archive is to forget it.

Whatever is done here may be done again: each step starts from what the log holds and leaves out what is done. The archive is replay's:
it removes the rows itself once it reads the erasure. Nothing here touches money: account, ledger and payments stay.

The record of the erasure is the first step: from then on no key, hook or secret is made for the team. What had been let in before may
still come after the step that ends it: a request whose key was good when its headers came, a key that was being made. So when all is done
and nothing of it can be under way any more, the log is looked at again, and what has come is ended by the same steps.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from kite_cli.admin.components import running
from kite_cli.admin.erasures import erasures_of
from kite_cli.admin.keys import is_account
from kite_cli.admin.subscriptions import cancel_subscription
from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.local.readiness import until
from kite_cli.target import LogTarget
from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import Record, Tombstone, decode_as, encode
from kite_common.events.credentials import CredentialIssued
from kite_common.events.erasures import TeamErased
from kite_common.events.hooks import HookEndpoint
from kite_common.events.webhooks import WebhookConfigured
from kite_common.ids import TeamId, uuid7
from kite_common.log_position import partition_of
from kite_common.runtime import faults
from kite_common.runtime.system import SystemClock, random_bits
from kite_common.stream.exclusive import ExclusiveWriter, ShutOut
from kite_common.stream.input import Input
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.stream.table import Table
from kite_common.topics import ACCOUNTS, CREDENTIALS, ENDPOINTS, ERASURES, WEBHOOKS, Topic

# Where tests let the command die.
ORDERED: Final = "erase.ordered"
REVOKED: Final = "erase.revoked"
CLOSED: Final = "erase.closed"
UNHOOKED: Final = "erase.unhooked"
CANCELLED: Final = "erase.cancelled"
SETTLED: Final = "erase.settled"
_AGAIN: Final = "Repeat the command: what is done already is not done again."
_TURNS: Final = 5
_ROUNDS: Final = 5
_LOOK_EVERY_S: Final = 0.2
# A gateway reads a body for 15 s and hands a webhook config over within 5 s; the rest is for the revocation to get there.
_UNDER_WAY_S: Final = 25.0


@dataclass(frozen=True, slots=True)
class TeamFound:
    """What there is of a team. `keys` and `tokens` are those that still have a text or open something; `hooks` are endpoints on record."""

    team_id: str
    subscription: str | None
    balance_atomic: int
    keys: int
    tokens: int
    hooks: int
    webhook: bool
    erasure: TeamErased | None


async def look(target: LogTarget, team_id: TeamId) -> TeamFound:
    """What an erasure would end. Raises CommandFailed if there is no such team."""
    async with _team(target, team_id) as team:
        return team.found()


async def erase_team(target: LogTarget, team_id: TeamId, within_s: float, told: Callable[[str], None]) -> tuple[TeamFound, TeamErased]:
    """Erase it, wait until the archive has nothing more of it, end what came meanwhile. What there was when this began, and the erasure.

    Raises CommandFailed; then some of it is done, and a repeat does the rest.
    """
    async with _team(target, team_id) as team:
        before = team.found()

        async def end() -> None:
            await team.end(told)
            await team.carried_out(within_s)

        async def find() -> TeamFound:
            wait_s = under_way_s(team.credentials_ever(), SystemClock().unix_ms())
            if wait_s:
                told(f"waiting {wait_s:.0f} s for requests that its keys had opened")
                await asyncio.sleep(wait_s)
            await team.refreshed()
            faults.reached(SETTLED)
            return team.found()

        after = await ended_for_good(end, find, told)
        assert after.erasure is not None  # noqa: S101 - else something would be left
        return before, after.erasure


async def ended_for_good(
    end: Callable[[], Awaitable[None]], find: Callable[[], Awaitable[TeamFound]], told: Callable[[str], None]
) -> TeamFound:  # fmt: skip
    """End what there is until nothing but the books is found; that. Raises CommandFailed if something comes again and again."""
    for _ in range(_ROUNDS):
        await end()
        found = await find()
        if not is_left(found):
            return found
        told("something of it came meanwhile, which is ended, too")
    raise CommandFailed("keys, hooks, a webhook or a subscription of it come again and again", f"See who makes them. {_AGAIN}")


def is_left(found: TeamFound) -> bool:
    """Whether there is more of a team than its books, and the record that it is erased."""
    opens = found.keys or found.tokens or found.hooks or found.webhook or found.subscription not in (None, "cancelled")
    return bool(opens) or found.erasure is None or found.erasure.archive_erased_at is None


def under_way_s(credentials: Iterable[CredentialIssued], now_ms: int) -> float:
    """Seconds until nothing is under way any more that a credential had opened before it was revoked."""
    last_ms = max((one.revoked_at for one in credentials if one.revoked_at is not None), default=0)
    return min(max(0.0, _UNDER_WAY_S - (now_ms - last_ms) / 1_000), _UNDER_WAY_S)


def revoked(issued: CredentialIssued, now_ms: int) -> CredentialIssued:
    """A credential that opens nothing and says nothing: its hash stays, so that it is refused for ever."""
    return issued.model_copy(update={"name": "", "scopes": (), "source": None, "revoked_at": issued.revoked_at or now_ms})


def ended(config: WebhookConfigured, now_ms: int) -> WebhookConfigured:
    """A config that delivers nowhere and says nothing. A tombstone would be forgotten after a day, by whoever was away for longer."""
    later_ms = max(now_ms, config.updated_at + 1)
    return config.model_copy(update={"active": False, "url": "", "event_types": (), "secrets": (), "updated_at": later_ms})


@dataclass(frozen=True, slots=True)
class _Team:
    """What the log holds of a team, and how to write to it."""

    target: LogTarget
    team_id: TeamId
    accounts: Table[AccountSnapshot]
    issued: Table[CredentialIssued]
    hooks: Table[HookEndpoint]
    webhooks: Table[WebhookConfigured]
    erasures: Table[TeamErased]
    publishers: dict[str, Publisher]
    writer: ExclusiveWriter

    def found(self) -> TeamFound:
        account = self.accounts.get(self.team_id)
        if account is None:
            raise CommandFailed(f"there is no team {self.team_id}", "Look at its id once more.")
        plan, kinds = account.subscription, [one.credential for one in self.credentials()]
        return TeamFound(
            self.team_id, None if plan is None else plan.status, account.balance_atomic, kinds.count("api_key"),
            kinds.count("hook_token"), len(self.endpoints()), self._webhook() is not None, self.erasures.get(self.team_id),
        )  # fmt: skip

    def credentials_ever(self) -> list[CredentialIssued]:
        return [one for _, one in self.issued.items() if one.team_id == self.team_id]

    def credentials(self) -> list[CredentialIssued]:
        """Those of the team that are not revoked, or still say something."""
        return [one for one in self.credentials_ever() if one != revoked(one, 0)]

    def endpoints(self) -> list[HookEndpoint]:
        return [one for _, one in self.hooks.items() if one.team_id == self.team_id]

    async def refreshed(self) -> None:
        """Return once all that stands in the log by now can be seen. Raises CommandFailed."""
        try:
            for table in (self.accounts, self.issued, self.hooks, self.webhooks, self.erasures):
                await table.refreshed()
        except (Unavailable, TimeoutError) as error:
            raise CommandFailed("the log cannot be read to its end now", _AGAIN, EXIT_UNAVAILABLE) from error

    async def end(self, told: Callable[[str], None]) -> None:
        """All steps, each for what can be seen; the archive's part begins with the first one. Raises CommandFailed."""
        before = self.found()
        if before.erasure is None:
            now_ms = SystemClock().unix_ms()
            await self.write(ERASURES, encode(TeamErased(team_id=self.team_id, id=uuid7(now_ms, random_bits(74)), ordered_at=now_ms)))
            told("it is on record as erased: nobody makes keys and hooks for it any more, and the archive is told to forget it")
        faults.reached(ORDERED)
        for issued in self.credentials():
            await self.write(CREDENTIALS, encode(revoked(issued, SystemClock().unix_ms())))
        faults.reached(REVOKED)
        for endpoint in self.endpoints():
            await self.write(ENDPOINTS, Tombstone(endpoint.key.encode()))
        faults.reached(CLOSED)
        await self.end_webhook()
        if before.keys or before.tokens or before.hooks or before.webhook:
            told("its keys, hook tokens, hook endpoints and its webhook are ended, their names, addresses and secrets taken off")
        faults.reached(UNHOOKED)
        # After its keys, which could subscribe it anew.
        if before.subscription not in (None, "cancelled"):
            await cancel_subscription(self.target, self.team_id)
            told("its subscription is ended")
        faults.reached(CANCELLED)

    async def write(self, topic: Topic, record: Record | Tombstone) -> None:
        """Durable and visible in the tables on return. Raises CommandFailed."""
        partition = partition_of(record.key, self.target.partitions)
        tables: dict[Topic, Table[Any]] = {CREDENTIALS: self.issued, ENDPOINTS: self.hooks, ERASURES: self.erasures}
        try:
            offset = await self.publishers[topic.name].publish(partition, [record])
            await tables[topic].reached(partition, offset)
        except (Unavailable, OutcomeOpen) as error:
            raise CommandFailed(f"not everything was written: {error}", _AGAIN, EXIT_UNAVAILABLE) from error

    async def end_webhook(self) -> None:
        """Compare and set, as gateways do. Raises CommandFailed."""
        partition = partition_of(self.team_id.encode(), self.target.partitions)
        try:
            for _ in range(_TURNS):
                async with self.writer.turn(partition) as turn:
                    await self.webhooks.refreshed(partition)
                    config = self._webhook()
                    if config is None:
                        return
                    try:
                        await turn.append(encode(ended(config, SystemClock().unix_ms())))
                    except ShutOut:
                        continue
        except (Unavailable, OutcomeOpen, TimeoutError) as error:
            raise CommandFailed(f"its webhook may still be there: {error}", _AGAIN, EXIT_UNAVAILABLE) from error
        raise CommandFailed("its webhook is being changed by others all the time", _AGAIN)

    async def carried_out(self, within_s: float) -> None:
        """Return once the archive has nothing more of the team. Raises CommandFailed."""

        async def is_done() -> bool:
            erasure = self.erasures.get(self.team_id)
            return erasure is not None and erasure.archive_erased_at is not None

        try:
            async with asyncio.timeout(within_s):
                await until(is_done, _LOOK_EVERY_S)
        except TimeoutError:
            raise CommandFailed(
                f"replay has not said within {within_s:.0f} s that the archive has nothing more of {self.team_id}",
                f"It does so by itself once it runs: see `kitectl status`, and its log. {_AGAIN}", EXIT_UNAVAILABLE,
            ) from None  # fmt: skip

    def _webhook(self) -> WebhookConfigured | None:
        """The team's config, unless it says nothing any more."""
        config = self.webhooks.get(self.team_id)
        return config if config is not None and (config.active or config.url or config.secrets or config.event_types) else None


@asynccontextmanager
async def _team(target: LogTarget, team_id: TeamId) -> AsyncIterator[_Team]:
    # Says so if there is no such topic yet; a table would wait for it.
    await erasures_of(target, (partition_of(team_id.encode(), target.partitions),))
    kafka, partitions, own = Kafka(target.kafka_bootstrap, client_id="kitectl"), target.partitions, (
        partition_of(team_id.encode(), target.partitions),
    )  # fmt: skip
    team = _Team(
        target, team_id, Table(kafka, ACCOUNTS.name, partitions, _account, only=own),
        Table(kafka, CREDENTIALS.name, partitions, _credential), Table(kafka, ENDPOINTS.name, partitions, _endpoint),
        Table(kafka, WEBHOOKS.name, partitions, _config, only=own), Table(kafka, ERASURES.name, partitions, _erasure, only=own),
        {topic.name: Publisher(kafka, topic.name, partitions) for topic in (CREDENTIALS, ENDPOINTS, ERASURES)},
        ExclusiveWriter(kafka, WEBHOOKS.name),
    )  # fmt: skip
    tables = (team.accounts, team.issued, team.hooks, team.webhooks, team.erasures)
    async with running(f"Kafka at {target.kafka_bootstrap}", *team.publishers.values(), *tables):
        await team.refreshed()
        yield team


def _account(record: Input) -> AccountSnapshot | None:
    return decode_as(AccountSnapshot, record.value) if is_account(record) else None


def _credential(record: Input) -> CredentialIssued | None:
    return None if record.value is None else decode_as(CredentialIssued, record.value)


def _endpoint(record: Input) -> HookEndpoint | None:
    return None if record.value is None else decode_as(HookEndpoint, record.value)


def _config(record: Input) -> WebhookConfigured | None:
    return None if record.value is None else decode_as(WebhookConfigured, record.value)


def _erasure(record: Input) -> TeamErased | None:
    return None if record.value is None else decode_as(TeamErased, record.value)
