"""A statement whose parameters are too long for a URL comes as a form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3 import encode_multipart_formdata

from kite_cli.local.clickhouse.form import form_fields
from kite_cli.local.clickhouse.statement import BadRequest


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,20}", fullmatch=True), st.text(), min_size=1))
def test_what_a_client_sends_is_what_is_asked(fields: dict[str, str]) -> None:
    body, content_type = encode_multipart_formdata(fields)
    assert form_fields(content_type, body) == list(fields.items())


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_another_body_is_no_form(content_type: str) -> None:
    assert form_fields(content_type, b"SELECT 1") is None


@pytest.mark.parametrize(
    ("content_type", "body", "told"),
    [
        ("multipart/form-data", b"--x\r\n\r\n--x--", "cannot be read"),
        ("multipart/form-data; boundary=x", b"SELECT 1", "cannot be read"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nSELECT 1\r\n--x--\r\n", "has no name"),
        (
            "multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n\r\n1\r\n--x--\r\n',
            "no files",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused(content_type: str, body: bytes, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        form_fields(content_type, body)
