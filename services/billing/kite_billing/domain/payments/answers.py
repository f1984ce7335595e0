"""What a facilitator's answer means. Its texts never get any further: only reasons that may be told, a checked hash, words of ours."""

import re
from typing import Any, Final

import orjson

from kite_billing.domain.payments.facts import Invalid, NoAnswer, Refused, SettleAnswer, Success, Unclear, Valid, VerifyAnswer
from kite_common.x402.reasons import public_reason

LARGEST_ANSWER: Final = 64 * 1024
_OK: Final = 200
_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}")
_PENDING: Final = "settlement_pending"
# Reasons with which the facilitator says that it has sent nothing; after any other the node may have taken the transaction.
_NOTHING_SENT: Final = frozenset({
    "invalid_exact_evm_payload_signature", "invalid_exact_evm_payload_recipient_mismatch",
    "invalid_exact_evm_payload_authorization_value_mismatch", "invalid_exact_evm_payload_authorization_valid_after",
    "invalid_exact_evm_payload_authorization_valid_before", "invalid_exact_evm_insufficient_balance",
    "invalid_exact_evm_nonce_already_used",
    "network_mismatch", "unsupported_scheme", "missing_eip712_domain", "asset_not_deployed_contract", "insufficient_funds",
})  # fmt: skip
# Far more than there is: what is written longer is no amount of gas.
_AMOUNT: Final = re.compile("[0-9]{1,30}")
# Verify says so when it could not look, not when the payment is bad.
_NOT_JUDGED: Final = "invalid_exact_evm_failed_to_verify_signature"


def read_verify(status: int, body: bytes) -> VerifyAnswer:
    """What an answer to /verify says."""
    answer = _object(status, body)
    if isinstance(answer, str):
        return NoAnswer(answer)
    valid, reason = answer.get("isValid"), answer.get("invalidReason")
    if not isinstance(valid, bool) or not isinstance(reason, str | None):
        return NoAnswer("wrong_type")
    if valid:
        return Valid()
    if reason is not None and (reason == _NOT_JUDGED or reason.startswith("unexpected_")):
        return NoAnswer("not_judged")
    return Invalid(public_reason(reason))


def read_settle(status: int, body: bytes, network: str) -> SettleAnswer:
    """What an answer to /settle says; `network` is ours (CAIP-2)."""
    answer = _object(status, body)
    if isinstance(answer, str):
        return Unclear(answer, "answered")
    success, reason, transaction = answer.get("success"), answer.get("errorReason"), answer.get("transaction")
    if not isinstance(success, bool) or not isinstance(reason, str | None) or not isinstance(transaction, str | None):
        return Unclear("wrong_type", "answered")
    named = transaction.lower() if transaction is not None and _HASH.fullmatch(transaction) else None
    if success:
        return _success(named, answer.get("network"), network)
    if reason in _NOTHING_SENT and not transaction:
        return Refused(reason)
    return Unclear(public_reason(reason), "pending" if reason == _PENDING else "answered", named)


def read_gas(body: bytes) -> int | None:
    """What an answer to /healthz says of the money for fees, in wei; None if that is no amount. Raises nothing."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    said = answer.get("gas_wei") if isinstance(answer, dict) else None
    if isinstance(said, bool) or not isinstance(said, int | str):
        return None
    return int(said) if _AMOUNT.fullmatch(str(said)) else None


def _success(named: str | None, given: object, network: str) -> SettleAnswer:
    if given != network:
        return Unclear("another_network", "answered", named)
    return Unclear("no_transaction", "answered") if named is None else Success(named)


def _object(status: int, body: bytes) -> dict[str, Any] | str:
    """The answer as an object, or a word for why it is none."""
    if status != _OK:
        return f"status_{status}"
    if len(body) > LARGEST_ANSWER:
        return "too_large"
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "not_json"
    return answer if isinstance(answer, dict) else "not_an_object"
