"""Joins first attempts at one endpoint into one POST. Everything else about them stays apart: records, outcome, retries, lanes.

A batch is nothing that is kept: it exists from its first event until its answer, in memory. Each event of it takes that answer as its own.
What fails is tried again by itself, as every retry is, so one event that a receiver cannot take holds up no other. A crash forgets the
batch, its events are read again, and are perhaps joined differently.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kite_delivery.domain.delivery import Batching, Delivery, Endpoint
from kite_delivery.domain.outcome import Reply

MAX_BATCH_BYTES: Final = 1024 * 1024

Post = Callable[[Sequence[Delivery], Endpoint], Awaitable[Reply]]


class Joined(NamedTuple):
    """The answer of one POST for one of its events; of all of them at most one `speaks` for the endpoint (none, if it was cancelled)."""

    reply: Reply
    speaks: bool = True


# A batch is bound to one version of its config.
_Key = tuple[str, int]


@dataclass(eq=False, slots=True)
class _Batch:
    deliveries: list[Delivery] = field(default_factory=list)
    size: int = 0
    waiting: int = 0
    is_sent: bool = False
    complete: asyncio.Event = field(default_factory=asyncio.Event)


class Batches:
    """Batches that are gathering. `most` is how many events of an endpoint can be under way at once: more would be waited for in vain."""

    def __init__(self, post: Post, most: int) -> None:
        self._post, self._most = post, most
        self._gathering: dict[_Key, tuple[_Batch, asyncio.Task[Reply]]] = {}

    async def send(self, delivery: Delivery, endpoint: Endpoint, batching: Batching) -> Joined:
        """Send the event with whatever comes within `batching.max_wait_ms`; the answer they got. One that is cancelled stops no other.

        Raises what `post` raises, for each of them.
        """
        batch, task = self._joined(delivery, endpoint, batching)
        batch.waiting += 1
        try:
            reply = await asyncio.shield(task)
            return Joined(reply, batch.deliveries[0] is delivery)
        except asyncio.CancelledError:
            if not batch.is_sent:
                batch.deliveries.remove(delivery)
            raise
        finally:
            batch.waiting -= 1
            if not batch.waiting:
                self._close((endpoint.config_id, endpoint.updated_at), batch)
                task.cancel()

    def _joined(self, delivery: Delivery, endpoint: Endpoint, batching: Batching) -> tuple[_Batch, asyncio.Task[Reply]]:
        key, size = (endpoint.config_id, endpoint.updated_at), len(delivery.body)
        known = self._gathering.get(key)
        if known is not None and known[0].size + size > MAX_BATCH_BYTES:
            self._close(key, known[0])
            known = None
        if known is None:
            batch = _Batch()
            known = self._gathering[key] = batch, asyncio.create_task(self._gather(key, batch, endpoint, batching.max_wait_ms / 1000))
        batch, _ = known
        batch.deliveries.append(delivery)
        batch.size += size
        if len(batch.deliveries) >= min(batching.max_events, self._most):
            self._close(key, batch)
        return known

    async def _gather(self, key: _Key, batch: _Batch, endpoint: Endpoint, wait_s: float) -> Reply:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await batch.complete.wait()
        self._close(key, batch)
        batch.is_sent = True
        return await self._post(batch.deliveries, endpoint)

    def _close(self, key: _Key, batch: _Batch) -> None:
        """Nobody joins it any more."""
        batch.complete.set()
        if key in self._gathering and self._gathering[key][0] is batch:
            del self._gathering[key]
