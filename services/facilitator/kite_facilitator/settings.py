"""Settings of the facilitator, each explained. Only main sees them."""

import re
from typing import Annotated, Final

from pydantic import Field, SecretStr

from kite_common.config import HttpUrl, checked_by
from kite_common.errors import Malformed
from kite_common.x402_settings import X402Settings

_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")
_CURVE_ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


def parse_private_key(text: str) -> bytes:
    """The 32 bytes of a key, as 64 hex digits with or without 0x. Raises Malformed, without the text."""
    digits = text.removeprefix("0x")
    if not _KEY.fullmatch(digits) or not 0 < int(digits, 16) < _CURVE_ORDER:
        raise Malformed("a private key is 64 hex digits, the number of a key of secp256k1")
    return bytes.fromhex(digits)


class FacilitatorSettings(X402Settings):
    """What the facilitator needs beside what the deployment has."""

    port: int = Field(8080, ge=0, le=65_535, description="port of /supported, /verify, /settle; whoever reaches it spends its gas")
    x402_facilitator_evm_private_key: Annotated[SecretStr, checked_by(parse_private_key)] = Field(
        validation_alias="X402_FACILITATOR_EVM_PRIVATE_KEY", description="key that pays the gas, 64 hex digits; of this one process alone"
    )
    x402_facilitator_rpc_url: HttpUrl = Field(
        validation_alias="X402_FACILITATOR_RPC_URL", repr=False, description="JSON-RPC of the node transactions are sent to"
    )
    x402_facilitator_confirm_s: float = Field(
        20.0, validation_alias="X402_FACILITATOR_CONFIRM_S", gt=0, le=300,
        description="how long a settlement may take until it is answered as pending; below X402_SETTLE_TIMEOUT_S",
    )  # fmt: skip
    x402_facilitator_gas_floor_wei: int = Field(
        10**15, validation_alias="X402_FACILITATOR_GAS_FLOOR_WEI", ge=0, description="below it /healthz and /readyz are red"
    )
    x402_facilitator_token: SecretStr | None = Field(
        None, validation_alias="X402_FACILITATOR_TOKEN", description="bearer token callers must show; unset: the network keeps others out"
    )
