"""One Kite that takes payments, for the tests of this folder."""

from collections.abc import AsyncIterator

import pytest

from support.payer_walk import PaidKite, paid_kite


@pytest.fixture(scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PaidKite]:
    async with paid_kite(tmp_path_factory.mktemp("paid") / "data") as running:
        yield running
