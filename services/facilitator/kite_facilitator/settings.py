"""Settings of the facilitator, each explained. Only main sees them."""

import re
from typing import Annotated, Final, Self

from pydantic import Field, SecretStr, model_validator

from kite_common.config import NodeUrl, checked_by
from kite_common.errors import Malformed
from kite_common.x402.networks import parse_address
from kite_common.x402_settings import Address, X402AssetSettings, asset_in

_PRIVATE_KEY: Final = re.compile("(?:0x)?([0-9a-fA-F]{64})")
# The order of secp256k1 (SEC 2, section 2.4.1): a key is at least 1 and below it.
_CURVE_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def parse_private_key(text: str) -> str:
    """A private key as `0x` and 64 hex digits. Raises Malformed, without quoting it."""
    found = _PRIVATE_KEY.fullmatch(text)
    if found is None or not 0 < int(found[1], 16) < _CURVE_ORDER:
        raise Malformed("a private key is 0x and 64 hex digits")
    return "0x" + found[1].lower()


class FacilitatorSettings(X402AssetSettings):
    """What the facilitator needs: a token, whom it pays, a node, and a key with money for gas."""

    port: int = Field(7704, ge=0, le=65_535, description="port of /verify, /settle, /supported, /healthz and the operations routes")
    x402_pay_to: Address = Field(validation_alias="X402_PAY_TO", description="address that is paid; payments to any other are refused")
    x402_facilitator_evm_private_key: Annotated[SecretStr, checked_by(parse_private_key)] = Field(
        validation_alias="X402_FACILITATOR_EVM_PRIVATE_KEY",
        description="key that sends the transactions and pays their gas, 0x and 64 hex digits; no other process may use it",
    )
    x402_facilitator_rpc_url: NodeUrl = Field(
        validation_alias="X402_FACILITATOR_RPC_URL", repr=False, description="JSON-RPC of the node that transactions are sent through"
    )
    x402_facilitator_token: SecretStr | None = Field(
        None, validation_alias="X402_FACILITATOR_TOKEN", description="bearer token that callers must have; unset: none"
    )
    x402_facilitator_confirm_s: float = Field(
        20.0, validation_alias="X402_FACILITATOR_CONFIRM_S", gt=0, le=300, description="longest wait for a receipt"
    )
    x402_facilitator_gas_floor_wei: int = Field(
        10**15, validation_alias="X402_FACILITATOR_GAS_FLOOR_WEI", ge=0, description="with less for gas nothing is settled"
    )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        """Refuse a token that is not known well enough, and addresses with a wrong digit."""
        try:
            asset_in(self)
            for address in (self.x402_pay_to, *self.x402_pay_to_retired):
                parse_address(address)
        except Malformed as error:
            raise ValueError(f"X402_NETWORK, X402_ASSET or X402_PAY_TO: {error}") from None
        return self
