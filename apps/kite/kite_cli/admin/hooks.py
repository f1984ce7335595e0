"""Hook endpoints as records of kite.endpoints, and their tokens as records of kite.credentials.

Whatever is done here may be done again: every command starts from what the log holds, and brings it to what was asked for. Tokens and
secrets are handed to the caller once; the log has hashes and sealed texts.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from kite_cli.admin.components import running
from kite_cli.admin.erasures import refuse_erased
from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.target import LogTarget
from kite_common import auth, crypto
from kite_common.errors import Malformed, OutcomeOpen, Unavailable
from kite_common.events import hooks
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.codec import decode_as, encode
from kite_common.events.credentials import CredentialIssued
from kite_common.events.fact import Fact
from kite_common.events.hooks import HookEndpoint, endpoint_key, secret_context
from kite_common.ids import TeamId, endpoint_of, is_source, uuid7
from kite_common.log_position import partition_of
from kite_common.plans import Catalog
from kite_common.runtime.system import SystemClock, random_bits, random_bytes
from kite_common.stream.input import Input
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.stream.state import MARKER_KEY
from kite_common.stream.table import Table
from kite_common.topics import ACCOUNTS, CREDENTIALS, ENDPOINTS

# GitHub takes any text; 32 random bytes as hex are as good as any.
_SECRET_BYTES: Final = 32
_TAKE_ANOTHER: Final = "Sources have 1 to 64 of a-z, 0-9 and hyphen, do not begin with a hyphen, and `kite` is Kite's own."


@dataclass(frozen=True, slots=True)
class Hook:
    """An endpoint as people see it; `tokens` is how many live ones it has."""

    id: str
    source: str
    active: bool
    webhook_secret_configured: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class NewHook:
    """An endpoint that was just opened. `token` and `github_secret` are shown this once, if ever."""

    hook: Hook
    team_id: str
    token: str = field(repr=False)
    github_secret: str | None = field(repr=False)

    @property
    def endpoint(self) -> str:
        """Its path without the token."""
        return f"/hooks/{self.team_id}/{self.hook.source}"


@dataclass(slots=True)
class _Hooks:
    """What the log holds of a team's hooks, and how to write to it."""

    target: LogTarget
    team_id: TeamId
    credentials: Table[CredentialIssued]
    endpoints: Table[HookEndpoint]
    accounts: Table[AccountSnapshot]
    publishers: dict[str, Publisher]

    def stored(self, source: str) -> HookEndpoint | None:
        return self.endpoints.get(endpoint_key(self.team_id, source))

    def all_stored(self) -> list[HookEndpoint]:
        return [one for _, one in self.endpoints.items() if one.team_id == self.team_id]

    def live_tokens(self, source: str | None = None) -> list[CredentialIssued]:
        now_ms = SystemClock().unix_ms()
        ours = (one for _, one in self.credentials.items() if one.credential == "hook_token" and one.team_id == self.team_id)
        return [one for one in ours if auth.is_live(one, now_ms) and source in (None, one.source)]

    def sources(self) -> frozenset[str]:
        return hooks.active_sources(self.all_stored(), self.live_tokens())

    def sources_limit(self, catalog: Catalog) -> int | None:
        """How many the team's plan grants; without an active subscription as on the plan free."""
        account = self.accounts.get(self.team_id)
        current = account.subscription if account else None
        if current is not None and current.status == "active":
            return current.terms.active_sources_limit
        free = catalog.by_name("free")
        return free.active_sources_limit if free else 0

    def shown(self, source: str) -> Hook:
        stored, tokens = self.stored(source), self.live_tokens(source)
        active, secured = (stored.active, bool(stored.secrets)) if stored else (bool(tokens), False)
        return Hook(endpoint_of(self.team_id, source), source, active, secured, len(tokens))

    async def write(self, topic: str, fact: Fact) -> None:
        """Durable and visible in the tables on return. Raises CommandFailed."""
        partition = partition_of(fact.key.encode(), self.target.partitions)
        table: Table[CredentialIssued] | Table[HookEndpoint] = self.credentials if topic == CREDENTIALS.name else self.endpoints
        try:
            offset = await self.publishers[topic].publish(partition, [encode(fact)])
        except Unavailable as error:
            raise CommandFailed(f"not everything was written: {error}", "Do it again: that is harmless.", EXIT_UNAVAILABLE) from error
        except OutcomeOpen as error:
            raise CommandFailed(f"it may or may not be written: {error}", "Do it again: that is harmless.", EXIT_UNAVAILABLE) from error
        await table.reached(partition, offset)


