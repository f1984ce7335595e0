"""Payers and payments for tests: real keys, real signatures, headers as official clients send them. No IO, no clock.

`payments.header(quote_id="q1...")` is a payment of 1 USDC that is good at NOW_S; `payments.shown_json(...)` is what is in it.
Payers sign with eth_keys over our own digest; that the digest is right is shown by tests that sign with eth_account.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from eth_keys.datatypes import PrivateKey

from kite_common.events.payments import Authorization, PaymentOutcome, PaymentPayer, PaymentSubmitted, Target
from kite_common.testing import make
from kite_common.x402 import key
from kite_common.x402.networks import Asset, asset_of, checksum
from kite_common.x402.offers import RequestFacts
from kite_common.x402.precheck import digest_of
from kite_common.x402.terms import PaymentTerms

NOW_S: Final = make.NOW_MS // 1000
PAY_TO: Final = "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc"
RETIRED: Final = "0x90f79bf6eb2c4f870365e785982e1f101e93b906"
USDC: Final = asset_of("eip155:84532")
TRANSACTION: Final = "0x" + "5a" * 32
SUBMISSION_ID: Final = "8d2f6c1a-3b4e-4f5a-9c7d-0e1f2a3b4c5d"
_ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


def terms(**given: Any) -> PaymentTerms:
    """Terms of a deployment on Base Sepolia that is paid at PAY_TO and was paid at RETIRED before."""
    fields: dict[str, Any] = {
        "asset": USDC, "pay_to": PAY_TO, "retired": frozenset({RETIRED}), "public_url": "https://kite.example",
        "quote_keys": (b"q" * 32,), "cipher_keys": (b"c" * 32,),
    }  # fmt: skip
    return PaymentTerms(**(fields | given))


def payer(number: int = 1) -> PrivateKey:
    """The key of the n-th payer."""
    return PrivateKey(number.to_bytes(32, "big"))


def address(of: PrivateKey) -> str:
    """A payer's address, lower case."""
    return str(of.public_key.to_address())


def authorization(of: PrivateKey | None = None, **given: Any) -> Authorization:
    """An authorization of 1 USDC as clients make them: good from the start of time until five minutes from NOW_S."""
    fields: dict[str, Any] = {
        "from_address": address(of or payer()), "to_address": PAY_TO, "value": "1000000", "valid_after": "0",
        "valid_before": str(NOW_S + 300), "nonce": "0x" + "1a" * 32,
    }  # fmt: skip
    return Authorization(**(fields | given))


def sign(asset: Asset, signed: Authorization, of: PrivateKey | None = None) -> str:
    """The payer's signature, 65 bytes in hex, v 27 or 28."""
    made = (of or payer()).sign_msg_hash(digest_of(asset, signed)).to_bytes()
    return "0x" + (made[:64] + bytes([27 + made[64]])).hex()


def high_s(signature: str) -> str:
    """The other signature of the same key over the same digest, which the token refuses."""
    made = bytes.fromhex(signature[2:])
    s = (_ORDER - int.from_bytes(made[32:64], "big")).to_bytes(32, "big")
    return "0x" + (made[:32] + s + bytes([27 + 28 - made[64]])).hex()


def shown_json(
    wanted: PaymentTerms | None = None, *, of: PrivateKey | None = None, x402_version: int = 2, quote_id: str | None = None,
    **given: Any,
) -> dict[str, Any]:  # fmt: skip
    """What is in a payment header; `given` are fields of the authorization. Addresses checksummed, as clients write them."""
    wanted = wanted or terms()
    made = authorization(of, **given)
    payload = {
        "signature": sign(wanted.asset, made, of),
        "authorization": {
            "from": checksum(made.from_address), "to": checksum(made.to_address), "value": made.value, "validAfter": made.valid_after,
            "validBefore": made.valid_before, "nonce": made.nonce,
        },
    }  # fmt: skip
    if x402_version == 1:
        return {"x402Version": 1, "scheme": "exact", "network": wanted.asset.v1_network, "payload": payload}
    return {"x402Version": 2, "accepted": _accepted(wanted, made, quote_id), "payload": payload}


def header(wanted: PaymentTerms | None = None, **given: Any) -> str:
    """The value of a payment header; arguments as for `shown_json`."""
    return header_of(shown_json(wanted, **given))


def header_of(content: object) -> str:
    """The base64 of JSON."""
    return base64.b64encode(json.dumps(content, separators=(",", ":")).encode()).decode()


def request(*headers: tuple[str, str], **given: Any) -> RequestFacts:
    """A deposit of 1 USDC, with these headers."""
    fields: dict[str, Any] = {
        "method": "POST", "raw_path": b"/api/v1/wallet/invoices", "raw_query": b"team_id=" + make.TEAM.encode(),
        "body": b'{"amount_atomic":1000000}', "headers": headers,
    }  # fmt: skip
    return RequestFacts(**(fields | given))


def submitted(**given: Any) -> PaymentSubmitted:
    """The submission of a deposit of 1 USDC."""
    made = given.get("authorization") or authorization()
    fields: dict[str, Any] = {
        "payment_key": key.payment_key(USDC, made), "submission_id": SUBMISSION_ID, "sent_at": make.NOW_MS,
        "deadline": make.NOW_MS + 20_000, "purpose": "deposit", "fingerprint": request().fingerprint.hex(),
        "target": Target(team_id=make.TEAM), "authorization": made, "signature": sign(USDC, made), "x402_version": 2, "pay_to": PAY_TO,
        "amount_atomic": 1_000_000,
    }  # fmt: skip
    return PaymentSubmitted(**(fields | given))


def paid(**given: Any) -> PaymentPayer:
    """Who paid 1 USDC with TRANSACTION."""
    fields: dict[str, Any] = {
        "transaction": TRANSACTION, "network": USDC.network, "payer": address(payer()), "amount_atomic": 1_000_000,
    }  # fmt: skip
    return PaymentPayer(**(fields | given))


def outcome(**given: Any) -> PaymentOutcome:
    """A deposit of 1 USDC that is credited."""
    fields: dict[str, Any] = {
        "payment_key": key.payment_key(USDC, authorization()), "submission_id": SUBMISSION_ID, "result": "credited", "paid": paid(),
        "transaction": TRANSACTION, "credited_at": make.NOW_MS, "team_id": make.TEAM, "balance_after_atomic": 1_000_000,
        "amount_atomic": 1_000_000, "applied": 7, "applied_partition": 1,
    }  # fmt: skip
    if given.get("result", "credited") != "credited":
        fields = {name: fields[name] for name in ("payment_key", "submission_id")}
    return PaymentOutcome(**(fields | given))


def _accepted(wanted: PaymentTerms, made: Authorization, quote_id: str | None) -> Mapping[str, Any]:
    extra = {"name": wanted.asset.name, "version": wanted.asset.version} | ({} if quote_id is None else {"quoteId": quote_id})
    return {
        "scheme": "exact", "network": wanted.asset.network, "asset": wanted.asset.checksum, "amount": made.value,
        "payTo": checksum(made.to_address), "maxTimeoutSeconds": wanted.max_timeout_s, "extra": extra,
    }  # fmt: skip
