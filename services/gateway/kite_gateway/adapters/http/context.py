"""What one request carries through the app beside its ASGI scope. Made by the edge, filled by the routes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kite_common.runtime.trace import TraceContext
from kite_gateway.adapters.http.bodies import Bodies
from kite_gateway.domain.client import client_of
from kite_gateway.domain.rate_limit import RateLimit

_KEY: Final = "kite"
_PRIVATE: Final = (b"cache-control", b"private, no-store")
Header = tuple[bytes, bytes]
# Of a request that came without the edge.
_NO_TRACE: Final = TraceContext.begin(0)


@dataclass(slots=True)
class Context:
    """`head`: request headers; `extra`: headers every answer to this request gets; `code`: the error it was answered with.

    `trace` is the caller's trace, or a new one, and the span that this request is in it; `event_id` the event that was accepted.
    """

    request_id: str
    head: Mapping[bytes, bytes]
    extra: list[Header]
    team_id: str | None = None
    code: str | None = None
    trace: TraceContext = _NO_TRACE
    event_id: str | None = None
    # Set by the edge when the answer begins: from then on nothing else can be answered.
    status: int | None = None
    # Of all requests of this process; a request that came without has nobody to make room for.
    bodies: Bodies = field(default_factory=lambda: Bodies(1), repr=False)
    client_host: str | None = None

    @property
    def whose(self) -> str:
        """The team, once it is known, or the client: who a request is counted as before anything of it is paid."""
        return self.team_id or client_of(self.client_host)

    def tell_rate(self, rate: RateLimit | None) -> None:
        """Put the rate limit on the answer, if there is one (wire contract, 2.4)."""
        if rate is not None:
            self.extra += (
                (b"ratelimit-limit", b"%d" % rate.per_minute),
                (b"ratelimit-remaining", b"%d" % rate.remaining),
                (b"ratelimit-reset", b"%d" % rate.reset_s),
            )

    def keep_private(self) -> None:
        """Nobody on the way may keep the answer (wire contract, 2.2; payments specification, 2.3)."""
        self.extra.append(_PRIVATE)

    def not_said_yet(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Those of these headers that not every answer to this request gets anyway."""
        said = {name for name, _ in self.extra}
        return {name: value for name, value in headers.items() if name.lower().encode() not in said}


def context_of(scope: Any) -> Context:
    """The context of a request that came through the edge."""
    context: Context = scope[_KEY]
    return context


def found_context(scope: Any) -> Context | None:
    """The same for any request: None for one that the edge answered itself."""
    context: Context | None = scope.get(_KEY)
    return context


def attach(scope: Any, context: Context) -> None:
    """Let the app find the context again."""
    scope[_KEY] = context


def read_head(headers: Iterable[Header]) -> dict[bytes, bytes]:
    """Request headers by lower-case name; repeated ones joined by ", " (RFC 9110, section 5.3), so none can hide behind another."""
    head: dict[bytes, bytes] = {}
    for name, value in headers:
        head[name] = head[name] + b", " + value if name in head else value
    return head