async def create_hook(target: LogTarget, catalog: Catalog, team_id: TeamId, source: str, secret: str | None) -> NewHook:
    """Open an endpoint, or open it anew: it gets a new token, earlier ones end. Without a secret GitHub's gets one.

    `catalog` has the plan free, whose limit a team without an active subscription has. Raises CommandFailed, also for an erased team.
    """
    _check(source, secret)
    target.needed_pepper()
    if secret is not None or source == "github":
        target.needed_hook_keys()
    await refuse_erased(target, team_id)
    async with _hooks(target, team_id) as known:
        limit, others = known.sources_limit(catalog), known.sources() - {source}
        if limit is not None and len(others) >= limit and source not in known.sources():
            advice = f"Close one of {', '.join(sorted(others))}, or switch to a larger plan."
            raise CommandFailed(f"source_limit_reached: the plan has {limit} active sources", advice)
        stored = known.stored(source)
        secret, sealed = _secret(target, stored, team_id, source, secret)
        earlier = known.live_tokens(source)
        # The endpoint first: no token is ever live before the secret that shall guard it, and a crash leaves what a repeat completes.
        await known.write(ENDPOINTS.name, hooks.opened(stored, team_id, source, sealed, SystemClock().unix_ms()))
        token = await _issue(known, source)
        await _revoke(known, earlier)
        return NewHook(known.shown(source), team_id, token, secret if source == "github" else None)


async def list_hooks(target: LogTarget, team_id: TeamId) -> list[Hook]:
    """All endpoints of a team, open and closed, by source. Raises CommandFailed."""
    async with _hooks(target, team_id) as known:
        return [known.shown(source) for source in sorted(known.sources() | {one.source for one in known.all_stored()})]


async def rotate_secret(target: LogTarget, team_id: TeamId, source: str, secret: str | None) -> tuple[Hook, str | None]:
    """Give an open endpoint another secret; the former is accepted for ten more minutes. The secret, if it was made here.

    Raises CommandFailed, also for an erased team.
    """
    _check(source, secret)
    target.needed_hook_keys()
    await refuse_erased(target, team_id)
    async with _hooks(target, team_id) as known:
        if source not in known.sources():
            raise _unknown(team_id, source)
        made = None if secret is not None else _new_secret(source)
        sealed = _sealed(target, team_id, source, secret or made or "")
        await known.write(ENDPOINTS.name, hooks.opened(known.stored(source), team_id, source, sealed, SystemClock().unix_ms()))
        return known.shown(source), made


async def deactivate_hook(target: LogTarget, team_id: TeamId, source: str) -> Hook:
    """Close an endpoint and end all its tokens. Doing it again changes nothing. Raises CommandFailed."""
    async with _hooks(target, team_id) as known:
        stored = known.stored(source)
        if stored is None and source not in known.sources():
            raise _unknown(team_id, source)
        now_ms = SystemClock().unix_ms()
        if stored is None or stored.active:
            await known.write(ENDPOINTS.name, hooks.closed(stored or hooks.opened(None, team_id, source, None, now_ms), now_ms))
        await _revoke(known, known.live_tokens(source))
        return known.shown(source)


