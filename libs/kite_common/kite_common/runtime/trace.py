"""W3C trace context: the header `traceparent`, read strictly, passed on from request to record to webhook. Draws no ids.

Whether a trace is recorded is decided once, where it begins, and stands in the flag `sampled` that everybody passes on.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Trace Context, section 3.2: version, trace id, parent id, flags. Lower case only; later versions may append more.
_TRACEPARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 0x01
# Of the trace id the decision goes by its last 64 bits, as OpenTelemetry's TraceIdRatioBased does.
_DECIDING_BITS: Final = 64
_DECIDING_DIGITS: Final = _DECIDING_BITS // 4


def is_sampled(trace_id: str, ratio: float) -> bool:
    """Whether a trace that begins belongs to the part `ratio`, 0 to 1, of all: the same for the same id, whoever asks."""
    return int(trace_id[-_DECIDING_DIGITS:], 16) < round(ratio * (1 << _DECIDING_BITS))


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Which trace a piece of work belongs to, and the span it is."""

    trace_id: str
    span_id: str
    sampled: bool = False

    @classmethod
    def parse(cls, header: str | bytes | None) -> "TraceContext | None":
        """The context of a `traceparent` header or record header; None for anything malformed, so that a new trace begins."""
        text = header.decode("latin-1") if isinstance(header, bytes) else header
        found = _TRACEPARENT.fullmatch(text) if text is not None else None
        if found is None or (found[1] == "00" and found[5] is not None):
            return None
        return cls(found[2], found[3], bool(int(found[4], 16) & _SAMPLED))

    @classmethod
    def begin(cls, random_bits: int, ratio: float = 0.0) -> "TraceContext":
        """A new trace of 192 random bits: 128 for the trace, 64 for its first span. The part `ratio` of all is sampled."""
        trace_id = f"{_nonzero(random_bits >> 64, 128):032x}"
        return cls(trace_id, f"{_nonzero(random_bits, 64):016x}", ratio > 0 and is_sampled(trace_id, ratio))

    @classmethod
    def of(cls, header: str | bytes | None, draw: Callable[[int], int], ratio: float = 0.0) -> "TraceContext":
        """The caller's trace, one span further, or a new one; `draw(n)` gives n random bits. A caller's decision to sample stands."""
        caller = cls.parse(header)
        return cls.begin(draw(192), ratio) if caller is None else caller.child(draw(64))

    def child(self, random_bits: int) -> "TraceContext":
        """The next span of the same trace, of 64 random bits."""
        return TraceContext(self.trace_id, f"{_nonzero(random_bits, 64):016x}", self.sampled)

    def header(self) -> str:
        """The `traceparent` to send on, version 00; flags other than sampled are not passed on (section 3.2.2.5)."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"

    def log_fields(self) -> dict[str, str]:
        """What a log line says of it: `log.info("...", **trace.log_fields())`."""
        return {"trace_id": self.trace_id, "span_id": self.span_id}


def _nonzero(bits: int, width: int) -> int:
    return bits & ((1 << width) - 1) or 1
