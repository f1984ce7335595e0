"""What is the same of all public errors."""

import pytest

from kite_common.errors import CODES, ApiError


@pytest.mark.parametrize("code", [row.code for row in CODES.values() if row.status == 503])
def test_whoever_is_told_to_come_again_is_told_when(code: str) -> None:
    assert ApiError(code).body()["retry_after_secs"] == ApiError(code).retry_after_s == 2
    assert ApiError(code, retry_after_s=7).body()["retry_after_secs"] == 7


@pytest.mark.parametrize("code", [row.code for row in CODES.values() if row.status != 503])
def test_nobody_else_is_told_to_come_again_unasked(code: str) -> None:
    assert ApiError(code).retry_after_s is None
