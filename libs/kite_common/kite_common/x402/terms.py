"""What this deployment asks of payments, as a value. Reads no settings (`kite_common.x402_settings.terms_of` makes it)."""

from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kite_common.x402.networks import Asset

_QUOTE_KEY_INFO: Final = b"kite x402 quote v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentTerms:
    """Addresses are lower case, amounts atomic, times in seconds. Of keys the first one makes, all of them read.

    `retired`: earlier payTo addresses, good for payments that are already known. Without `cipher_keys` nobody can be bootstrapped.
    """

    asset: Asset
    pay_to: str
    public_url: str
    quote_keys: tuple[bytes, ...] = field(repr=False)
    cipher_keys: tuple[bytes, ...] = field(default=(), repr=False)
    retired: frozenset[str] = frozenset()
    max_timeout_s: int = 300
    settle_timeout_s: float = 30.0
    wait_s: float = 20.0
    credential_window_s: int = 600
    topup_atomic: int = 1_000_000
    max_deposit_atomic: int = 1_000_000_000
    replay_fallback: bool = False
    replay_price_atomic: int = 10

    @property
    def quote_key(self) -> bytes:
        """The key that new quotes are made with."""
        return self.quote_keys[0]

    @property
    def cipher_key(self) -> bytes | None:
        """The key that new credentials are sealed with."""
        return self.cipher_keys[0] if self.cipher_keys else None

    @property
    def recipients(self) -> frozenset[str]:
        """Every address a payment may have been made to."""
        return self.retired | {self.pay_to}


def quote_key_of(cipher_key: bytes) -> bytes:
    """The quote key of a deployment that has only a cipher key: HKDF-SHA256 (RFC 5869), no salt, 32 bytes."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_QUOTE_KEY_INFO).derive(cipher_key)
