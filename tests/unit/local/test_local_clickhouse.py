"""What a request to the local ClickHouse server asks of the engine."""

import gzip
import importlib
import zlib

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from kite_cli.local.clickhouse.compression import decompressed
from kite_cli.local.clickhouse.http import refusal
from kite_cli.local.clickhouse.statement import BadRequest, identifier, question, quoted


def test_parameters_settings_and_the_interfaces_own_words_are_told_apart() -> None:
    given = {"query": "SELECT 1", "param_x": "a", "max_threads": "1", "database": "kite", "wait_end_of_query": "1", "query_id": "7"}
    asked = question(given.items(), b"", readonly=True)
    assert (asked.text, asked.parameters, asked.settings) == (b"SELECT 1", {"x": "a"}, {"max_threads": "1"})
    assert (asked.database, asked.buffered, asked.readonly, asked.data) == ("kite", True, True, None)


@pytest.mark.parametrize(
    ("query", "body", "text", "after", "data"),
    [
        ("", b"INSERT INTO t (`a`, `b`) FORMAT Native\n\x00;\nx", b"INSERT INTO t (`a`, `b`)", b" FORMAT Native", b"\x00;\nx"),
        ("INSERT INTO t FORMAT CSV", b"1,2\n", b"INSERT INTO t", b" FORMAT CSV", b"1,2\n"),
        ("insert into t settings async_insert=0 format TSV", b"1", b"insert into t", b" settings async_insert=0 FORMAT TSV", b"1"),
        ("", b"INSERT INTO t FORMAT JSONEachRow {}", b"INSERT INTO t", b" FORMAT JSONEachRow", b"{}"),
    ],
)
def test_the_data_of_an_insert_follow_its_format(query: str, body: bytes, text: bytes, after: bytes, data: bytes) -> None:
    asked = question([("query", query)], body, readonly=False)
    assert asked.is_insert
    assert asked.data is not None
    assert (asked.text, asked.after, bytes(asked.data)) == (text, after, data)


@pytest.mark.parametrize("text", [b"INSERT INTO t VALUES (1)", b"INSERT INTO t SELECT 1", b"INSERT INTO t SELECT ' FORMAT CSV' FROM x"])
def test_an_insert_that_brings_no_data_is_left_as_it_is(text: bytes) -> None:
    asked = question([], text, readonly=False)
    assert (asked.text, asked.data, asked.is_insert) == (text, None, True)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("SELECT 1", ""), ("SELECT 1\n FORMAT Native", "Native"), ("SELECT 1 format JSON SETTINGS max_threads = 1;", "JSON")],
)
def test_a_statement_may_name_its_format(text: str, wanted: str) -> None:
    assert question([], text.encode(), readonly=False).format == wanted


@pytest.mark.parametrize(
    ("pairs", "code"),
    [([], 62), ([("query", " ")], 62), ([("query", "SELECT 1"), ("session_id", "s")], 48), ([("query", "x"), ("a b", "1")], 115)],
)
def test_what_is_not_taken_is_said_with_its_code(pairs: list[tuple[str, str]], code: int) -> None:
    with pytest.raises(BadRequest) as raised:
        question(pairs, b"", readonly=False)
    assert refusal(str(raised.value)).headers["X-ClickHouse-Exception-Code"] == str(code)


@given(st.text())
def test_no_text_ends_its_literal_or_its_name(text: str) -> None:
    for written, mark in ((quoted(text), "'"), (identifier(text), "`")):
        inside = written[1:-1].replace("\\\\", "")
        assert mark not in inside.replace(f"\\{mark}", "")
        assert not inside.endswith("\\")


def test_bodies_are_decompressed_and_what_is_not_what_it_says_is_refused() -> None:
    assert decompressed(gzip.compress(b"abc"), "gzip") == decompressed(b"abc", "") == b"abc"
    for encoding in ("gzip", "lz4", "zstd", "deflate", "br"):
        with pytest.raises(BadRequest):
            decompressed(b"abc", encoding)


@given(st.lists(st.binary(max_size=50), min_size=1))
def test_a_body_of_several_frames_is_decompressed_whole(blocks: list[bytes]) -> None:
    lz4 = importlib.import_module("lz4.frame")
    for encoding, compress in (("lz4", lz4.compress), ("zstd", zstd.compress), ("gzip", gzip.compress)):
        body = b"".join(compress(block) for block in blocks)
        assert decompressed(body, encoding) == b"".join(blocks)
        with pytest.raises(BadRequest):
            decompressed(body[:-1], encoding)


def test_what_follows_a_deflated_body_is_not_left_out_in_silence() -> None:
    body = zlib.compress(b"abc")
    assert decompressed(body, "deflate") == b"abc"
    for wrong in (body + body, body[:-1]):
        with pytest.raises(BadRequest):
            decompressed(wrong, "deflate")


@pytest.mark.parametrize(("text", "status"), [("Code: 60. x", 404), ("Code: 62. x", 400), ("Code: 241. x", 500), ("no code", 500)])
def test_errors_have_the_status_of_their_code(text: str, status: int) -> None:
    assert refusal(text).status_code == status
