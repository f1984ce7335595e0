"""What an answer means (wire contract, 10.2; RFC 9110, 10.2.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_delivery.domain.outcome import (
    Answer,
    Delivered,
    Failure,
    Outcome,
    Permanent,
    SendError,
    Transient,
    classify,
    retry_after_ms,
)  # fmt: skip

# Wed, 21 Oct 2015 07:28:00 GMT
DATE_MS = 1_445_412_480_000
NOW_MS = DATE_MS - 90_000


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_delivered(status: int) -> None:
    assert classify(Answer(status), NOW_MS) == Delivered()


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 409, 422, 429, 500, 502, 503, 504, 599, 999])
def test_any_other_answer_may_work_later(status: int) -> None:
    assert classify(Answer(status), NOW_MS) == Transient()


def test_410_is_for_good() -> None:
    assert classify(Answer(410), NOW_MS) == Permanent("gone")


def test_a_broken_body_takes_nothing_from_the_status() -> None:
    assert classify(Answer(200, error="body_too_slow"), NOW_MS) == Delivered()


@pytest.mark.parametrize("error", ["timeout", "connect", "tls", "dns", "protocol", "secret"])
def test_no_answer_may_work_later(error: SendError) -> None:
    assert classify(Failure(error), NOW_MS) == Transient()


def test_a_forbidden_address_is_for_good() -> None:
    assert classify(Failure("blocked"), NOW_MS) == Permanent("blocked")


@pytest.mark.parametrize("status", [429, 503])
def test_429_and_503_may_ask_for_time(status: int) -> None:
    assert classify(Answer(status, retry_after="90"), NOW_MS) == Transient(NOW_MS + 90_000)


@pytest.mark.parametrize("status", [404, 500, 502])
def test_no_other_status_may_ask_for_time(status: int) -> None:
    assert classify(Answer(status, retry_after="90"), NOW_MS) == Transient()


@pytest.mark.parametrize(
    ("header", "expected_ms"),
    [
        ("0", NOW_MS),
        (" 120 ", NOW_MS + 120_000),
        ("Wed, 21 Oct 2015 07:28:00 GMT", DATE_MS),
        ("Wed, 21 Oct 2015 09:28:00 +0200", DATE_MS),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("99999999999999999999", None),
        ("soon", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_an_http_date(header: str | None, expected_ms: int | None) -> None:
    assert retry_after_ms(header, NOW_MS) == expected_ms


@given(st.integers(100, 999), st.none() | st.text(), st.integers(0, 4_000_000_000_000))
def test_whatever_a_receiver_says_has_an_outcome(status: int, header: str | None, now_ms: int) -> None:
    outcome: Outcome = classify(Answer(status, retry_after=header), now_ms)
    assert isinstance(outcome, Delivered) == (200 <= status < 300)
