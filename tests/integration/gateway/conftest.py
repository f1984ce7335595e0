"""One running gateway for the tests that need no settings of their own; tests keep apart by teams."""

from collections.abc import AsyncIterator

import pytest

from support.gateway import Gateway, running_gateway
from support.stack import RunningStack


@pytest.fixture(scope="package")
async def gateway(stack: RunningStack) -> AsyncIterator[Gateway]:
    async with running_gateway(stack) as one:
        yield one
