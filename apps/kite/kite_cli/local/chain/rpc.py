"""JSON-RPC over HTTP to a node, one call at a time. Knows no method, keeps no connection between uses of the client."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

import httpx

_TIMEOUT_S: Final = 10.0


class RpcFailed(Exception):
    """A call had no result: no answer in time, none that can be read, or the node's own error, whose text is in it."""


class RpcRefused(RpcFailed):
    """The node's own error: asked again, it says the same."""


class Rpc:
    """One node. Every call raises RpcFailed."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http, self.url, self._ids = http, url, count(1)

    async def call(self, method: str, *parameters: object) -> Any:
        """The `result` of a call, which may be null."""
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": parameters}
        try:
            answer = (await self._http.post(self.url, json=request)).json()
            if "error" in answer:
                raise RpcRefused(f"{method}: {answer['error'].get('message', 'refused')}")
            return answer["result"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RpcFailed(f"{method}: no usable answer ({type(error).__name__})") from error

    async def number(self, method: str, *parameters: object) -> int:
        """The result of a call that answers with a quantity, such as `eth_blockNumber`."""
        try:
            return int(await self.call(method, *parameters), 16)
        except (TypeError, ValueError) as error:
            raise RpcFailed(f"{method}: the answer is no quantity") from error


@asynccontextmanager
async def local_rpc(url: str, timeout_s: float = _TIMEOUT_S) -> AsyncIterator[Rpc]:
    """A node on this machine: no proxy, and no authorities are read from disk for a connection that has no TLS."""
    transport = httpx.AsyncHTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    async with httpx.AsyncClient(transport=transport, timeout=timeout_s) as http:
        yield Rpc(http, url)


@asynccontextmanager
async def chain_rpc(url: str, timeout_s: float = _TIMEOUT_S) -> AsyncIterator[Rpc]:
    """Any node, by TLS too."""
    async with httpx.AsyncClient(timeout=timeout_s) as http:
        yield Rpc(http, url)
