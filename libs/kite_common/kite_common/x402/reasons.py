"""Reasons that may reach a caller. Texts of facilitators and nodes never do: what is not in this list becomes `invalid_payload`."""

from typing import Final

from kite_common.x402.precheck import INVALID_PAYLOAD

# Ours (the state machine's ends and what edges find), then those of x402 2.25.0 for scheme exact on EVM networks.
KNOWN: Final = frozenset({
    "authorization_window_too_long", "authorization_expired", "authorization_canceled", "authorization_used_elsewhere", "payment_reversed",
    "no_matching_payment_requirements", "invalid_payload", "insufficient_funds", "settlement_pending", "facilitator_unavailable",
    "payment_already_used", "idempotency_key_reused", "bootstrap_in_progress",
    "unsupported_scheme", "network_mismatch", "missing_eip712_domain", "asset_not_deployed_contract", "transaction_failed",
    "smart_wallet_deployment_failed", "eip6492_factory_not_allowed",
    "invalid_exact_evm_payload_signature", "invalid_exact_evm_payload_undeployed_smart_wallet",
    "invalid_exact_evm_payload_recipient_mismatch", "invalid_exact_evm_payload_authorization_value_mismatch",
    "invalid_exact_evm_payload_authorization_valid_after", "invalid_exact_evm_payload_authorization_valid_before",
    "invalid_exact_evm_nonce_already_used", "invalid_exact_evm_insufficient_balance",
    "invalid_exact_evm_failed_to_get_network_config", "invalid_exact_evm_failed_to_get_asset_info",
    "invalid_exact_evm_failed_to_verify_signature", "invalid_exact_evm_token_name_mismatch",
    "invalid_exact_evm_token_version_mismatch", "invalid_exact_evm_eip3009_not_supported",
    "invalid_exact_evm_transaction_simulation_failed", "invalid_exact_evm_transfer_event_mismatch",
})  # fmt: skip


def public_reason(reason: str | None) -> str:
    """The reason as it may be told."""
    return reason if reason in KNOWN else INVALID_PAYLOAD
