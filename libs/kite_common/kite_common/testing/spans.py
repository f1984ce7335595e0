"""For tests: a place for spans that keeps them."""

from dataclasses import dataclass, field

from kite_common.runtime.spans import Span, Tracer


@dataclass
class KeptSpans:
    """A SpanSink in memory, and a tracer into it that samples all that begins here, with ids and times in a row."""

    spans: list[Span] = field(default_factory=list)
    skipped: int = 0
    drawn: int = 0
    now_ns: int = 1_000

    def add(self, span: Span) -> None:
        self.spans.append(span)

    def skip(self, count: int) -> None:
        self.skipped += count

    def tracer(self, ratio: float = 1.0) -> Tracer:
        return Tracer(ratio, self, self._draw, self._tick)

    def _draw(self, bits: int) -> int:
        self.drawn += 1
        return self.drawn & ((1 << bits) - 1)

    def _tick(self) -> int:
        self.now_ns += 1
        return self.now_ns
