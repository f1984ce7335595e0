"""Structured logs, metrics and trace context: what people and machines see of a process. Decides nothing.

A line is one JSON object: `ts`, `level`, `logger`, `event` (a dotted name in the past tense) and the fields of one whole unit of
work. Bodies are never logged; secrets are masked twice, by the name of the field and by their form anywhere in the finished line.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, BinaryIO, Final, Literal, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

from kite_common.clock import rfc3339
from kite_common.runtime.metrics import METRICS, MetricDef, Metrics
from kite_common.runtime.system import SystemClock
from kite_common.runtime.trace import TraceContext

__all__ = ["METRICS", "FilteringBoundLogger", "MetricDef", "Metrics", "TraceContext", "configure_logging", "get_logger", "mask_text"]

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "console"]

_MASK: Final = "****"
_SECRET_NAME: Final = re.compile(
    r"authorization|cookie|secret|password|passwd|pepper|token|api_?key|private_?key|cipher|signature|x_?payment|payment_header|credentials"
)
# Names that contain one of the words above and tell no secret.
_HARMLESS_NAME: Final = re.compile(r".*(_id|_prefix|_count|_kind|_expires_at|_seconds|_s|_ms)")
# Forms of our own secrets, bearer headers, passwords in URLs. The lookup prefix of a key stays: it is public.
_SECRET_TEXT: Final = re.compile(
    rb"\b(kite|khk)_([0-9a-f]{8})_[0-9a-f]{32}|\bwhsec_[A-Za-z0-9+/=_-]+|\b[Bb]earer [^\s\"\\]+|://[^\s/@\"\\]*:[^\s/@\"\\]+@"
)
# One of them stands in whatever the expression finds.
_SECRET_SIGNS: Final = (b"kite_", b"khk_", b"whsec_", b"earer ", b"://")
# Libraries that would write a line for what we count, or a warning a second while a broker is away.
_QUIET: Final[Mapping[str, int]] = {
    "uvicorn.error": logging.ERROR, "uvicorn.asgi": logging.WARNING, "httpx": logging.WARNING, "aiokafka": logging.WARNING,
    "opentelemetry": logging.CRITICAL,
}  # fmt: skip

_clock = SystemClock()


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger for lines with `logger` = name, such as `kite.gateway`. May be called at import: nothing is set up by it."""
    return cast(FilteringBoundLogger, structlog.get_logger(logger_name=name))


def configure_logging(level: LogLevel = "info", form: LogFormat = "json", stream: BinaryIO | None = None) -> None:
    """Set up logging of this process, of our own lines and of libraries'; lines go to `stream` (standard output).

    Called once, by `run_service`. Lines are written at once; a line is never cut or reordered within a process.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    out = stream or sys.stdout.buffer
    shared: list[Processor] = [structlog.stdlib.add_log_level, _add_time, structlog.processors.format_exc_info, _mask_fields]
    render: Processor = _render_json if form == "json" else _render_console
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    _route_libraries(number, [structlog.stdlib.add_logger_name, *shared], render, out)


def mask_text(text: bytes) -> bytes:
    """The text without what has the form of a secret of ours, a bearer header, or a password in a URL."""
    # Nearly no line has any of these, and looking for them costs a tenth of the expression.
    if any(sign in text for sign in _SECRET_SIGNS):
        return _SECRET_TEXT.sub(_masked_form, text)
    return text


def _masked_form(found: re.Match[bytes]) -> bytes:
    text = found[0]
    if found[1]:
        return b"%b_%b_****" % (found[1], found[2])
    if text.startswith(b"://"):
        return b"://****@"
    return text[:7] + b"****" if text.lower().startswith(b"bearer ") else b"whsec_****"


def _add_time(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    line["ts"] = rfc3339(_clock.unix_ms())
    if "logger_name" in line:
        line["logger"] = line.pop("logger_name")
    return line


def _mask_fields(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in line.items():
        line[name] = _masked_value(name, value)
    return line


def _masked_value(name: str, value: object) -> object:
    if value is not None and _is_secret(name):
        return _MASK
    if isinstance(value, Mapping):
        return {str(key): _masked_value(str(key), inner) for key, inner in value.items()}
    return value


@lru_cache(maxsize=4096)  # field names are few; a line has a dozen of them
def _is_secret(name: str) -> bool:
    plain = name.lower().replace("-", "_")
    return _SECRET_NAME.search(plain) is not None and _HARMLESS_NAME.fullmatch(plain) is None


def _render_json(_logger: object, _method: str, line: MutableMapping[str, Any]) -> bytes:
    line = {"ts": line.pop("ts", None), "level": line.pop("level", None), "event": line.pop("event", None), **line}
    try:
        rendered = orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        # Lone surrogates, huge integers, unusual keys: slower, but a line must never end the work it tells of.
        rendered = json.dumps(line, default=repr, skipkeys=True).encode()
    return mask_text(rendered)


def _render_console(_logger: object, _method: str, line: MutableMapping[str, Any]) -> bytes:
    time, level, event = str(line.pop("ts", ""))[11:], line.pop("level", ""), line.pop("event", "")
    trouble = line.pop("exception", None)
    text = f"{time} {level:<7} {line.pop('logger', '-')} {event} " + " ".join(f"{name}={value}" for name, value in line.items())
    return mask_text((text.rstrip() + (f"\n{trouble}" if trouble else "")).encode(errors="replace"))


def _route_libraries(level: int, before: list[Processor], render: Processor, out: BinaryIO) -> None:
    """Lines that libraries write with the standard logging module come out in the same form."""

    def as_text(logger: object, method: str, line: MutableMapping[str, Any]) -> str:
        rendered = render(logger, method, line)
        return rendered.decode(errors="replace") if isinstance(rendered, bytes) else str(rendered)

    without_own = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = _BytesHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=[without_own, as_text]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, floor in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, floor))


class _BytesHandler(logging.Handler):
    def __init__(self, out: BinaryIO) -> None:
        super().__init__()
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._out.write(self.format(record).encode(errors="replace") + b"\n")
            self._out.flush()
        except Exception:  # noqa: BLE001 - a line that cannot be written must not end the work it tells of
            self.handleError(record)
