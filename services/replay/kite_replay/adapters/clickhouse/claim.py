"""One rebuild at a time of the archive on a server: a claim in its first database, renewed for as long as it is held.

Two that filled one generation side by side would each go on from the rows the other has just stored, and store them once more. In this
process (chDB) the engine's lock on its folder keeps them apart. The claim is a row every few seconds; whoever has the oldest one that is
still renewed is the holder, by the server's clock. One that could not renew in time, because it was frozen or cut off, never renews again:
another may have begun. It is asked right before each insert, as an archiver's pulse is.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from kite_common.errors import KiteError
from kite_common.runtime.observe import get_logger
from kite_common.runtime.system import boottime_s
from kite_replay.adapters.clickhouse.address import Server
from kite_replay.adapters.clickhouse.clients import open_client

log = get_logger("kite.replay.rebuild")

# A claim that is not renewed for so long is nobody's; its holder has stopped before.
LAPSES_AFTER_S: Final = 30
_HELD_FOR_S: Final = LAPSES_AFTER_S / 2
_RENEW_EVERY_S: Final = 2.0
# A row becomes visible somewhat after its time: two that begin at the same moment see each other by then.
_SURE_AFTER_S: Final = 1.0

_TABLE: Final = "archive_rebuilds"
_CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {_TABLE} (token String, ended UInt8, at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'))"
    " ENGINE = MergeTree ORDER BY at TTL toDateTime(at) + INTERVAL 1 DAY"
)
_HOLDER: Final = (
    f"SELECT token FROM {_TABLE} GROUP BY token"  # noqa: S608 - names of our own
    f" HAVING max(ended) = 0 AND max(at) > now64(3, 'UTC') - INTERVAL {LAPSES_AFTER_S} SECOND ORDER BY min(at), token LIMIT 1"
)


class Claimed(KiteError):
    """Another rebuild of this archive is under way."""


class Claim:
    """One rebuild's claim. `take` and `renew` block; `time_s` goes on while the process is frozen."""

    def __init__(self, base: Server, time_s: Callable[[], float] = boottime_s) -> None:
        self._base, self._time_s, self._token = base, time_s, token_hex(8)
        self._renewed_s: float | None = None

    def is_held(self) -> bool:
        """Whether it was renewed in time: who comes then finds it. Once it is not held, it never is again."""
        renewed_s = self._renewed_s
        if renewed_s is not None and self._time_s() - renewed_s > _HELD_FOR_S:
            self._renewed_s = renewed_s = None
        return renewed_s is not None

    def take(self) -> None:
        """Say that we begin, which counts once `renew` has found so, too. Raises Claimed, and what clickhouse-connect raises."""
        for database, statement in (("default", f"CREATE DATABASE IF NOT EXISTS `{self._base.database}`"), (self._base.database, _CREATE)):
            client = open_client(self._base, database)
            try:
                client.command(statement)
            finally:
                client.close()
        self._renewed_s = self._time_s()
        self._say()

    def end(self) -> None:
        """Let the next one begin at once. Raises what clickhouse-connect raises; then the claim lapses."""
        self._renewed_s = None
        client = open_client(self._base, self._base.database)
        try:
            self._write(client, ended=True)
        finally:
            client.close()

    def renew(self) -> None:
        """Go on holding it. Raises Claimed if another holds it or we were late, and what clickhouse-connect raises."""
        if not self.is_held():
            raise Claimed("another rebuild of this archive may have begun while this one stood still")
        self._say()

    def _say(self) -> None:
        began_s, client = self._time_s(), open_client(self._base, self._base.database)
        try:
            self._write(client, ended=False)
            holder = self._holder(client)
            if holder != self._token:
                self._renewed_s = None
                self._write(client, ended=True)
                raise Claimed("another rebuild of this archive is under way")
        finally:
            client.close()
        if self._renewed_s is not None:
            self._renewed_s = began_s

    def _write(self, client: Client, *, ended: bool) -> None:
        client.insert(_TABLE, [[self._token, int(ended)]], column_names=["token", "ended"], settings={"async_insert": 0})

    def _holder(self, client: Client) -> str | None:
        found = client.query(_HOLDER).result_rows
        return str(found[0][0]) if found else None


@asynccontextmanager
async def held(claim: Claim) -> AsyncIterator[None]:
    """Hold the claim while inside. Raises Claimed if another rebuild does."""
    try:
        await asyncio.to_thread(claim.take)
        await asyncio.sleep(_SURE_AFTER_S)
        await asyncio.to_thread(claim.renew)
        renewing = asyncio.create_task(_keep(claim))
        try:
            yield
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing
    finally:
        with contextlib.suppress(ClickHouseError, OSError):
            await asyncio.to_thread(claim.end)


async def _keep(claim: Claim) -> None:
    while claim.is_held():
        await asyncio.sleep(_RENEW_EVERY_S)
        try:
            await asyncio.to_thread(claim.renew)
        except Claimed as error:
            log.error("rebuild.claim_lost", reason=str(error))  # noqa: TRY400 - a stack tells nothing that the reason does not
        except (ClickHouseError, OSError) as error:
            # It is tried again for as long as it is held; then the next insert is not made.
            log.warning("rebuild.claim_not_renewed", reason=type(error).__name__)
