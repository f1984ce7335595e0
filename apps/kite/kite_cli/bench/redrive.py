"""Measures redriving: how fast deliveries of one team are ordered page by page through the gateway, and until the endpoint has them all.

    python -m kite_cli.bench.redrive --deliveries 20000
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx
from rich.console import Console

from kite_cli.bench.backlog import append_backlog
from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.load.job import Sender
from kite_cli.bench.load.receiver import Arrivals
from kite_cli.bench.machine import Machine, this_machine
from kite_cli.bench.scrape import read, total
from kite_cli.bench.steps import Steps
from kite_cli.bench.teams import bearer, open_teams, set_webhook
from kite_cli.bench.whole import Kite, whole_kite
from kite_cli.local.readiness import ReadyCheck, until
from kite_cli.local.step import StepFailed

_BODY_BYTES: Final = 1_000
_PAGE: Final = 1_000
_LOOK_S: Final = 0.2
_WITHIN_S: Final = 900.0
_DELIVERIES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Redrive:
    """One run: `deliveries` that had no endpoint; redriven to one endpoint that answers at once. Rates are deliveries a second, from the
    first request: until the last page was answered, and until the last event had come."""

    deliveries: int
    ordered_per_s: float
    delivered_per_s: float
    slowest_page_ms: float


async def measure_redrive(deliveries: int, steps: Steps) -> Redrive:
    """Redrive so many deliveries of one team on a stack of its own. Raises BenchFailed, StepFailed."""
    async with whole_kite() as kite, _listening() as (arrivals, url):
        (team,) = await open_teams(kite, 1)
        async with steps.step(f"{deliveries:,} events without an endpoint", deliveries / 1_000):
            await append_backlog(kite, (team,), deliveries, _BODY_BYTES, lambda _done: None)
            await _within(lambda: _archived(kite, deliveries), "the deliveries are not archived")
        async with httpx.AsyncClient(base_url=kite.local.addresses.url("gateway"), timeout=60, trust_env=False) as client:
            await set_webhook(client, team, url)
            async with steps.step("redriven", deliveries / 500) as step:
                found = await _redriven(client, team, deliveries, arrivals)
                step.said = f"{found.ordered_per_s:,.0f} ordered/s, {found.delivered_per_s:,.0f} delivered/s"
    return found


def to_markdown(runs: Sequence[Redrive], machine: Machine | None = None) -> str:
    """The section of a report."""
    rows = [
        f"| {one.deliveries:,} | {one.ordered_per_s:,.0f} | {one.delivered_per_s:,.0f} | {one.slowest_page_ms:,.0f} |" for one in runs
    ]
    about = "" if machine is None else f"{machine.cpu}, {machine.cores} cores, commit {machine.commit}. "
    return "\n".join([
        "### Redrive", "",
        f"{about}One team, one endpoint that answers at once, events of 1 KB; pages of {_PAGE:,} through the gateway. Ordered: until the",
        "last page was answered, each durable in the log. Delivered: until the endpoint had the last event.", "",
        "| deliveries | ordered/s | delivered/s | slowest page, ms |", "|---|---|---|---|", *rows, "",
    ])  # fmt: skip


def main() -> int:
    """Measure once and print the section; 1 with the reason if it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m kite_cli.bench.redrive")
    parser.add_argument("--deliveries", type=int, default=_DELIVERIES)
    arguments = parser.parse_args()
    try:
        found = asyncio.run(measure_redrive(arguments.deliveries, Steps(Console(stderr=True))))
    except (BenchFailed, StepFailed) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(to_markdown([found], this_machine()))
    return 0


@asynccontextmanager
async def _listening() -> AsyncIterator[tuple[Arrivals, str]]:
    arrivals = Arrivals()
    async with arrivals.listening() as url:
        yield arrivals, url


async def _archived(kite: Kite, deliveries: int) -> bool:
    found = await read(kite, "replay")
    return all(total(found, "kite_replay_rows_archived_total", table=table) >= deliveries for table in ("events", "deliveries"))


async def _redriven(client: httpx.AsyncClient, team: Sender, deliveries: int, arrivals: Arrivals) -> Redrive:
    query: dict[str, str | int] = {"team_id": team.team_id, "status": "no_endpoint", "limit": _PAGE}
    began, ordered, slowest_s = time.monotonic(), 0, 0.0
    while True:
        asked = time.monotonic()
        answer = await client.post("/api/v1/deliveries/redrive", params=query, headers=bearer(team))
        if answer.status_code != httpx.codes.ACCEPTED:
            raise BenchFailed(f"a page is answered {answer.status_code} {answer.text[:200]}")
        page = answer.json()
        ordered, slowest_s = ordered + page["redriven"], max(slowest_s, time.monotonic() - asked)
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    ordered_s = time.monotonic() - began
    if ordered != deliveries:
        raise BenchFailed(f"{ordered} of {deliveries} deliveries were ordered")
    await _within(lambda: _came(arrivals, deliveries), "the endpoint does not get everything")
    delivered_s = max(arrivals.at_s.values()) - began
    return Redrive(deliveries, ordered / ordered_s, deliveries / delivered_s, slowest_s * 1_000)


async def _came(arrivals: Arrivals, deliveries: int) -> bool:
    return len(arrivals.at_s) >= deliveries


async def _within(check: ReadyCheck, otherwise: str) -> None:
    try:
        async with asyncio.timeout(_WITHIN_S):
            await until(check, _LOOK_S)
    except TimeoutError as error:
        raise BenchFailed(f"{otherwise} within {_WITHIN_S:.0f} s") from error


if __name__ == "__main__":
    sys.exit(main())
