"""What an edge can tell of a payment without chain or log. A refusal is the `reason` of `invalid_payment`, None: nothing is wrong.

What never changes for a key is answered at once, so only valid signatures reach the log and nobody can occupy a stranger's nonce. What
depends on price and time only holds for keys that are not yet known, so it travels with the submission.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from kite_common.events.payments import Authorization
from kite_common.x402.networks import Asset
from kite_common.x402.terms import PaymentTerms
from kite_common.x402.wire import SCHEME, ShownPayment

UNSUPPORTED_SCHEME: Final = "unsupported_scheme"
NETWORK_MISMATCH: Final = "network_mismatch"
NO_MATCHING_REQUIREMENTS: Final = "no_matching_payment_requirements"
RECIPIENT_MISMATCH: Final = "invalid_exact_evm_payload_recipient_mismatch"
INVALID_PAYLOAD: Final = "invalid_payload"
INVALID_SIGNATURE: Final = "invalid_exact_evm_payload_signature"
VALUE_MISMATCH: Final = "invalid_exact_evm_payload_authorization_value_mismatch"
VALID_AFTER: Final = "invalid_exact_evm_payload_authorization_valid_after"
VALID_BEFORE: Final = "invalid_exact_evm_payload_authorization_valid_before"
WINDOW_TOO_LONG: Final = "authorization_window_too_long"

# Verifying and settling must end inside the window: the SDK's own margin, to which the settle timeout is added.
VERIFY_MARGIN_S: Final = 6
# An authorization without a near end could stay unknown for years.
_MAX_WINDOW_S: Final = 3_660
_SIGNATURE_BYTES: Final = 65
# Half the order of secp256k1: with a higher s there would be two signatures of one authorization (EIP-2).
_HALF_ORDER: Final = 0x7FFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_5D576E73_57A4501D_DFE92F46_681B20A0
_RECOVERY_IDS: Final = {0: 0, 1: 1, 27: 0, 28: 1}
_DOMAIN_TYPE: Final = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_TRANSFER_TYPE: Final = keccak(
    b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)


def unchanging_refusal(shown: ShownPayment, terms: PaymentTerms) -> str | None:
    """What is wrong with a payment whatever the time and the price: scheme, network, token, recipient, value, signature."""
    checks: tuple[tuple[str, Callable[[], bool]], ...] = (
        (UNSUPPORTED_SCHEME, lambda: shown.scheme == SCHEME),
        (NETWORK_MISMATCH, lambda: _is_our_network(shown, terms.asset)),
        (NO_MATCHING_REQUIREMENTS, lambda: _accepts_ours(shown, terms)),
        (RECIPIENT_MISMATCH, lambda: shown.authorization.to_address in terms.recipients),
        (INVALID_PAYLOAD, lambda: _moves_money(shown.authorization, terms)),
        # Last, as it costs the most.
        (INVALID_SIGNATURE, lambda: signer_of(terms.asset, shown.authorization, shown.signature) == shown.authorization.from_address),
    )
    return next((reason for reason, holds in checks if not holds()), None)


def passing_refusal(shown: ShownPayment, terms: PaymentTerms, amount_atomic: int, now_s: int) -> str | None:
    """What is wrong with a payment now, for a request that costs `amount_atomic`; a payment already known is not held against it."""
    authorization, accepted = shown.authorization, shown.accepted
    if int(authorization.value) != amount_atomic or (accepted is not None and accepted.amount != amount_atomic):
        return VALUE_MISMATCH
    if authorization.to_address != terms.pay_to:
        return RECIPIENT_MISMATCH
    if int(authorization.valid_after) > now_s:
        return VALID_AFTER
    valid_before = int(authorization.valid_before)
    if valid_before < now_s + VERIFY_MARGIN_S + terms.settle_timeout_s:
        return VALID_BEFORE
    return WINDOW_TOO_LONG if valid_before > now_s + _MAX_WINDOW_S else None


def signer_of(asset: Asset, authorization: Authorization, signature: str) -> str | None:
    """The address (lower case) whose key made the signature over the authorization; None for what no plain account can have made.

    That is another length than 65 bytes (a contract's wallet), a v other than 0, 1, 27, 28, or an s in the upper half.
    """
    made = bytes.fromhex(signature.removeprefix("0x"))
    recovery_id = _RECOVERY_IDS.get(made[64]) if len(made) == _SIGNATURE_BYTES else None
    if recovery_id is None or int.from_bytes(made[32:64], "big") > _HALF_ORDER:
        return None
    try:
        key = Signature(made[:64] + bytes([recovery_id])).recover_public_key_from_msg_hash(digest_of(asset, authorization))
    except (BadSignature, ValidationError):
        return None
    return str(key.to_address())


def canonical_signature(signature: str) -> str:
    """The same signature with v as the token wants it, 27 or 28; of other lengths unchanged."""
    made = bytes.fromhex(signature.removeprefix("0x"))
    if len(made) != _SIGNATURE_BYTES or made[64] not in _RECOVERY_IDS:
        return signature
    return "0x" + (made[:64] + bytes([27 + _RECOVERY_IDS[made[64]]])).hex()


def digest_of(asset: Asset, authorization: Authorization) -> bytes:
    """The 32 bytes a payer signs: EIP-712 over EIP-3009's TransferWithAuthorization in the token's domain."""
    words = (
        _TRANSFER_TYPE, _address_word(authorization.from_address), _address_word(authorization.to_address),
        _word(int(authorization.value)), _word(int(authorization.valid_after)), _word(int(authorization.valid_before)),
        bytes.fromhex(authorization.nonce.removeprefix("0x")),
    )  # fmt: skip
    return keccak(b"\x19\x01" + domain_separator(asset) + keccak(b"".join(words)))


@lru_cache(maxsize=16)
def domain_separator(asset: Asset) -> bytes:
    """What `DOMAIN_SEPARATOR()` of the token must return (EIP-712)."""
    words = (
        _DOMAIN_TYPE, keccak(asset.name.encode()), keccak(asset.version.encode()), _word(asset.chain_id),
        _address_word(asset.address),
    )  # fmt: skip
    return keccak(b"".join(words))


def _is_our_network(shown: ShownPayment, asset: Asset) -> bool:
    """Version 2 names a network only by its CAIP-2 id, version 1 either way."""
    return shown.network == asset.network or (shown.x402_version == 1 and shown.network == asset.v1_network)


def _accepts_ours(shown: ShownPayment, terms: PaymentTerms) -> bool:
    accepted = shown.accepted
    return accepted is None or (accepted.asset == terms.asset.address and accepted.pay_to in terms.recipients)


def _moves_money(authorization: Authorization, terms: PaymentTerms) -> bool:
    """Whether the transfer would bring us anything: a transfer to oneself shows on the chain like any other."""
    return int(authorization.value) > 0 and authorization.from_address not in (terms.pay_to, authorization.to_address)


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _address_word(address: str) -> bytes:
    return bytes.fromhex(address.removeprefix("0x")).rjust(32, b"\x00")
