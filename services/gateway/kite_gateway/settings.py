"""Settings of the gateway, each explained. Only main sees them."""

from typing import Annotated

from pydantic import Field, SecretStr

from kite_common.config import checked_by
from kite_common.crypto import parse_cipher_keys
from kite_common.x402_settings import X402Settings


class GatewaySettings(X402Settings):
    """What the gateway needs beside what all services have."""

    port: int = Field(7700, ge=0, le=65_535, description="port of the public API; 0 takes a free one")
    api_key_pepper: Annotated[SecretStr, Field(min_length=16)] = Field(
        description="key under which API keys and hook tokens are hashed, at least 16 characters; changing it ends all of them"
    )
    webhook_secret_cipher_key: Annotated[SecretStr | None, checked_by(parse_cipher_keys)] = Field(
        None,
        description="seals webhook secrets: 32 bytes as 64 hex digits, base64 or 32 ASCII characters; "
        "several, comma-separated: newest first",
    )
    webhook_signing_key: Annotated[SecretStr | None, checked_by(parse_cipher_keys)] = Field(
        None, description="the same as delivery's: from it GET /api/v1/webhook-keys has its keys; without it no config can ask for v1a"
    )
    hook_secret_cipher_key: Annotated[SecretStr | None, checked_by(parse_cipher_keys)] = Field(
        None, description="seals providers' secrets of hook endpoints; written like webhook_secret_cipher_key"
    )
    max_in_flight: int = Field(512, ge=1, le=65_536, description="requests worked on at once by one process; more are answered 503 at once")
    redis_timeout_s: float = Field(1.0, gt=0, le=30, description="longest wait for Redis; after it the answer is 503")
    max_billing_lag_s: float = Field(
        120.0, gt=0, description="admission stops (503) when billing is further behind the log than this many seconds"
    )
    replay_timeout_s: float = Field(
        60.0, gt=0, le=300,
        description="longest time until an answer of the replay service begins; longer than X402_WAIT_S and reading a page together",
    )  # fmt: skip
