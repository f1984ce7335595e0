"""Erases a team: ends what opens it, takes its texts off the compacted topics, and puts it on record that the archive is to forget it.

Whatever is done here may be done again: each step starts from what the log holds and leaves out what is done. The archive is replay's:
it removes the rows itself once it reads the erasure. Nothing here touches money: account, ledger and payments stay.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from kite_cli.admin.components import running
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
CANCELLED: Final = "erase.cancelled"
REVOKED: Final = "erase.revoked"
CLOSED: Final = "erase.closed"
UNHOOKED: Final = "erase.unhooked"
ORDERED: Final = "erase.ordered"
_AGAIN: Final = "Repeat the command: what is done already is not done again."
_TURNS: Final = 5
_LOOK_EVERY_S: Final = 0.2


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
    """Erase it, and wait until the archive has nothing more of it. What there was when this began, and the erasure.

    Raises CommandFailed; then some of it is done, and a repeat does the rest.
    """
    async with _team(target, team_id) as team:
        before = team.found()
        if before.subscription not in (None, "cancelled"):
            await cancel_subscription(target, team_id)
            told("its subscription is ended")
        faults.reached(CANCELLED)
        for issued in team.credentials():
            await team.write(CREDENTIALS, encode(revoked(issued, SystemClock().unix_ms())))
        faults.reached(REVOKED)
        for endpoint in team.endpoints():
            await team.write(ENDPOINTS, Tombstone(endpoint.key.encode()))
        faults.reached(CLOSED)
        await team.end_webhook()
        told("its keys, hook tokens, hook endpoints and its webhook are ended, their names, addresses and secrets taken off")
        faults.reached(UNHOOKED)
        if team.erasures.get(team_id) is None:
            now_ms = SystemClock().unix_ms()
            await team.write(ERASURES, encode(TeamErased(team_id=team_id, id=uuid7(now_ms, random_bits(74)), ordered_at=now_ms)))
        faults.reached(ORDERED)
        told("the archive is told to forget it")
        return before, await team.carried_out(within_s)


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

    def credentials(self) -> list[CredentialIssued]:
        """Those of the team that are not revoked, or still say something."""
        return [one for _, one in self.issued.items() if one.team_id == self.team_id and one != revoked(one, 0)]

    def endpoints(self) -> list[HookEndpoint]:
        return [one for _, one in self.hooks.items() if one.team_id == self.team_id]

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

    async def carried_out(self, within_s: float) -> TeamErased:
        """The erasure, once the archive has nothing more of the team. Raises CommandFailed."""

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
        erasure = self.erasures.get(self.team_id)
        assert erasure is not None  # noqa: S101 - seen just now, and nobody takes it back
        return erasure

    def _webhook(self) -> WebhookConfigured | None:
        """The team's config, unless it says nothing any more."""
        config = self.webhooks.get(self.team_id)
        return config if config is not None and (config.active or config.url or config.secrets or config.event_types) else None


@asynccontextmanager
async def _team(target: LogTarget, team_id: TeamId) -> AsyncIterator[_Team]:
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
        for table in tables:
            await table.refreshed()
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
