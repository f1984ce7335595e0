"""Where the generations of an archive are, and which step was the last: a file beside the chDB folder, a table on a server. Blocking."""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol, assert_never

import orjson
from clickhouse_connect.driver.client import Client

from kite_replay.adapters.clickhouse.address import Address, InProcess, Server
from kite_replay.adapters.clickhouse.claim import Claim
from kite_replay.adapters.clickhouse.clients import open_client
from kite_replay.domain.generation import Generation
from kite_replay.domain.rows import TABLES

_TABLE: Final = "archive_generations"
_OF_GENERATION: Final = re.compile(r"\.g(\d+)$")
_CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {_TABLE} (number UInt32, before UInt32, opened UInt8, at_ms UInt64)"
    " ENGINE = MergeTree ORDER BY at_ms SETTINGS fsync_after_insert = 1"
)


class Generations(Protocol):
    """All raise what clickhouse-connect or the file system raises."""

    def last(self) -> Generation | None:
        """The last step that was written; None if there never was a rebuild."""
        ...

    def write(self, step: Generation) -> None:
        """Make this the last step, in one moment for everybody."""
        ...

    def address(self, number: int) -> Address:
        """Where a generation is."""
        ...

    def drop(self, number: int) -> None:
        """Remove all of a generation, which nobody may use; nothing if there is none."""
        ...

    def lost(self) -> int | None:
        """The highest later generation, if it is there although neither the list of steps is nor the first archive: both were removed."""
        ...

    def claim(self) -> Claim | None:
        """What keeps two rebuilds apart; None where the engine's lock does."""
        ...


def generations_of(address: Address) -> Generations:
    """Those of the archive that a setting names."""
    match address:
        case InProcess():
            return _Folders(address)
        case Server():
            return _Databases(address)
        case _:
            assert_never(address)


class _Folders:
    """Folders side by side: `clickhouse`, `clickhouse.g1`, ...; the last step is in `clickhouse.generation`."""

    def __init__(self, base: InProcess) -> None:
        self._base = base
        self._file = Path(f"{base.path.rstrip('/')}.generation")

    def last(self) -> Generation | None:
        try:
            return Generation(**orjson.loads(self._file.read_bytes()))
        except FileNotFoundError:
            return None

    def write(self, step: Generation) -> None:
        new = self._file.with_suffix(".generation.new")
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            file.write(orjson.dumps(step))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)
        folder = os.open(self._file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def address(self, number: int) -> InProcess:
        return self._base if number == 0 else replace(self._base, path=f"{self._base.path.rstrip('/')}.g{number}")

    def drop(self, number: int) -> None:
        path = Path(self.address(number).path)
        with contextlib.ExitStack() as held:
            with contextlib.suppress(FileNotFoundError):
                # The engine's own lock: whoever has the folder open keeps it. Raises BlockingIOError.
                status = held.enter_context((path / "status").open("rb+"))
                fcntl.flock(status, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)

    def lost(self) -> int | None:
        first = Path(self._base.path.rstrip("/"))
        if self._file.exists() or (first.is_dir() and any(first.iterdir())):
            return None
        return _highest(one.name for one in first.parent.glob(f"{first.name}.g*") if one.is_dir())

    def claim(self) -> None:
        return None


class _Databases:
    """Databases side by side: `kite`, `kite_g1`, ...; the steps are rows in a table of the first one."""

    def __init__(self, base: Server) -> None:
        self._base = base

    def last(self) -> Generation | None:
        client = open_client(self._base, "default")
        try:
            if not _has_table(client, self._base.database):
                return None
            rows = client.query(
                f"SELECT number, before, opened, at_ms FROM `{self._base.database}`.{_TABLE}"  # noqa: S608 - names of our own settings
                " ORDER BY at_ms DESC, opened DESC LIMIT 1"
            ).result_rows
        finally:
            client.close()
        return Generation(int(rows[0][0]), int(rows[0][1]), bool(rows[0][2]), int(rows[0][3])) if rows else None

    def write(self, step: Generation) -> None:
        client = open_client(self._base, self._base.database)
        try:
            client.command(_CREATE)
            row = [step.number, step.before, int(step.opened), step.at_ms]
            client.insert(_TABLE, [row], column_names=["number", "before", "opened", "at_ms"])
        finally:
            client.close()

    def address(self, number: int) -> Server:
        return self._base if number == 0 else replace(self._base, database=f"{self._base.database}_g{number}")

    def drop(self, number: int) -> None:
        client = open_client(self._base, "default")
        try:
            client.command(f"DROP DATABASE IF EXISTS `{self.address(number).database}` SYNC")
        finally:
            client.close()

    def lost(self) -> int | None:
        client = open_client(self._base, "default")
        try:
            if any(_has_table(client, self._base.database, name) for name in (_TABLE, *(table.name for table in TABLES))):
                return None
            found = client.query(
                "SELECT name FROM system.databases WHERE startsWith(name, {beginning:String})",
                parameters={"beginning": f"{self._base.database}_g"},
            ).result_rows  # fmt: skip
        finally:
            client.close()
        own = len(self._base.database)
        return _highest(f".{name[own + 1 :]}" for (name,) in found)

    def claim(self) -> Claim:
        return Claim(self._base)


def last_known(generations: Generations) -> Generation | None:
    """The last step. Where its list was lost with the first archive: as if the highest generation that is there were served, so that it is
    neither filled nor dropped, nor gone back behind."""
    last = generations.last()
    lost = generations.lost() if last is None else None
    return last if lost is None else Generation(lost, lost, opened=True, at_ms=0)


def _highest(names: Iterable[str]) -> int | None:
    numbers = [int(found[1]) for name in names if (found := _OF_GENERATION.search(name)) is not None]
    return max(numbers, default=None)


def _has_table(client: Client, database: str, name: str = _TABLE) -> bool:
    found = client.query(
        "SELECT count() FROM system.tables WHERE database = {database:String} AND name = {name:String}",
        parameters={"database": database, "name": name},
    )  # fmt: skip
    return bool(found.result_rows[0][0])
