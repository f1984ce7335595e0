"""Signatures of webhooks and the sealing of secrets, over exact bytes. Pure: keys, nonces and the time are arguments.

Standard Webhooks 1.0.0 (https://www.standardwebhooks.com) for `webhook-signature`, with shared secrets (`v1`) and with Ed25519 (`v1a`),
HMAC-SHA256 for `X-Kite-Signature`, AES-256-GCM for what is stored. No error text holds a secret or a part of one.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kite_common.errors import ConfigurationError, Malformed

WEBHOOK_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - a public prefix
PUBLIC_KEY_PREFIX: Final = "whpk_"
_TEAM_KEY: Final = b"kite webhook signing key of a team, v1\0"
NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32
# How far a signed time may lie from now, either way (Standard Webhooks, and Stripe's and Slack's rule).
TOLERANCE_S: Final = 300
_SEAL_VERSION: Final = "v1"
_SECRET_MAX_CHARS: Final = 256
_SECRET_BYTES: Final = range(24, 65)
# C0 and C1 controls and DEL.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNIX_SECONDS: Final = re.compile(r"[0-9]{1,12}")


def validate_webhook_secret(text: str) -> None:
    """Check a signing secret by the rules of PUT /webhook-config. Raises Malformed that names the broken rule.

    1 to 256 characters, no control characters; after `whsec_` base64 (standard alphabet, padded) of 24 to 64 bytes.
    """
    validate_secret_text(text)
    if text.startswith(WEBHOOK_SECRET_PREFIX):
        key = _base64(text.removeprefix(WEBHOOK_SECRET_PREFIX))
        if key is None or len(key) not in _SECRET_BYTES:
            raise Malformed("after whsec_ the secret must be base64 of 24 to 64 bytes")


def validate_secret_text(text: str) -> None:
    """Check a secret that is used as the text it is: 1 to 256 characters, no control characters. Raises Malformed."""
    if not 1 <= len(text) <= _SECRET_MAX_CHARS:
        raise Malformed("the secret must have 1 to 256 characters")
    if _CONTROL.search(text) or not _is_encodable(text):
        raise Malformed("the secret must not contain control characters")


def new_webhook_secret(random_bytes: bytes) -> str:
    """`whsec_` and the base64 of the bytes: 32 random ones for a secret the server makes."""
    return WEBHOOK_SECRET_PREFIX + base64.b64encode(random_bytes).decode()


def sign_standard_webhook(secrets: Sequence[str], webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of `webhook-signature`: one `v1,<base64 HMAC-SHA256(key, id.timestamp.body)>` a secret, in their order.

    Secrets come newest first and have passed `validate_webhook_secret`.
    """
    signed = _signed(webhook_id, timestamp_s, body)
    return " ".join("v1," + _hmac_base64(_signing_key(secret), signed) for secret in secrets)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key (RFC 8032) that webhooks are signed with. Its seed, 32 bytes, is hidden in repr()."""

    seed: bytes = field(repr=False)

    @property
    def public(self) -> bytes:
        """The 32 bytes of the public key."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()

    @property
    def public_text(self) -> str:
        """The public key as Standard Webhooks write it: `whpk_` and its base64."""
        return PUBLIC_KEY_PREFIX + base64.b64encode(self.public).decode()

    @property
    def id(self) -> str:
        """The public name of the key: the first 8 hex digits of the SHA-256 of its public half."""
        return key_id(self.public)


def team_signing_key(root: bytes, team_id: str) -> SigningKey:
    """The key that requests to this team's endpoint are signed with: HMAC-SHA256 of the team's id under the server's root key.

    Every team has its own, for a signature covers no address: under one key of the whole server a team could pass what was sent to it on to
    another team's endpoint, where it would verify.
    """
    return SigningKey(hmac.digest(root, _TEAM_KEY + team_id.encode("utf-8", "surrogatepass"), hashlib.sha256))


def sign_ed25519(keys: Sequence[SigningKey], webhook_id: str, timestamp_s: int, body: bytes) -> str:
    """Like `sign_standard_webhook`, with one `v1a,<base64 Ed25519(key, id.timestamp.body)>` a key."""
    signed = _signed(webhook_id, timestamp_s, body)
    signatures = [Ed25519PrivateKey.from_private_bytes(key.seed).sign(signed) for key in keys]
    return " ".join("v1a," + base64.b64encode(signature).decode() for signature in signatures)


def verify_standard_webhook(
    secrets: Iterable[str], webhook_id: str, timestamp: str, body: bytes, signature: str, *, now_s: int, tolerance_s: int = TOLERANCE_S
) -> bool:
    """Whether any `v1` signature of the header fits any of the secrets, and the time lies within the tolerance.

    `timestamp` is the header's text. Any other text than one of ours gives False, never an error.
    """
    if not _UNIX_SECONDS.fullmatch(timestamp) or abs(now_s - int(timestamp)) > tolerance_s:
        return False
    signed = b"%b.%b.%b" % (webhook_id.encode("utf-8", "surrogatepass"), timestamp.encode(), body)
    expected = [_hmac_base64(_signing_key(secret), signed).encode() for secret in secrets]
    given = [part.removeprefix("v1,").encode("utf-8", "surrogatepass") for part in signature.split(" ") if part.startswith("v1,")]
    # No shortcut: every pair is compared, so time tells nothing about which one fits.
    return sum(hmac.compare_digest(one, other) for one in expected for other in given) > 0


