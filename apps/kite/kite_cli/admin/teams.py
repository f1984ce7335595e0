"""Opens a team: an account by a command that billing carries out, then its first key. Decides no limits and no prices."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kite_cli.admin.components import running
from kite_cli.admin.keys import NewKey, issue, publisher_of_keys
from kite_cli.admin.team_ids import wanted_team_id
from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.target import LogTarget
from kite_common.errors import OutcomeOpen, Unavailable
from kite_common.events.accounts import Provider
from kite_common.events.commands import Command, CommandOutcome, OpenAccount
from kite_common.ids import new_team_id, uuid7
from kite_common.plans import Catalog
from kite_common.projection.outcomes import CommandSender
from kite_common.runtime.component import Component
from kite_common.runtime.system import SystemClock, random_bits, random_bytes
from kite_common.stream.kafka import Kafka
from kite_common.stream.publisher import Publisher
from kite_common.topics import COMMANDS

_ANSWER_WITHIN_S: Final = 20.0
_REDIS_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class TeamOrder:
    """What a new team shall be; `team_id` None = a new one."""

    plan: str = "starter"
    provider: Provider = "x402"
    balance_atomic: int = 1_000_000
    team_id: str | None = None
    key_name: str = "first key"


@dataclass(frozen=True, slots=True)
class NewTeam:
    """A team that was just opened, with an admin key."""

    team_id: str
    plan: str
    provider: Provider
    balance_atomic: int
    subscription_id: str | None
    key: NewKey


async def create_team(target: LogTarget, order: TeamOrder, catalog: Catalog) -> NewTeam:
    """Open the account, wait until billing has done it, issue an admin key. Raises CommandFailed."""
    target.needed_pepper()
    command = _command(order, catalog)
    keys = publisher_of_keys(target)
    async with command_sender(target, keys) as sender:
        outcome = await sent(sender, command, f"Repeat it with --team-id {command.team_id}: a team is never opened twice.")
        if outcome.refusal is not None:
            raise _refused(outcome.refusal, command)
        key = await _first_key(keys, target, command.team_id, order.key_name)
    return NewTeam(command.team_id, order.plan, order.provider, outcome.balance_atomic, outcome.subscription_id, key)


def _command(order: TeamOrder, catalog: Catalog) -> OpenAccount:
    plan = catalog.by_name(order.plan)
    if plan is None:
        names = ", ".join(one.name for one in catalog.plans)
        raise CommandFailed(f"there is no plan {order.plan}", f"Take one of {names}.")
    now_ms = SystemClock().unix_ms()
    team_id = new_team_id(random_bytes(16)) if order.team_id is None else wanted_team_id(order.team_id)
    return OpenAccount(
        team_id=team_id, command_id=uuid7(now_ms, random_bits(74)), sent_at=now_ms, plan_id=plan.id, provider=order.provider,
        balance_atomic=order.balance_atomic,
    )  # fmt: skip


@asynccontextmanager
async def command_sender(target: LogTarget, *others: Component) -> AsyncIterator[CommandSender]:
    """Sends commands to billing while inside; `others` run beside it. Raises CommandFailed if Kafka or Redis do not answer."""
    redis = Redis.from_url(target.redis_url, socket_timeout=_REDIS_WITHIN_S, socket_connect_timeout=_REDIS_WITHIN_S)
    commands = Publisher(Kafka(target.kafka_bootstrap, client_id="kitectl"), COMMANDS.name, target.partitions)
    sender = CommandSender(redis, commands, target.partitions, timeout_s=_ANSWER_WITHIN_S)
    try:
        await redis.ping()
        async with running(f"Kafka at {target.kafka_bootstrap}", commands, *others, sender):
            yield sender
    except (RedisError, OSError) as error:
        # Without the address: it may carry a password.
        raise CommandFailed(
            f"Redis does not answer: {type(error).__name__}", "See `kitectl status`, or check KITE_REDIS_URL.", EXIT_UNAVAILABLE
        ) from error
    finally:
        await redis.aclose()


async def sent(sender: CommandSender, command: Command, again: str) -> CommandOutcome:
    """What billing says of a command; `again`: what to do if it does not. Raises CommandFailed."""
    try:
        return await sender.send(command)
    except Unavailable as error:
        raise CommandFailed(f"nothing was written: {error}", "Try again; see `kitectl status`.", EXIT_UNAVAILABLE) from error
    except OutcomeOpen as error:
        raise CommandFailed(f"{error}", f"See that billing runs (`kitectl status`). {again}", EXIT_UNAVAILABLE) from error


async def _first_key(keys: Publisher, target: LogTarget, team_id: str, name: str) -> NewKey:
    try:
        return await issue(keys, target, team_id, name, ("admin",))
    except CommandFailed as error:
        advice = f"Make its key with `kitectl key create --team-id {team_id}`."
        raise CommandFailed(f"the team {team_id} is open but has no key: {error.what}", advice, error.code) from error


def _refused(refusal: str, command: OpenAccount) -> CommandFailed:
    advice = {
        "account_exists": f"Make it another key with `kitectl key create --team-id {command.team_id}`, or leave --team-id out.",
        "invalid_provider": "Take x402, or clerk with the plan free (billing takes others with KITE_CLERK_PAID_PLANS).",
        "amount_too_large": "Take a smaller --balance.",
        "plan_not_found": "Billing has other plans than this command: give both the same KITE_PLANS_FILE.",
    }
    return CommandFailed(f"billing refuses to open {command.team_id}: {refusal}", advice.get(refusal, "See billing's log for the reason."))
