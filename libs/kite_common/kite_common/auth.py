"""API keys and hook tokens: their form, their hash, whether one is good now, what a permission allows.

Pure: pepper, random bytes and the time are arguments. Looks nothing up, stores nothing; the text of a key is never kept.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeVar

from kite_common.errors import Malformed
from kite_common.ids import KeyPrefix, credential_key

Needed = Literal["read", "write", "admin"]
IssuedT = TypeVar("IssuedT")

# A text has 4 bytes of public prefix and 16 of secret (wire contract, 2.1).
RANDOM_BYTES: Final = 20
_API_KEY: Final = re.compile(r"kite_([0-9a-f]{8})_[0-9a-f]{32}")
_HOOK_TOKEN: Final = re.compile(r"khk_([0-9a-f]{8})_[0-9a-f]{32}")
_RANK: Final = {"read": 1, "write": 2, "admin": 3, "*": 3}
_NO_HASH: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """A text that has the form of a key: the public prefix to look it up by, and the whole text, which repr() hides."""

    prefix: KeyPrefix
    text: str = field(repr=False)


class Issued(Protocol):
    """What of an issued credential decides whether it is good: `kite_common.events.credentials.CredentialIssued` has it."""

    @property
    def secret_hash(self) -> str:
        """Hex HMAC-SHA256 of the whole text under the pepper."""
        ...

    @property
    def expires_at(self) -> int | None:
        """Milliseconds since 1970, from which on it is dead; None = never."""
        ...

    @property
    def revoked_at(self) -> int | None:
        """Milliseconds since 1970, or None while it is not revoked."""
        ...


def parse_api_key(text: str) -> ParsedKey:
    """`kite_<8 hex>_<32 hex>`, lower case. Raises Malformed for anything else, without saying what it was."""
    return _parse(_API_KEY, text, "an API key")


def parse_hook_token(text: str) -> ParsedKey:
    """`khk_<8 hex>_<32 hex>`, lower case. Raises Malformed for anything else, without saying what it was."""
    return _parse(_HOOK_TOKEN, text, "a hook token")


def new_api_key(random_bytes: bytes) -> str:
    """The text of a new API key from 20 random bytes. Raises ValueError for another number of bytes."""
    return _new("kite", random_bytes)


def new_hook_token(random_bytes: bytes) -> str:
    """The text of a new hook token from 20 random bytes. Raises ValueError for another number of bytes."""
    return _new("khk", random_bytes)


def hash_secret(pepper: bytes, text: str) -> str:
    """What is stored instead of a text: hex HMAC-SHA256 under the pepper, 64 characters.

    The texts carry 128 random bits, so a slow password hash would protect nothing more.
    """
    return hmac.digest(pepper, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()


def lookup_key(parsed: ParsedKey, pepper: bytes) -> str:
    """The key under which the credential of a text is, if it was ever issued."""
    return credential_key(parsed.prefix, hash_secret(pepper, parsed.text))


@dataclass(frozen=True, slots=True)
class Peppers:
    """The pepper that new texts are hashed under, and the one before it, under which older texts stay good. Both are hidden in repr()."""

    current: bytes = field(repr=False)
    retired: bytes | None = field(default=None, repr=False)

    def find(self, parsed: ParsedKey, get: Callable[[str], IssuedT | None]) -> tuple[IssuedT | None, bytes]:
        """The credential of a text, None if it was never issued, and the pepper to check it under. `get`: by `lookup_key`.

        All peppers are looked under, whichever has it: time tells nothing.
        """
        found = [(get(lookup_key(parsed, pepper)), pepper) for pepper in (self.current, self.retired) if pepper is not None]
        return next((one for one in found if one[0] is not None), (None, self.current))


def verify(issued: Issued | None, text: str, pepper: bytes, now_ms: int) -> bool:
    """Whether `text` is the issued credential and good at `now_ms`. False if there is none.

    Takes the same time whether the prefix is unknown, the secret wrong or the credential dead.
    """
    right = hash_matches(issued, text, pepper)
    return issued is not None and right and is_live(issued, now_ms)


def hash_matches(issued: Issued | None, text: str, pepper: bytes) -> bool:
    """Whether `text` is the issued credential, good or ended. False, after the same time, if there is none."""
    return hmac.compare_digest(hash_secret(pepper, text), _NO_HASH if issued is None else issued.secret_hash)


def is_live(issued: Issued, now_ms: int) -> bool:
    """Whether a credential is neither revoked nor expired; `expires_at` itself is already too late."""
    return issued.revoked_at is None and (issued.expires_at is None or now_ms < issued.expires_at)


def allows(permissions: Iterable[str], needed: Needed) -> bool:
    """Whether a key with these permissions may do what needs `needed`: read < write < admin, `*` is admin (2.1).

    Permissions that nobody knows allow nothing.
    """
    return any(_RANK.get(permission, 0) >= _RANK[needed] for permission in permissions)


def _parse(form: re.Pattern[str], text: str, what: str) -> ParsedKey:
    found = form.fullmatch(text)
    if found is None:
        raise Malformed(f"not {what}")
    return ParsedKey(KeyPrefix(found[1]), text)


def _new(kind: str, random_bytes: bytes) -> str:
    if len(random_bytes) != RANDOM_BYTES:
        raise ValueError(f"a key needs {RANDOM_BYTES} random bytes")
    digits = random_bytes.hex()
    return f"{kind}_{digits[:8]}_{digits[8:]}"
