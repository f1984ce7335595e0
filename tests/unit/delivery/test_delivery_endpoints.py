"""Configs of this moment: who waits for whom, and when the log is written to."""

import asyncio
from typing import Any, cast

import pytest

from kite_common.events.webhooks import WebhookConfigured
from kite_common.testing import make
from kite_delivery.adapters.endpoints import ConfigAt, TableEndpoints

CONFIG = make.webhook()


class Table:
    """One config; the partition `slow` never finishes loading."""

    def __init__(self, config: WebhookConfigured | None, slow: int = -1) -> None:
        self.held = None if config is None else ConfigAt(config, 1_000)
        self.slow, self.owned = slow, set[int]()

    def get(self, _key: str) -> ConfigAt | None:
        return self.held

    async def own(self, partition: int) -> None:
        if partition == self.slow:
            await asyncio.Event().wait()
        self.owned.add(partition)

    async def release(self, partition: int) -> None:
        self.owned.discard(partition)

    async def refreshed(self, partition: int | None = None) -> None: ...


class NoTurn:
    """Nobody may write."""

    def turn(self, _partition: int) -> Any:
        raise AssertionError("a turn was taken")


@pytest.mark.parametrize(
    "now",
    [None, CONFIG.model_copy(update={"active": False}), CONFIG.model_copy(update={"updated_at": CONFIG.updated_at + 1})],
    ids=["deleted", "off", "changed"],
)
async def test_410_from_an_endpoint_that_is_known_to_be_off_or_changed_takes_no_turn(now: WebhookConfigured | None) -> None:
    """A story: an endpoint that was gone answered 410 to all that was under way, and each answer cost the log a transaction."""
    seen = ConfigAt(CONFIG, 1_000).endpoint
    assert await TableEndpoints(Table(now), cast(Any, NoTurn()), ()).deactivate(seen, 3, 2_000) is False
    with pytest.raises(AssertionError, match="turn"):
        await TableEndpoints(Table(CONFIG), cast(Any, NoTurn()), ()).deactivate(seen, 3, 2_000)


async def test_a_partition_whose_configs_take_long_to_load_holds_up_no_other() -> None:
    table = Table(CONFIG, slow=1)
    endpoints = TableEndpoints(table, cast(Any, NoTurn()), ())

    async def hold(partition: int) -> None:
        async with endpoints.owned(partition):
            await asyncio.Event().wait()

    loading, other = asyncio.create_task(hold(1)), asyncio.create_task(hold(2))
    for _ in range(5):
        await asyncio.sleep(0)
    assert table.owned == {2}
    for task in (loading, other):
        task.cancel()
    await asyncio.wait([loading, other])
    assert table.owned == set()
