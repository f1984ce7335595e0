"""What an answer, or the lack of one, means for a delivery. Plans no retry."""

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, Literal, assert_never

from kite_common.clock import to_unix_ms
from kite_delivery.domain.breaker import Verdict

# Why there was no answer: words that tell a team what to mend, and nothing about our network.
SendError = Literal["timeout", "connect", "tls", "dns", "blocked", "protocol", "secret"]

_GONE: Final = 410
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
_MAY_ASK_FOR_TIME: Final = frozenset((_TOO_MANY, 503))
_DELTA_SECONDS: Final = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Answer:
    """The receiver answered. `error` names what went wrong after the status line: a body that broke off or never ended."""

    status: int
    retry_after: str | None = None
    excerpt: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """There was no answer."""

    error: SendError


Reply = Answer | Failure


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has it."""


@dataclass(frozen=True, slots=True)
class Transient:
    """It may work later; not before `not_before_ms` if the receiver asked for time."""

    not_before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Permanent:
    """It will never work: the receiver is gone for good, or its address may not be dialled."""

    reason: Literal["gone", "blocked"]


Outcome = Delivered | Transient | Permanent


def classify(reply: Reply, now_ms: int) -> Outcome:
    """The outcome of an attempt that ended at `now_ms` (wire contract, 10.2). Only 429 and 503 may ask for time."""
    match reply:
        case Failure(error="blocked"):
            return Permanent("blocked")
        case Failure():
            return Transient()
        case Answer():
            return _classify_answer(reply, now_ms)
        case _ as unreachable:
            assert_never(unreachable)


def _classify_answer(answer: Answer, now_ms: int) -> Outcome:
    if 200 <= answer.status < 300:
        return Delivered()
    if answer.status == _GONE:
        return Permanent("gone")
    return Transient(retry_after_ms(answer.retry_after, now_ms) if answer.status in _MAY_ASK_FOR_TIME else None)


def retry_after_ms(header: str | None, now_ms: int) -> int | None:
    """The moment a Retry-After names, in milliseconds since 1970: delay seconds or an HTTP date (RFC 9110, 10.2.3).

    None for no header and for anything that is neither.
    """
    text = (header or "").strip()
    if _DELTA_SECONDS.fullmatch(text):
        return now_ms + int(text) * 1000
    try:
        date = parsedate_to_datetime(text)
        # A date without a zone is not an HTTP date; to take the machine's zone for it would be a guess.
        return to_unix_ms(date) if date.tzinfo is not None else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def verdict(reply: Reply) -> Verdict:
    """What a reply says of the endpoint itself, whatever it means for the delivery: its breaker goes by this.

    Down: no answer (timeout, connection, name, TLS, no HTTP), 5xx, and 429, which asks to be left alone. Up: every other answer; who
    says 404 or 401 is there, and quick. Unknown: what never left us (secret, refused target).
    """
    match reply:
        case Failure(error="secret" | "blocked"):
            return "unknown"
        case Failure():
            return "down"
        case Answer(status=status):
            return "down" if status >= _SERVER_ERROR or status == _TOO_MANY else "up"
        case _ as unreachable:
            assert_never(unreachable)
