"""What a request asks of the engine: the statement, its data, its settings. Pure: bytes and parameters in, values out.

ClickHouse takes a statement in the parameter `query`, in the body, or split over both; the data of an INSERT follow its FORMAT.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

# Parameters of the interface itself; everything else in a query string is a setting of the statement.
_OF_THE_INTERFACE: Final = frozenset(
    {
        "query", "database", "default_format", "query_id", "wait_end_of_query", "buffer_size", "compress", "decompress", "quota_key",
        "role", "user", "password", "session_id", "session_timeout", "session_check", "close_session", "stacktrace",
        "client_protocol_version", "enable_http_compression", "http_zlib_compression_level", "send_progress_in_http_headers",
        "http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close", "add_http_cors_header",
    }
)  # fmt: skip
_PARAMETER: Final = "param_"
_NAME: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
# A statement without its data is never longer; only so much is looked at for the beginning of the data.
_HEAD_BYTES: Final = 64 * 1024
_INSERT: Final = re.compile(rb"^\s*INSERT\s", re.IGNORECASE)
_WITH_DATA: Final = re.compile(
    rb"^(\s*INSERT\s+INTO\s+(?:(?!\bSELECT\b|\bVALUES\b).)+?)(\s+SETTINGS\s.+?)?\s+FORMAT\s+(\w+)(?:[ \t]*\r?\n|\s*$|\s)",
    re.IGNORECASE | re.DOTALL,
)
_ENDS_WITH_FORMAT: Final = re.compile(rb"\bFORMAT\s+(\w+)(?:\s+SETTINGS\s[^;]*)?\s*;?\s*$", re.IGNORECASE)


class BadRequest(Exception):
    """A request the interface does not take: ClickHouse's error code, and its message."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {message}. ({name})")


@dataclass(frozen=True, slots=True)
class Question:
    """One statement for the engine.

    `data` None: `text` says all. Otherwise the statement is an INSERT whose data are read from a file: `text` goes before the clause
    that names it, `after` behind. `format` is what the statement itself asks for, "" if nothing.
    """

    text: bytes
    after: bytes = b""
    data: bytes | memoryview | None = None
    format: str = ""
    is_insert: bool = False
    database: str = ""
    default_format: str = ""
    buffered: bool = False
    readonly: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


def question(pairs: Iterable[tuple[str, str]], body: bytes, *, readonly: bool) -> Question:
    """The statement of a request with these parameters and this body, decompressed. Raises BadRequest."""
    given = dict(pairs)
    if given.get("session_id"):
        raise BadRequest(48, "NOT_IMPLEMENTED", "The local server has no sessions: open the client with autogenerate_session_id=False")
    settings = {name: value for name, value in given.items() if name not in _OF_THE_INTERFACE and not name.startswith(_PARAMETER)}
    for name in settings:
        if not _NAME.match(name):
            raise BadRequest(115, "UNKNOWN_SETTING", "Unknown setting: a name has letters, digits and underscores only")
    told = {
        "database": given.get("database", ""), "default_format": given.get("default_format", ""),
        "buffered": given.get("wait_end_of_query") == "1", "readonly": readonly, "settings": settings,
        "parameters": {name.removeprefix(_PARAMETER): value for name, value in given.items() if name.startswith(_PARAMETER)},
    }  # fmt: skip
    return _statement(given.get("query", "").encode(), body, told)


def _statement(query: bytes, body: bytes, told: Mapping[str, object]) -> Question:
    whole = query + b"\n" + body if query and body else query or body
    if not whole.strip():
        raise BadRequest(62, "SYNTAX_ERROR", "Empty query")
    if not _INSERT.match(whole[:_HEAD_BYTES]):
        found = _ENDS_WITH_FORMAT.search(whole[-_HEAD_BYTES:])
        return Question(whole, format=found.group(1).decode() if found else "", **told)  # type: ignore[arg-type]  # as named there
    head = _WITH_DATA.match(whole[:_HEAD_BYTES])
    if head is None:
        return Question(whole, is_insert=True, **told)  # type: ignore[arg-type]
    after = (head.group(2) or b"") + b" FORMAT " + head.group(3)
    return Question(head.group(1), after, memoryview(whole)[head.end() :], is_insert=True, **told)  # type: ignore[arg-type]


def quoted(text: str) -> str:
    """A text as a literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def identifier(name: str) -> str:
    """A name as an identifier."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
