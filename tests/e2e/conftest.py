"""One Kite for all end-to-end tests of a run, on the local stack or, with --containers, on servers in containers."""

from collections.abc import AsyncIterator

import pytest

from support.kite import Kite, ServersFor, kite, local_servers


@pytest.fixture(scope="session")
def servers_for(request: pytest.FixtureRequest) -> ServersFor:
    """What starts Kafka, Valkey and ClickHouse for a Kite that lives in a folder."""
    if not request.config.getoption("--containers"):
        return local_servers
    from support.containers import containers

    return containers


@pytest.fixture(scope="session")
async def whole(tmp_path_factory: pytest.TempPathFactory, servers_for: ServersFor) -> AsyncIterator[Kite]:
    data = tmp_path_factory.mktemp("kite")
    async with servers_for(data) as servers, kite(data, servers=servers) as running:
        yield running
