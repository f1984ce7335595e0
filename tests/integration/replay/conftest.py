"""One chDB engine for all tests of a run: a process can host only one. A test isolates itself by team and partition, or by a database."""

import itertools
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from kite_replay.adapters.clickhouse.address import InProcess, parse_address
from kite_replay.adapters.clickhouse.archive import ClickHouseArchive
from support.clickhouse import Served, clickhouse_server
from support.replay_api import Api

_partitions = itertools.count(10)


@pytest.fixture(scope="session")
def chdb_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chdb")


@pytest.fixture(scope="session")
def archive(chdb_path: Path) -> Iterator[ClickHouseArchive]:
    # Retention must not reach the fixed times of the tests, whenever they run.
    archive = ClickHouseArchive(InProcess(str(chdb_path)), kept_days=3650)
    yield archive
    archive.close()


@pytest.fixture(scope="session")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """The archive's engine as a process of its own."""
    async with clickhouse_server(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture(scope="session")
def served_archive(served: Served) -> Iterator[ClickHouseArchive]:
    archive = ClickHouseArchive(parse_address(served.url), kept_days=3650)
    yield archive
    archive.close()


@pytest.fixture
def team() -> str:
    return f"team_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def partition() -> int:
    return next(_partitions)


@pytest.fixture
async def api(archive: ClickHouseArchive, stack: Any, team: str, partition: int) -> AsyncIterator[Api]:
    redis = Redis.from_url(stack.redis_url)
    api = Api(archive, redis, team, partition)
    await api.project()
    yield api
    await api.client.aclose()
    await redis.aclose()
