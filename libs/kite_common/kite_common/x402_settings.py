"""Settings of x402 payments, shared by edges, billing and the facilitator. Missing or off: routes answer 503 `x402_unconfigured`."""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from kite_common.config import CommaList, HttpUrl, KiteSettings, NodeUrl, checked_by
from kite_common.crypto import parse_cipher_keys
from kite_common.errors import Malformed
from kite_common.x402.networks import Asset, asset_of, parse_address
from kite_common.x402.precheck import VERIFY_MARGIN_S
from kite_common.x402.terms import PaymentTerms, quote_key_of

_ADDRESS = "^0x[0-9a-fA-F]{40}$"
Address = Annotated[str, Field(pattern=_ADDRESS)]
CipherKey = Annotated[SecretStr | None, checked_by(parse_cipher_keys)]


class X402AssetSettings(KiteSettings):
    """What is paid, where, and to whom. Variable names are the field names in capitals, without KITE_."""

    model_config = SettingsConfigDict(populate_by_name=True)

    x402_network: str = Field(
        "eip155:84532", validation_alias="X402_NETWORK", pattern="^eip155:[0-9]{1,18}$", description="CAIP-2 id of the chain"
    )
    x402_asset: Address | None = Field(
        None,
        validation_alias="X402_ASSET",
        description="address of the token; unset: USDC of the network. Another one needs name and version",
    )
    x402_asset_name: str | None = Field(None, validation_alias="X402_ASSET_NAME", description="EIP-712 domain name of the token")
    x402_asset_version: str | None = Field(None, validation_alias="X402_ASSET_VERSION", description="EIP-712 domain version of the token")
    x402_pay_to: Address | None = Field(
        None, validation_alias="X402_PAY_TO", description="address that is paid; belongs to one deployment and is paid only through it"
    )
    x402_pay_to_retired: CommaList = Field(
        (), validation_alias="X402_PAY_TO_RETIRED", description="earlier payTo addresses, for payments already known, comma-separated"
    )


class X402Settings(X402AssetSettings):
    """What edges and billing need to know of payments."""

    x402_enabled: bool = Field(False, validation_alias="X402_ENABLED", description="take x402 payments")
    x402_bootstrap_cipher_key: CipherKey = Field(
        None, validation_alias="X402_BOOTSTRAP_CIPHER_KEY",
        description="seals the credentials of new teams: 32 bytes as 64 hex digits, base64 or 32 ASCII characters",
    )  # fmt: skip
    x402_quote_key: CipherKey = Field(
        None, validation_alias="X402_QUOTE_KEY",
        description="authenticates quotes: 32 bytes, the same on all edges; unset: derived from X402_BOOTSTRAP_CIPHER_KEY",
    )  # fmt: skip
    x402_max_timeout_s: int = Field(
        300, validation_alias="X402_MAX_TIMEOUT_S", ge=60, le=3_600, description="life of a quote, and maxTimeoutSeconds of offers"
    )
    x402_wait_s: float = Field(
        20.0, validation_alias="X402_WAIT_S", gt=0, le=120, description="how long a caller's request waits for its payment"
    )
    x402_settle_timeout_s: float = Field(
        30.0,
        validation_alias="X402_SETTLE_TIMEOUT_S",
        gt=0,
        le=300,
        description="longest wait for a settle call; above X402_FACILITATOR_CONFIRM_S",
    )
    x402_credential_window_secs: int = Field(
        600,
        validation_alias="X402_CREDENTIAL_WINDOW_SECS",
        ge=0,
        le=86_400,
        description="how long a bootstrap's credentials are shown again",
    )
    x402_topup_atomic: int = Field(
        1_000_000, validation_alias="X402_TOPUP_ATOMIC", ge=1, description="what an empty wallet is asked to deposit"
    )
    x402_max_deposit_atomic: int = Field(
        1_000_000_000, validation_alias="X402_MAX_DEPOSIT_ATOMIC", ge=1_000_000, description="largest deposit in one payment"
    )
    x402_replay_fallback: bool = Field(
        False, validation_alias="X402_REPLAY_FALLBACK", description="teams without a subscription may pay for pages of GET /events"
    )
    x402_replay_price_atomic: int = Field(
        10, validation_alias="X402_REPLAY_PRICE_ATOMIC", ge=1, description="price of a row for teams without a subscription"
    )


