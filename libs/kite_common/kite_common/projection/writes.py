"""The projection's calls to Redis, one pipeline each. Decides nothing, repeats nothing: every call may safely be made again."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Literal

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError, RedisError

from kite_common.errors import Unavailable
from kite_common.events.accounts import AccountSnapshot
from kite_common.events.commands import CommandOutcome
from kite_common.ids import CommandId, TeamId
from kite_common.projection import keys
from kite_common.projection.account_fields import account_fields
from kite_common.projection.claims import AcceptedClaim, claim_arguments
from kite_common.projection.pending import Write
from kite_common.projection.server import server_id
from kite_common.runtime.observe import get_logger

log = get_logger("kite.projection")

# Lapsed reservations one call gives back, as in admission, so that no call takes long.
_LAPSED_PER_CALL: Final = 100
_CLAIMS_PER_CALL: Final = 200

WriteResult = Literal["written", "same", "older", "missing"]
_RESULTS: Final[dict[int, WriteResult]] = {1: "written", 0: "same", 2: "older", -1: "missing"}

BeginResult = Literal["begun", "replaced", "lost"]
_BEGIN_RESULTS: Final[dict[int, BeginResult]] = {1: "begun", 0: "replaced", -1: "lost"}


@dataclass(frozen=True, slots=True)
class Marks:
    """What Redis says of a partition: the position its accounts are projected up to, and its stream time (ms); None = not there.

    `server` is the server process they were written to, `answering` the one that says so. `quiet`: these are two, and whoever was admitted
    by an earlier one than `answering` is in the log already (keys.QUIET).
    """

    projected: int | None
    stream_time_ms: int | None
    server: str | None
    answering: str
    quiet: bool


class ProjectionWrites:
    """All calls raise Unavailable when Redis did not answer them all: some may have been carried out then."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts: list[AsyncScript] = []
        self._account, self._forget, self._begin = self._script("account"), self._script("forget"), self._script("begin")
        self._finish, self._raise = self._script("finish"), self._script("raise")
        self._restore, self._claims = self._script("restore"), self._script("claims")

    async def marks(self, partition: int) -> Marks:
        """What stands there now."""
        pipeline = self._pipeline()
        pipeline.hmget(keys.PROJECTED, str(partition), keys.server_field(partition))
        pipeline.hget(keys.STREAM_TIME, str(partition))
        pipeline.get(keys.QUIET)
        pipeline.execute_command("INFO", "server")
        (projected, server), stream_time, quiet, info = await self._execute(pipeline)
        told, answering = _text(server), server_id(info)
        is_quiet = told not in (None, answering) and _text(quiet) == answering
        return Marks(_number(projected), _number(stream_time), told, answering, is_quiet)

    async def accounts(self, writes: Sequence[Write], lapsed_before_ms: int) -> tuple[list[WriteResult], int]:
        """Write accounts and settle their events; what became of each, and how many reservations had lapsed."""
        pipeline = self._pipeline()
        for write in writes:
            self._add_account(pipeline, write, lapsed_before_ms)
        replies = await self._execute(pipeline)
        return [_RESULTS[result] for result, _ in replies], sum(lapsed for _, lapsed in replies)

    async def forget_mark(self, partition: int, applied: int) -> None:
        """Take away how far the partition is projected, unless that is further than `applied`: who takes over sees a loss too."""
        pipeline = self._pipeline()
        pipeline.evalsha(self._forget.sha, 1, keys.PROJECTED, partition, applied, 0)
        await self._execute(pipeline)

    async def forget_accounts(self, accounts: Sequence[AccountSnapshot]) -> None:
        """Take these accounts away, but none that is newer than given here. Reservations and claims stay."""
        pipeline = self._pipeline()
        for one in accounts:
            pipeline.evalsha(self._forget.sha, 1, keys.account(TeamId(one.team_id)), "applied", one.applied, 1)
        await self._execute(pipeline)

    async def restore(self, partition: int, text: str) -> str:
        """Say that claims are being restored; the note that `begin` is given then. `text` must not have been used before."""
        pipeline = self._pipeline()
        pipeline.evalsha(self._restore.sha, 1, keys.PROJECTED, partition, text)
        (note,) = await self._execute(pipeline)
        return _text(note) or ""

    async def claims(self, claims: Sequence[AcceptedClaim]) -> None:
        """Write claims that are missing, and answer those that are there. Only while nobody is admitted."""
        by_team: dict[TeamId, list[AcceptedClaim]] = {}
        for one in claims:
            by_team.setdefault(one.team_id, []).append(one)
        pipeline = self._pipeline()
        for team_id, some in by_team.items():
            for start in range(0, len(some), _CLAIMS_PER_CALL):
                lot = some[start : start + _CLAIMS_PER_CALL]
                names = [keys.idempotency(team_id, one.claim) for one in lot]
                pipeline.evalsha(self._claims.sha, len(names), *names, *(part for one in lot for part in claim_arguments(one)))
        await self._execute(pipeline)

    async def begin(self, partition: int, applied: int, stream_time_ms: int, restored: str = "") -> tuple[BeginResult, str]:
        """Say that projecting the partition has begun: accounts may be there from now on; on which server process that is.

        replaced: another owner is as far as `applied`. lost: the claims restored since the note `restored` are not there any more.
        """
        pipeline = self._pipeline()
        pipeline.evalsha(self._begin.sha, 1, keys.PROJECTED, partition, applied, restored)
        self._add_raise(pipeline, keys.STREAM_TIME, partition, stream_time_ms)
        (begun, server), _ = await self._execute(pipeline)
        return _BEGIN_RESULTS[int(begun)], _text(server) or ""

    async def finish(
        self, partition: int, projected: int, stream_time_ms: int, expected: int, server: str, outcomes: Sequence[CommandOutcome]
    ) -> bool:
        """Say what is written by now, and wake who waits for an outcome.

        False: Redis has lost what it said before (`expected`), or it is not the server process that was told.
        """
        pipeline = self._pipeline()
        pipeline.evalsha(self._finish.sha, 1, keys.PROJECTED, partition, projected, expected, server)
        self._add_raise(pipeline, keys.STREAM_TIME, partition, stream_time_ms)
        _add_outcomes(pipeline, outcomes)
        whole, *_ = await self._execute(pipeline)
        return int(whole) == 1

    async def outcomes(self, outcomes: Sequence[CommandOutcome]) -> None:
        """Only the outcomes."""
        pipeline = self._pipeline()
        _add_outcomes(pipeline, outcomes)
        await self._execute(pipeline)

    def _add_account(self, pipeline: Pipeline, write: Write, lapsed_before_ms: int) -> None:
        team_id = TeamId(write.account.team_id)
        claims = [(claim, one.event_id) for one in write.settled for claim in one.claims]
        names = [
            keys.account(team_id), keys.reservations(team_id), keys.reserved(team_id), keys.replays(team_id),
            *(keys.idempotency(team_id, claim) for claim, _ in claims),
        ]  # fmt: skip
        arguments: list[str | int] = [
            int(write.create), lapsed_before_ms, _LAPSED_PER_CALL, len(write.settled), *(one.event_id for one in write.settled),
            *(event_id for _, event_id in claims), *account_fields(write.account),
        ]  # fmt: skip
        pipeline.evalsha(self._account.sha, len(names), *names, *arguments)

    def _add_raise(self, pipeline: Pipeline, key: str, partition: int, value: int) -> None:
        pipeline.evalsha(self._raise.sha, 1, key, partition, value)

    def _script(self, name: str) -> AsyncScript:
        script = self._redis.register_script(resources.files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8"))
        self._scripts.append(script)
        return script

    def _pipeline(self) -> Pipeline:
        return self._redis.pipeline(transaction=False)

    async def _execute(self, pipeline: Pipeline) -> list[Any]:
        commands = list(pipeline.command_stack)
        try:
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                # Redis was started anew: it is told the scripts, and everything is said again.
                await self._load_scripts()
                pipeline.command_stack = commands
                replies = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable(f"Redis is away: {type(error).__name__}") from error
        refused = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if refused is not None:
            # Its text may name addresses: people read it in the log, callers and /readyz do not.
            log.warning("projection.refused", reason=str(refused)[:200])
            raise Unavailable(f"Redis refuses: {type(refused).__name__}") from refused
        return replies

    async def _load_scripts(self) -> None:
        for one in self._scripts:
            await self._redis.script_load(one.script)


def _add_outcomes(pipeline: Pipeline, outcomes: Sequence[CommandOutcome]) -> None:
    for outcome in outcomes:
        pipeline.set(keys.outcome(CommandId(outcome.command_id)), outcome.to_json(), ex=keys.OUTCOME_TTL_S)
        pipeline.publish(keys.OUTCOME_CHANNEL, outcome.command_id)


def _text(reply: bytes | str | None) -> str | None:
    return reply.decode() if isinstance(reply, bytes) else reply


def _number(reply: bytes | str | None) -> int | None:
    return None if reply is None else int(reply)
