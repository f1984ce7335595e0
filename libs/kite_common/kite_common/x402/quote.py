"""Quotes: prices (and pages) that this deployment has promised, carried by the caller, so that the server keeps nothing.

    q1.<base64url of J>.<base64url of the first 16 bytes of HMAC-SHA256(quote key, all before the last dot)>
    J = {"p": purpose, "f": first 16 bytes of the fingerprint in hex, "a": amount, "x": expiry in unix seconds, "r": 16 random bytes in hex}
    and for a page {"e": end cursor, "n": rows}

A quote is its caller's secret: it never reaches the chain, so whoever shows it is the one who asked.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from kite_common.events.payments import Purpose
from kite_common.x402.terms import PaymentTerms

RANDOM_BYTES: Final = 16
_VERSION: Final = "q1"
_MAC_BYTES: Final = 16
_FINGERPRINT_BYTES: Final = 16
# 22 characters are the 16 bytes of a MAC without padding.
_FORM: Final = re.compile(r"(q1\.[A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{22})")


@dataclass(frozen=True, slots=True)
class Quote:
    """What was promised, to which request, until when (unix seconds, exclusive). `end_cursor` and `rows`: the page, for a page."""

    purpose: str
    fingerprint: str
    amount_atomic: int
    expires_s: int
    end_cursor: str | None = None
    rows: int | None = None

    def is_for(self, purpose: Purpose, fingerprint: bytes) -> bool:
        """Whether the promise was made to this request."""
        return self.purpose == purpose and self.fingerprint == _short(fingerprint)

    def is_expired(self, now_s: int) -> bool:
        """Whether it holds no more."""
        return now_s >= self.expires_s


def make_quote(
    terms: PaymentTerms, purpose: Purpose, fingerprint: bytes, amount_atomic: int, now_s: int, random_bytes: bytes,
    *, end_cursor: str | None = None, rows: int | None = None,
) -> str:  # fmt: skip
    """A quote id for `extra.quoteId`, good for as long as an offer. `random_bytes`: 16, so that no two quotes are equal."""
    promised: dict[str, object] = {
        "p": purpose, "f": _short(fingerprint), "a": amount_atomic, "x": now_s + terms.max_timeout_s, "r": random_bytes.hex(),
    }  # fmt: skip
    if end_cursor is not None:
        promised |= {"e": end_cursor, "n": rows}
    signed = f"{_VERSION}.{_base64url(json.dumps(promised, separators=(',', ':')).encode())}"
    return f"{signed}.{_mac(terms.quote_key, signed)}"


def read_quote(keys: Iterable[bytes], quote_id: str | None) -> Quote | None:
    """What a quote id promised, also if it has expired; None for every text that none of the keys has made."""
    found = _FORM.fullmatch(quote_id) if quote_id is not None else None
    if found is None or not _is_ours(keys, found[1], found[2]):
        return None
    promised: dict[str, Any] = json.loads(_from_base64url(found[1].partition(".")[2]))
    return Quote(promised["p"], promised["f"], promised["a"], promised["x"], promised.get("e"), promised.get("n"))


def quote_hash(quote_id: str) -> str:
    """What is kept of a quote id whose MAC is valid: its hex SHA-256."""
    return hashlib.sha256(quote_id.encode()).hexdigest()


def _is_ours(keys: Iterable[bytes], signed: str, mac: str) -> bool:
    # Every key is tried, so time tells nothing about which one fits.
    return sum(hmac.compare_digest(_mac(key, signed), mac) for key in keys) > 0


def _mac(key: bytes, signed: str) -> str:
    return _base64url(hmac.digest(key, signed.encode(), hashlib.sha256)[:_MAC_BYTES])


def _short(fingerprint: bytes) -> str:
    return fingerprint[:_FINGERPRINT_BYTES].hex()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
