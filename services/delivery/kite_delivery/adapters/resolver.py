"""Names to addresses that may be dialled: looked up, every one checked, for a short while remembered. Knows no HTTP.

Look-ups run in threads of their own: a name server that hangs holds one thread a name (look-ups of one name share one), never
the loop, and never the threads others use. What is remembered is what was checked, so a name that is rebound in between gains nothing.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from kite_delivery.domain.target import all_allowed, parse_address

Lookup = Callable[[str], Sequence[str]]

_REMEMBER_S: Final = 30.0
_MAX_REMEMBERED: Final = 10_000
_THREADS: Final = 32


class TargetRefused(Exception):
    """The name stands for an address that may not be dialled. Not an OSError: nothing may take it for a failed connection."""


def system_lookup(host: str) -> list[str]:
    """All addresses the machine's resolver knows for a name, each once. Blocks; raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class CheckedResolver(AbstractResolver):
    """aiohttp's resolver: gives numeric addresses that passed `domain.target`, or raises TargetRefused; OSError for no such name."""

    def __init__(self, *, allow_private: bool, now_s: Callable[[], float], lookup: Lookup = system_lookup) -> None:
        self._allow_private, self._now_s, self._lookup = allow_private, now_s, lookup
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dns")
        self._running: dict[str, asyncio.Future[Sequence[str]]] = {}
        self._known: dict[str, tuple[float, Sequence[str]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's signature
    ) -> list[ResolveResult]:  # fmt: skip
        """The addresses to dial, of both families: the connector tries all there are."""
        addresses = await self._addresses(host)
        if not all_allowed(addresses, allow_private=self._allow_private):
            raise TargetRefused
        return [_result(host, address, port) for address in addresses]

    async def close(self) -> None:
        """Look up no more; threads that hang are left to end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _addresses(self, host: str) -> Sequence[str]:
        known = self._known.get(host)
        if known is not None and known[0] > self._now_s():
            return known[1]
        running = self._running.get(host)
        if running is None:
            running = asyncio.get_running_loop().run_in_executor(self._threads, self._lookup, host)
            self._running[host] = running
            running.add_done_callback(lambda done: self._looked_up(host, done))
        # Who gives up waiting must not end the look-up of others.
        return await asyncio.shield(running)

    def _looked_up(self, host: str, done: asyncio.Future[Sequence[str]]) -> None:
        self._running.pop(host, None)
        if done.cancelled() or done.exception() is not None:
            return
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[host] = (self._now_s() + _REMEMBER_S, done.result())


def _result(host: str, address: str, port: int) -> ResolveResult:
    parsed = parse_address(address)
    family = socket.AF_INET6 if parsed is not None and parsed.version == 6 else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