def sign_kite(secret: str, body: bytes) -> str:
    """The value of `X-Kite-Signature`: `sha256=<hex HMAC-SHA256>` under the secret's UTF-8 text, prefix too."""
    return "sha256=" + hmac.digest(secret.encode(), body, hashlib.sha256).hex()


def verify_kite(secrets: Iterable[str], body: bytes, signature: str) -> bool:
    """Whether `X-Kite-Signature` fits the body under any of the secrets, in constant time for each."""
    given = signature.encode("utf-8", "surrogatepass")
    return sum(hmac.compare_digest(sign_kite(secret, body).encode(), given) for secret in secrets) > 0


def seal(key: bytes, plaintext: bytes, associated_data: bytes, nonce: bytes) -> str:
    """AES-256-GCM as text: `v1.<key id>.<nonce>.<ciphertext and tag>`, base64url without padding.

    `associated_data` says what the secret belongs to and is needed again to unseal it. A nonce is 12 random bytes, used once;
    with random nonces one key is good for 2^32 texts (NIST SP 800-38D, 8.3). Raises ValueError for a wrong size of key or nonce.
    """
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, a nonce {NONCE_BYTES}")
    sealed = AESGCM(key).encrypt(nonce, plaintext, associated_data)
    return ".".join((_SEAL_VERSION, key_id(key), _to_base64url(nonce), _to_base64url(sealed)))


def unseal(keys: Iterable[bytes], sealed: str, associated_data: bytes) -> bytes:
    """What was sealed, by whichever of the keys it names. Raises Malformed if no key fits or a single bit was changed."""
    parts = sealed.split(".")
    if len(parts) != 4 or parts[0] != _SEAL_VERSION:
        raise Malformed("not a sealed text")
    nonce, ciphertext = _from_base64url(parts[2]), _from_base64url(parts[3])
    key = next((key for key in keys if key_id(key) == parts[1]), None)
    if key is None:
        raise Malformed("sealed under a key that is not configured")
    if nonce is None or ciphertext is None or len(nonce) != NONCE_BYTES:
        raise Malformed("not a sealed text")
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, associated_data)
    except InvalidTag:
        raise Malformed("the sealed text was changed, or belongs to something else") from None


def key_id(key: bytes) -> str:
    """The public name of a sealing key: the first 8 hex digits of its SHA-256."""
    return hashlib.sha256(key).hexdigest()[:8]


def parse_cipher_key(text: str) -> bytes:
    """The 32 bytes of a sealing key: 64 hex digits, base64 (either alphabet, padded or not) or 32 ASCII characters.

    Raises ConfigurationError, which does not quote the text.
    """
    stripped = text.strip()
    if re.fullmatch(r"[0-9a-fA-F]{64}", stripped):
        return bytes.fromhex(stripped)
    if len(stripped) == KEY_BYTES and stripped.isascii():
        return stripped.encode()
    decoded = _base64(stripped.replace("-", "+").replace("_", "/").rstrip("=") + "=") if len(stripped.rstrip("=")) == 43 else None
    if decoded is None:
        raise ConfigurationError(["a cipher key must be 32 bytes: 64 hex digits, base64, or 32 ASCII characters"])
    return decoded


def parse_cipher_keys(text: str) -> tuple[bytes, ...]:
    """One key, or several separated by commas: the first seals, all unseal. Raises ConfigurationError as `parse_cipher_key`."""
    if "," not in text or len(text.strip()) == KEY_BYTES:
        return (parse_cipher_key(text),)
    return tuple(parse_cipher_key(part) for part in text.split(","))


def _signed(webhook_id: str, timestamp_s: int, body: bytes) -> bytes:
    return b"%b.%d.%b" % (webhook_id.encode(), timestamp_s, body)


def _signing_key(secret: str) -> bytes:
    if secret.startswith(WEBHOOK_SECRET_PREFIX):
        key = _base64(secret.removeprefix(WEBHOOK_SECRET_PREFIX))
        if key is None:
            raise Malformed("after whsec_ the secret must be base64")
        return key
    return secret.encode()


def _hmac_base64(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _base64(text: str) -> bytes | None:
    """The bytes of padded base64 in the standard alphabet, None for anything else."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None


def _to_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64url(text: str) -> bytes | None:
    """The bytes of unpadded base64url, None for anything else, also for another spelling of the same bytes."""
    decoded = _base64(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))
    return decoded if decoded is not None and _to_base64url(decoded) == text else None
