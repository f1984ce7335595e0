"""Numbers from /metrics of the services. Changes nothing."""

import asyncio
import re
from collections.abc import Iterator
from typing import Final

import httpx

from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.whole import Kite

_LINE: Final = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# The services measure their lag once a second: what two looks so far apart agree on is true for both.
_LOOK_S: Final = 1.3


def total(exposition: str, name: str, **labels: str) -> float:
    """The sum of the samples of one metric whose labels include these, in the Prometheus text format; 0 if there is none."""
    return sum(value for found, its_labels, value in _samples(exposition) if found == name and labels.items() <= its_labels.items())


async def read(kite: Kite, service: str) -> str:
    """The exposition of a service; empty while it does not answer."""
    try:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            answer = await client.get(kite.local.addresses.url(service) + "/metrics")
    except httpx.TransportError:
        return ""
    return answer.text if answer.status_code == 200 else ""


async def settled(kite: Kite, *services: str, within_s: float = 300.0) -> None:
    """Wait until these services (billing, delivery and replay if none is named) have done all there is. Raises BenchFailed."""
    names = services or ("billing", "delivery", "replay")
    calm = 0
    behind: dict[str, float] = {}
    try:
        async with asyncio.timeout(within_s):
            while calm < 2:
                await asyncio.sleep(_LOOK_S)
                behind = {name: total(await read(kite, name), "kite_consumer_lag") for name in names}
                calm = 0 if any(behind.values()) else calm + 1
    except TimeoutError as error:
        raise BenchFailed(f"services do not catch up within {within_s:.0f} s: {behind}") from error


def _samples(exposition: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in exposition.splitlines():
        matched = _LINE.match(line)
        if matched is not None:
            yield matched[1], dict(_LABEL.findall(matched[2] or "")), float(matched[3])
