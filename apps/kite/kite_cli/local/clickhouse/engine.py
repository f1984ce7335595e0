"""The engine: chDB on one folder, open as long as the process lives; each statement on a handle of its own. Blocking. Knows no HTTP."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode

import chdb

from kite_cli.local.clickhouse.statement import Question, identifier, quoted

# By default the engine takes up to 90 % of the machine's memory, which it shares with all of Kite here. The limit counts the whole
# process, Python and the mapped library too (about 350 MiB at rest).
_OPTIONS: Final = {
    "max_server_memory_usage": str(1536 * 1024 * 1024),
    "mark_cache_size": str(64 * 1024 * 1024),
    "primary_index_cache_size": str(64 * 1024 * 1024),
    "query_condition_cache_size": str(4 * 1024 * 1024),
    "compiled_expression_cache_size": str(8 * 1024 * 1024),
}
# Their blocks one behind the other are an answer of that format; others have a head or an end, and are made as a whole.
_IN_BLOCKS: Final = frozenset({"Native", "TabSeparated", "TSV", "CSV", "RowBinary", "JSONEachRow"})
_PLAIN: Final = "TabSeparated"


class EngineError(Exception):
    """The engine refuses a statement; the text begins with `Code: n.`"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement returned: `format` "" if it has no result. `summary` is counts, as ClickHouse names them."""

    blocks: Iterator[bytes]
    format: str
    summary: dict[str, str]


class Engine:
    """One folder's engine. Its methods may be called from several threads at once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._address = f"{folder.resolve()}?{urlencode(_OPTIONS)}"
        self._keeps_open: Any = None

    def __enter__(self) -> Self:
        """Open the folder. Raises EngineError, for example while another process has it."""
        self._keeps_open = self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._keeps_open.close()

    def ask(self, question: Question) -> Answer:
        """Run a statement; its answer's blocks must be read to the end or closed. Raises EngineError."""
        with contextlib.ExitStack() as closing:
            handle = self._connect()
            closing.callback(handle.close)
            with _said_by_the_engine():
                _prepare(handle, question)
                if question.is_insert:
                    return _inserted(handle, question)
                if question.format in _IN_BLOCKS and not question.buffered:
                    return _in_blocks(handle, question, closing.pop_all())
                return _whole(handle, question)

    def _connect(self) -> Any:
        with _said_by_the_engine():
            return chdb.connect(self._address)


def _prepare(handle: Any, question: Question) -> None:
    """Give the handle what this statement brings; nothing stays, since the handle ends with it."""
    if question.database:
        handle.query(f"USE {identifier(question.database)}")
    for name, value in question.settings.items():
        handle.query(f"SET {name} = {quoted(value)}")
    if question.readonly:
        handle.query("SET readonly = 2")


def _inserted(handle: Any, question: Question) -> Answer:
    if question.data is None:
        result = handle.query(question.text, _PLAIN, params=dict(question.parameters))
    else:
        with _as_file(question.data) as path:
            text = b"%b FROM INFILE %b%b" % (question.text, quoted(path).encode(), question.after)
            result = handle.query(text, _PLAIN, params=dict(question.parameters))
    # An insert from a file reads exactly the rows it writes.
    written = {"written_rows": str(result.rows_read()), "written_bytes": str(result.bytes_read())}
    return Answer(iter(()), "", _summary(result) | written)


def _whole(handle: Any, question: Question) -> Answer:
    if wanted := question.format or question.default_format:
        result = handle.query(question.text, wanted, params=dict(question.parameters))
        return Answer(iter((result.bytes(),)), wanted, _summary(result))
    # Only with its names does an answer without rows differ from none.
    result = handle.query(question.text, "TabSeparatedWithNames", params=dict(question.parameters))
    names, _, rows = result.bytes().partition(b"\n")
    return Answer(iter((rows,)), _PLAIN if names else "", _summary(result))


def _in_blocks(handle: Any, question: Question, closing: contextlib.ExitStack) -> Answer:
    with contextlib.ExitStack() as failing:
        failing.push(closing)
        stream = handle.send_query(question.text, question.format, params=dict(question.parameters))
        first = _next(stream)  # before anything is answered: most errors come now
        failing.pop_all()
    return Answer(_blocks(first, stream, closing), question.format, {})


def _blocks(first: bytes | None, stream: Any, closing: contextlib.ExitStack) -> Iterator[bytes]:
    with closing, _said_by_the_engine():
        closing.callback(stream.close)
        block = first
        while block is not None:
            yield block
            block = _next(stream)


def _next(stream: Any) -> bytes | None:
    for chunk in stream:
        return bytes(chunk.bytes())
    return None


def _summary(result: Any) -> dict[str, str]:
    elapsed_ns = int(result.elapsed() * 1_000_000_000)
    return {"read_rows": str(result.rows_read()), "read_bytes": str(result.bytes_read()), "elapsed_ns": str(elapsed_ns)}


@contextlib.contextmanager
def _as_file(data: bytes | memoryview) -> Iterator[str]:
    """A file of these bytes, as the engine opens it; in memory where the system can, so that a kill leaves nothing behind."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("insert"), "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.NamedTemporaryFile(suffix=".insert") as file:
        file.write(data)
        file.flush()
        yield file.name


@contextlib.contextmanager
def _said_by_the_engine() -> Iterator[None]:
    # chDB raises plain RuntimeError and its subclasses for all that a statement may do wrong.
    try:
        yield
    except RuntimeError as error:
        raise EngineError(_from_code(str(error))) from error


def _from_code(text: str) -> str:
    at = text.find("Code: ")
    return text[at:].strip() if at > 0 else text.strip()