@asynccontextmanager
async def _hooks(target: LogTarget, team_id: TeamId) -> AsyncIterator[_Hooks]:
    kafka, partitions = Kafka(target.kafka_bootstrap, client_id="kitectl"), target.partitions
    known = _Hooks(
        target, team_id,
        Table(kafka, CREDENTIALS.name, partitions, _credential), Table(kafka, ENDPOINTS.name, partitions, _endpoint),
        Table(kafka, ACCOUNTS.name, partitions, _account, only=(partition_of(team_id.encode(), partitions),)),
        {topic.name: Publisher(kafka, topic.name, partitions) for topic in (CREDENTIALS, ENDPOINTS)},
    )  # fmt: skip
    tables = (known.credentials, known.endpoints, known.accounts)
    async with running(f"Kafka at {target.kafka_bootstrap}", *known.publishers.values(), *tables):
        for table in tables:
            await table.refreshed()
        yield known


def _secret(
    target: LogTarget, stored: HookEndpoint | None, team_id: TeamId, source: str, given: str | None
) -> tuple[str | None, str | None]:
    """The secret an endpoint shall have as far as it is known here, and it sealed if it is another than it has."""
    if given is None and source != "github":
        return None, None
    held = _newest(target, stored)
    if given is None and held is not None:
        return held, None
    secret = _new_secret(source) if given is None else given
    return secret, None if secret == held else _sealed(target, team_id, source, secret)


def _newest(target: LogTarget, stored: HookEndpoint | None) -> str | None:
    if stored is None or not stored.active or not stored.secrets:
        return None
    try:
        return crypto.unseal(target.needed_hook_keys(), stored.secrets[0].sealed, secret_context(stored.team_id, stored.source)).decode()
    except Malformed:
        # Sealed under a key nobody has any more: another secret takes its place.
        return None


def _sealed(target: LogTarget, team_id: TeamId, source: str, secret: str) -> str:
    key = target.needed_hook_keys()[0]
    return crypto.seal(key, secret.encode(), secret_context(team_id, source), random_bytes(crypto.NONCE_BYTES))


def _new_secret(source: str) -> str:
    """Svix secrets are base64 behind a prefix; whoever else is told a secret takes any text."""
    drawn = random_bytes(_SECRET_BYTES)
    return crypto.new_webhook_secret(drawn) if source == "clerk" else drawn.hex()


async def _issue(known: _Hooks, source: str) -> str:
    now_ms, text = SystemClock().unix_ms(), auth.new_hook_token(random_bytes(auth.RANDOM_BYTES))
    await known.write(CREDENTIALS.name, CredentialIssued(
        team_id=known.team_id, id=uuid7(now_ms, random_bits(74)), prefix=auth.parse_hook_token(text).prefix, credential="hook_token",
        name=source, permissions=(), source=source, created_at=now_ms, secret_hash=auth.hash_secret(known.target.needed_pepper(), text),
    ))  # fmt: skip
    return text


async def _revoke(known: _Hooks, tokens: Sequence[CredentialIssued]) -> None:
    for one in tokens:
        await known.write(CREDENTIALS.name, one.model_copy(update={"revoked_at": SystemClock().unix_ms()}))


def _check(source: str, secret: str | None) -> None:
    if not is_source(source):
        raise CommandFailed(f"{source!r} cannot be a source", _TAKE_ANOTHER)
    if secret is None:
        return
    try:
        # Stripe's secrets begin with whsec_ too, and are texts like any other; Svix's hold a key in base64.
        (crypto.validate_webhook_secret if source == "clerk" else crypto.validate_secret_text)(secret)
    except Malformed as error:
        raise CommandFailed(f"the secret cannot be used: {error}", "Copy it from the provider once more.") from None


def _unknown(team_id: str, source: str) -> CommandFailed:
    return CommandFailed(f"{team_id} has no open hook {source}", f"See `kitectl hook list --team-id {team_id}`.")


def _credential(record: Input) -> CredentialIssued | None:
    return None if record.value is None else decode_as(CredentialIssued, record.value)


def _endpoint(record: Input) -> HookEndpoint | None:
    return None if record.value is None else decode_as(HookEndpoint, record.value)


def _account(record: Input) -> AccountSnapshot | None:
    return None if record.value is None or record.key == MARKER_KEY else decode_as(AccountSnapshot, record.value)
