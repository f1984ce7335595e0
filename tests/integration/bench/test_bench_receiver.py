"""The endpoint of the benchmarks on a real socket: it answers at once, or hangs."""

import asyncio

from kite_cli.bench.load.client import Pool, ask
from kite_cli.bench.load.receiver import Arrivals
from kite_common.testing.eventually import eventually


def _post(event_id: str) -> bytes:
    return f"POST /in HTTP/1.1\r\nHost: x\r\nWebhook-Id: {event_id}\r\nContent-Length: 2\r\n\r\n{{}}".encode()


async def test_one_that_hangs_has_the_event_and_answers_later_while_others_answer_at_once() -> None:
    hanging, healthy = Arrivals(), Arrivals()
    hanging.hang_s = 3_600.0
    async with hanging.listening() as slow_url, healthy.listening() as url:
        slow, quick = (Pool("127.0.0.1", int(one.rpartition(":")[2].partition("/")[0]), 1) for one in (slow_url, url))
        await asyncio.gather(slow.open(), quick.open())
        waiting = asyncio.create_task(ask(slow.idle.popleft(), _post("evt_slow"), within_s=60))
        await eventually(lambda: "evt_slow" in hanging.at_s, what="the event has arrived")
        assert await ask(quick.idle.popleft(), _post("evt_quick")) == (204, b"")
        assert not waiting.done()
        await asyncio.gather(slow.close(), quick.close(), return_exceptions=True)
        assert await waiting == (0, b"")


async def test_one_that_hung_for_a_while_answers_then() -> None:
    arrivals = Arrivals()
    arrivals.hang_s = 0.05
    async with arrivals.listening() as url:
        pool = Pool("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]), 1)
        await pool.open()
        connection = pool.idle.popleft()
        assert await ask(connection, _post("evt_1")) == (204, b"")
        arrivals.hang_s = 0.0
        assert await ask(connection, _post("evt_2")) == (204, b"")
        assert arrivals.at_s["evt_1"] + 0.04 <= arrivals.at_s["evt_2"]
        await pool.close()
