"""One Kite for all end-to-end tests of a run."""

from collections.abc import AsyncIterator

import pytest

from support.kite import Kite, kite


@pytest.fixture(scope="session")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kite]:
    async with kite(tmp_path_factory.mktemp("kite")) as running:
        yield running