class X402ProcessorSettings(X402Settings):
    """What the payments processor needs besides."""

    x402_rpc_url: NodeUrl | None = Field(
        None,
        validation_alias="X402_RPC_URL",
        repr=False,
        description="JSON-RPC of the chain evidence is read from; better another node than the facilitator's",
    )
    x402_facilitator_rpc_url: NodeUrl | None = Field(
        None, validation_alias="X402_FACILITATOR_RPC_URL", repr=False, description="the facilitator's node: read if X402_RPC_URL is unset"
    )
    x402_facilitator_url: HttpUrl | None = Field(
        None, validation_alias="X402_FACILITATOR_URL", description="where payments are verified and settled"
    )
    x402_facilitator_token: SecretStr | None = Field(
        None, validation_alias="X402_FACILITATOR_TOKEN", description="bearer token the facilitator asks for"
    )
    x402_scan_from_block: int | None = Field(
        None, validation_alias="X402_SCAN_FROM_BLOCK", ge=0, description="first block the scanner reads; unset: the head at the first start"
    )
    x402_verify_timeout_s: float = Field(
        5.0, validation_alias="X402_VERIFY_TIMEOUT_S", gt=0, le=60, description="longest wait for a verify call"
    )
    x402_confirmations: int = Field(
        1, validation_alias="X402_CONFIRMATIONS", ge=1, le=1_000, description="depth at which a payment counts (1 = in the newest block)"
    )
    x402_confirmations_large: int = Field(
        12, validation_alias="X402_CONFIRMATIONS_LARGE", ge=1, le=1_000, description="the same for large payments"
    )
    x402_large_atomic: int = Field(10_000_000, validation_alias="X402_LARGE_ATOMIC", ge=1, description="from here up a payment is large")
    x402_watch_blocks: int = Field(
        600,
        validation_alias="X402_WATCH_BLOCKS",
        ge=1,
        le=1_000_000,
        description="how deep a credited payment is watched for reorganisations",
    )

    def problems(self) -> list[str]:
        """Why payments could not be processed although they are on."""
        return processor_problems(self) if self.x402_enabled else []


def terms_of(settings: X402Settings) -> PaymentTerms | None:
    """What an edge asks of payments; None when they are off or something is missing (`payment_problems` says what)."""
    if payment_problems(settings):
        return None
    ciphers, quotes = _keys(settings.x402_bootstrap_cipher_key), _keys(settings.x402_quote_key)
    return PaymentTerms(
        asset=asset_in(settings),
        pay_to=parse_address(settings.x402_pay_to or ""),
        retired=frozenset(map(parse_address, settings.x402_pay_to_retired)),
        public_url=settings.public_url,
        quote_keys=quotes or tuple(map(quote_key_of, ciphers)),
        cipher_keys=ciphers,
        max_timeout_s=settings.x402_max_timeout_s,
        settle_timeout_s=settings.x402_settle_timeout_s,
        wait_s=settings.x402_wait_s,
        credential_window_s=settings.x402_credential_window_secs,
        topup_atomic=settings.x402_topup_atomic,
        max_deposit_atomic=settings.x402_max_deposit_atomic,
        replay_fallback=settings.x402_replay_fallback,
        replay_price_atomic=settings.x402_replay_price_atomic,
    )


def payment_problems(settings: X402Settings) -> list[str]:
    """Why no payment is taken: one text a variable, without values. Empty when everything needed is there."""
    if not settings.x402_enabled:
        return ["X402_ENABLED: off"]
    problems = [
        _problem("X402_ASSET", lambda: asset_in(settings)),
        "X402_PAY_TO: is required" if not settings.x402_pay_to else _problem("X402_PAY_TO", parse_address, settings.x402_pay_to),
        *(_problem("X402_PAY_TO_RETIRED", parse_address, one) for one in settings.x402_pay_to_retired),
    ]
    if settings.x402_quote_key is None and settings.x402_bootstrap_cipher_key is None:
        problems.append("X402_QUOTE_KEY: is required, or X402_BOOTSTRAP_CIPHER_KEY")
    return [problem for problem in problems if problem is not None]


def processor_problems(settings: X402ProcessorSettings) -> list[str]:
    """What the processor lacks to take payments, beyond what edges need: one text a variable, without values."""
    problems = payment_problems(settings)
    if settings.x402_rpc_url is None and settings.x402_facilitator_rpc_url is None:
        problems.append("X402_RPC_URL: is required (JSON-RPC of the chain evidence is read from)")
    if settings.x402_facilitator_url is None:
        problems.append("X402_FACILITATOR_URL: is required (where payments are verified and settled)")
    if settings.x402_bootstrap_cipher_key is not None and settings.api_key_pepper is None:
        problems.append("KITE_API_KEY_PEPPER: is required with X402_BOOTSTRAP_CIPHER_KEY (keys of new teams are hashed under it)")
    if settings.x402_max_timeout_s <= VERIFY_MARGIN_S + settings.x402_settle_timeout_s:
        problems.append(f"X402_MAX_TIMEOUT_S: must be above X402_SETTLE_TIMEOUT_S + {VERIFY_MARGIN_S}: no authorization lasts long enough")
    return problems


def asset_in(settings: X402AssetSettings) -> Asset:
    """The token that is paid in. Raises Malformed if it is not known what it is."""
    return asset_of(settings.x402_network, settings.x402_asset, settings.x402_asset_name, settings.x402_asset_version)


def _problem(name: str, parse: Callable[..., object], *given: str) -> str | None:
    try:
        parse(*given)
    except Malformed as error:
        return f"{name}: {error}"
    return None


def _keys(secret: SecretStr | None) -> tuple[bytes, ...]:
    return () if secret is None else parse_cipher_keys(secret.get_secret_value())
