"""Spans: what a sampled trace tells of one piece of work that is over. Knows no exporter; names are those of OpenTelemetry's conventions.

The ids are those of `TraceContext`, so a span has the very ids that headers carry and log lines say. An attribute never holds a body, a
key, a secret, a signature, a path with what callers put into it, or a query.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from kite_common.runtime.system import random_bits, unix_ns
from kite_common.runtime.trace import TraceContext

SpanKind = Literal["server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool | None]

_SPAN_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Span:
    """One span. Times are nanoseconds since 1970; an attribute that is None is not there; `error` is its `error.type`, None = none."""

    context: TraceContext
    parent_id: str | None
    name: str
    kind: SpanKind
    start_ns: int
    end_ns: int
    attributes: Attributes
    error: str | None = None


class SpanSink(Protocol):
    """Where spans go. Never blocks, never raises, and takes no more than it has room for."""

    def add(self, span: Span) -> None:
        """One span of a sampled trace."""
        ...

    def skip(self, count: int) -> None:
        """So many spans were not made, because they were too many at once."""
        ...


@dataclass(frozen=True, slots=True)
class Tracer:
    """What the parts of a service know of tracing. Where tracing is off they have None in its place, and ask for nothing else.

    `ratio`: the part of the traces beginning here that is sampled. `draw(n)` gives n random bits.
    """

    ratio: float
    sink: SpanSink
    draw: Callable[[int], int] = random_bits
    now_ns: Callable[[], int] = unix_ns

    def open(self, parent: TraceContext | None, name: str, kind: SpanKind, start_ns: int | None = None) -> "OpenSpan | None":
        """A span under `parent` that begins now, or at `start_ns`; None unless its trace is sampled."""
        if parent is None or not parent.sampled:
            return None
        begins_ns = self.now_ns() if start_ns is None else start_ns
        return OpenSpan(self, parent.child(self.draw(_SPAN_BITS)), parent.span_id, name, kind, begins_ns)


@dataclass(slots=True)
class OpenSpan:
    """A span that has begun. It is told of once, when it ends; one that never ends is not told of."""

    tracer: Tracer = field(repr=False)
    context: TraceContext
    parent_id: str | None
    name: str
    kind: SpanKind
    start_ns: int

    def end(self, attributes: Attributes, error: str | None = None) -> None:
        """It ends now, with an error (its kind in a word) or without. A clock that was set back makes it no shorter than nothing."""
        end_ns = max(self.start_ns, self.tracer.now_ns())
        self.tracer.sink.add(Span(self.context, self.parent_id, self.name, self.kind, self.start_ns, end_ns, attributes, error))
