"""API keys as records of kite.credentials: issued, revoked. The text of a key is handed to the caller once and kept nowhere."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kite_cli.admin.components import running
from kite_cli.admin.erasures import refuse_erased
from kite_cli.failure import CommandFailed
from kite_cli.target import LogTarget
from kite_common import auth
from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.codec import decode_as, encode
from kite_common.events.credentials import CredentialIssued, Permission
from kite_common.ids import uuid7
from kite_common.log_position import partition_of
from kite_common.runtime.system import SystemClock, random_bits, random_bytes
from kite_common.stream.input import Input
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.stream.state import MARKER_KEY
from kite_common.stream.table import Table
from kite_common.topics import ACCOUNTS, CREDENTIALS

_DAY_MS: Final = 86_400_000
_PREFIX: Final = re.compile(r"(?:kite_)?([0-9a-f]{8})(?:_[0-9a-f]{32})?")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just issued. `text` is the secret; `expires_at` is milliseconds since 1970 or None = never."""

    id: str
    prefix: str
    text: str = field(repr=False)
    permissions: tuple[Permission, ...]
    expires_at: int | None


def publisher_of_keys(target: LogTarget) -> Publisher:
    """The publisher `issue` writes with; the caller runs it."""
    return Publisher(Kafka(target.kafka_bootstrap, client_id="kitectl"), CREDENTIALS.name, target.partitions)


async def create_key(target: LogTarget, team_id: str, name: str, permissions: Sequence[Permission], days: int | None) -> NewKey:
    """Issue a key that lives `days` days, None = until it is revoked; only to a team with an account, since nobody else's works.

    Raises CommandFailed, also for an erased team, Unavailable, OutcomeOpen.
    """
    target.needed_pepper()
    await refuse_erased(target, team_id)
    kafka, partition = Kafka(target.kafka_bootstrap, client_id="kitectl"), partition_of(team_id.encode(), target.partitions)
    publisher, accounts = publisher_of_keys(target), Table(kafka, ACCOUNTS.name, target.partitions, is_account, only=(partition,))
    async with running(f"Kafka at {target.kafka_bootstrap}", publisher, accounts):
        await accounts.refreshed()
        if accounts.get(team_id) is None:
            raise CommandFailed(f"there is no team {team_id}", f"Look at its id, or open it: kitectl team create --team-id {team_id}")
        return await issue(publisher, target, team_id, name, permissions, days)


async def issue(
    publisher: Publisher, target: LogTarget, team_id: str, name: str, permissions: Sequence[Permission], days: int | None = None
) -> NewKey:
    """As `create_key`, over a publisher that runs already."""
    now_ms, text = SystemClock().unix_ms(), auth.new_api_key(random_bytes(auth.RANDOM_BYTES))
    issued = CredentialIssued(
        team_id=team_id, id=uuid7(now_ms, random_bits(74)), prefix=auth.parse_api_key(text).prefix, credential="api_key", name=name,
        permissions=tuple(permissions), created_at=now_ms, expires_at=None if days is None else now_ms + days * _DAY_MS,
        secret_hash=auth.hash_secret(target.needed_pepper(), text),
    )  # fmt: skip
    await _write(publisher, target, issued)
    return NewKey(issued.id, issued.prefix, text, issued.permissions, issued.expires_at)


async def revoke_key(target: LogTarget, prefix: str, team_id: str | None = None) -> CredentialIssued:
    """Make a key useless; one that is revoked already stays as it is. `team_id` says whose, should teams have keys of the same prefix.

    Raises CommandFailed if that names no key, or several.
    """
    kafka, publisher = Kafka(target.kafka_bootstrap, client_id="kitectl"), publisher_of_keys(target)
    table: Table[CredentialIssued] = Table(kafka, CREDENTIALS.name, target.partitions, _credential)
    async with running(f"Kafka at {target.kafka_bootstrap}", publisher, table):
        await table.refreshed()
        known = named((one for _, one in table.items()), prefix, team_id)
        if known.revoked_at is not None:
            return known
        revoked = known.model_copy(update={"revoked_at": SystemClock().unix_ms()})
        await _write(publisher, target, revoked)
        return revoked


def named(issued: Iterable[CredentialIssued], prefix: str, team_id: str | None) -> CredentialIssued:
    """The API key that a prefix names, of this team or of any. Raises CommandFailed if there is none, or more than one."""
    found = [one for one in issued if one.prefix == prefix and one.credential == "api_key" and team_id in (None, one.team_id)]
    if not found:
        whose = "" if team_id is None else f" of {team_id}"
        raise CommandFailed(f"there is no key kite_{prefix}_...{whose}", "The 8 digits after `kite_` name a key; look at them once more.")
    if len(found) > 1:
        teams = ", ".join(sorted({one.team_id for one in found}))
        raise CommandFailed(f"{len(found)} keys begin with kite_{prefix}_, of {teams}", "Say whose is meant: --team-id.")
    return found[0]


def parse_prefix(text: str) -> str:
    """The 8 digits that name a key, from themselves, `kite_<8 digits>` or the whole key. Raises CommandFailed."""
    found = _PREFIX.fullmatch(text)
    if found is None:
        raise CommandFailed("that names no key", "Give the 8 digits after `kite_`: kitectl key revoke 0a1b2c3d")
    return found[1]


async def _write(publisher: Publisher, target: LogTarget, fact: CredentialIssued) -> None:
    try:
        await publisher.publish(partition_of(fact.key.encode(), target.partitions), [encode(fact)])
    except Unavailable as error:
        raise CommandFailed(f"nothing was written: {error}", "Try again; see `kitectl status`.") from error
    except OutcomeOpen as error:
        advice = "Do it again: revoking twice is harmless, and a key that nobody saw opens nothing."
        raise CommandFailed(f"it may or may not be written: {error}", advice) from error


def is_account(record: Input) -> bool | None:
    """True for the account of a team, None for one that was removed, and for what else stands in kite.accounts. Decodes nothing."""
    return None if record.value is None or record.key == MARKER_KEY else True


def _credential(record: Input) -> CredentialIssued | None:
    return None if record.value is None else decode_as(CredentialIssued, record.value)
