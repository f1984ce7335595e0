"""The credentials of a bootstrapped team, sealed for the log: billing draws and seals them, edges open them. No plain text is stored."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

from kite_common import crypto
from kite_common.errors import Malformed


@dataclass(frozen=True, slots=True)
class Credentials:
    """The texts of an API key and a hook token; repr() hides them."""

    api_key: str = field(repr=False)
    hook_token: str = field(repr=False)


def seal_credentials(cipher_key: bytes, payment_key: str, credentials: Credentials, nonce: bytes) -> str:
    """`v1.<key id>.<nonce>.<ciphertext and tag>` (AES-256-GCM), good for this payment key only. `nonce`: 12 random bytes, used once."""
    plain = orjson.dumps({"api_key": credentials.api_key, "hook_token": credentials.hook_token})
    return crypto.seal(cipher_key, plain, _associated(payment_key), nonce)


def open_credentials(cipher_keys: Iterable[bytes], payment_key: str, sealed: str) -> Credentials:
    """What was sealed for the payment key, by whichever of the keys it names.

    Raises Malformed if no key fits, it belongs to another payment, or a single bit was changed.
    """
    plain = crypto.unseal(cipher_keys, sealed, _associated(payment_key))
    try:
        content = orjson.loads(plain)
        return Credentials(content["api_key"], content["hook_token"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Malformed("what was sealed are no credentials") from None


def _associated(payment_key: str) -> bytes:
    return f"{payment_key}|bootstrap|v1".encode()
