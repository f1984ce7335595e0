"""Measures a start from an empty data folder to the first 202, and the memory of everything at rest, with all that `kitectl up` starts."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.load.job import Sender
from kite_cli.bench.options import Sizes
from kite_cli.bench.processes import resident_mib
from kite_cli.bench.steps import Steps
from kite_cli.bench.teams import open_teams
from kite_cli.bench.whole import Kite, kite_with_payments

_ACCEPTED_WITHIN_S = 30.0
_AGAIN_S = 0.02


@dataclass(frozen=True, slots=True)
class Start:
    """One start. `ready_s`: until all services say they are ready; `first_202_s`: until a new team's message is accepted."""

    ready_s: float
    first_202_s: float
    resident_mib: Mapping[str, float]


async def measure_start(sizes: Sizes, steps: Steps) -> tuple[Start, ...]:
    """Start Kite `sizes.runs` times. Raises BenchFailed, StepFailed."""
    return tuple([await _start(sizes, steps) for _ in range(sizes.runs)])


async def _start(sizes: Sizes, steps: Steps) -> Start:
    async with steps.step("start from an empty folder, and rest", 20 + sizes.rest_s) as step:
        began = time.monotonic()
        async with kite_with_payments() as kite:
            ready_s = time.monotonic() - began
            (sender,) = await open_teams(kite, 1)
            await first_accepted(kite, sender)
            first_202_s = time.monotonic() - began
            await asyncio.sleep(sizes.rest_s)
            start = Start(ready_s, first_202_s, resident_mib(kite.pids))
        step.said = f"first 202 after {first_202_s:.1f} s, {sum(start.resident_mib.values()):.0f} MiB at rest"
    return start


async def first_accepted(kite: Kite, sender: Sender) -> None:
    """Send one message until it is accepted: a new key takes a moment to reach the gateway. Raises BenchFailed."""
    body = {"from": "planner", "to": "builder", "body": "first"}
    url, headers = kite.local.addresses.url("gateway") + "/api/v1/agents/messages", {"Authorization": f"Bearer {sender.key}"}
    answer = "nothing"
    try:
        async with asyncio.timeout(_ACCEPTED_WITHIN_S), httpx.AsyncClient(trust_env=False) as client:
            while True:
                response = await client.post(url, params={"team_id": sender.team_id}, json=body, headers=headers)
                if response.status_code == 202:
                    return
                answer = f"{response.status_code} {response.text[:200]}"
                await asyncio.sleep(_AGAIN_S)
    except (TimeoutError, httpx.TransportError) as error:
        raise BenchFailed(f"no message is accepted: the gateway answers {answer}") from error
