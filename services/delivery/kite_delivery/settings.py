"""Settings of delivery: variables of every service, and its own that begin with KITE_DELIVERY_. Only `main` sees them."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from kite_common.config import KiteSettings, checked_by
from kite_common.crypto import parse_cipher_keys
from kite_common.topics import RETRY_TIERS


def _numbers(value: object) -> object:
    return tuple(float(part) for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _rising(values: Sequence[float]) -> bool:
    return all(0 < one < next_one for one, next_one in zip(values, values[1:], strict=False)) and values[0] > 0


Seconds = Annotated[tuple[float, ...], BeforeValidator(_numbers)]


class DeliverySettings(KiteSettings):
    """Defaults are the wire contract's, section 10; the times exist so that tests can run the same schedule compressed."""

    port: int = Field(7702, ge=0, le=65_535, description="port of /livez, /readyz and /metrics")
    webhook_secret_cipher_key: Annotated[SecretStr, checked_by(parse_cipher_keys)] | None = Field(
        None, description="opens webhook secrets: as at the gateway, newest first; without it nothing can be signed or sent"
    )
    webhook_signing_key: Annotated[SecretStr | None, checked_by(parse_cipher_keys)] = Field(
        None, description="each team's Ed25519 key for v1a comes from it; written like webhook_secret_cipher_key, newest first: all sign"
    )  # fmt: skip
    delivery_attempt_timeout_s: float = Field(15.0, gt=0, le=60, description="seconds for one attempt in all")
    delivery_retry_waits_s: Seconds = Field(
        (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400), description="seconds before attempt 2, 3, ...; as many as retries"
    )
    delivery_retry_jitter: float = Field(0.2, ge=0, le=1, description="how much longer a wait may be, drawn at random")
    delivery_retry_after_max_s: float = Field(86_400, gt=0, description="how long a Retry-After is honoured at most")
    delivery_tiers_s: Seconds = Field(
        (5, 60, 300, 1_800, 7_200, 21_600), description=f"seconds each of the {RETRY_TIERS} retry topics holds a delivery, rising"
    )
    delivery_aside_most_s: float = Field(
        1_800, gt=0, description="how long what found no place in its lane, or whose endpoint is left alone, waits at most"
    )
    delivery_concurrency: int = Field(16, ge=1, le=1_024, description="POSTs at once to one endpoint")
    delivery_queue: int = Field(256, ge=0, description="deliveries that wait in memory for one endpoint")
    delivery_queue_wait_s: float = Field(5.0, gt=0, description="how long they wait there; then they are parked")
    delivery_rate_per_s: float = Field(0.0, ge=0, description="POSTs a second to one endpoint; 0 = as fast as it answers")
    delivery_burst: int = Field(16, ge=1, description="POSTs that may come at once under a rate")
    delivery_breaker_failures: int = Field(10, ge=0, description="failures in a row after which an endpoint is left alone; 0 = never")
    delivery_breaker_open_s: float = Field(5.0, gt=0, description="how long; then one POST tries, and if it fails, it is twice as long")
    delivery_breaker_open_most_s: float = Field(60.0, gt=0, description="how long it is left alone at most before one POST tries")
    delivery_max_in_flight: int = Field(1_024, ge=1, description="POSTs at once of this process")
    delivery_max_held: int = Field(8_192, ge=1, description="deliveries in memory of this process, a quarter of them from retry tiers")
    delivery_max_held_mib: int = Field(128, ge=1, description="their bodies, MiB")
    delivery_window: int = Field(50_000, ge=1, description="offsets of a partition that may be handled ahead of its oldest open one")
    delivery_commit_every_s: float = Field(0.2, gt=0, description="seconds between commits; what a kill repeats")
    delivery_release_within_s: float = Field(
        2.0, ge=0, le=2, description="seconds for attempts under way when a partition is taken away; its group allows three in all"
    )

    @model_validator(mode="after")
    def _check_times(self) -> "DeliverySettings":
        if len(self.delivery_tiers_s) != RETRY_TIERS or not _rising(self.delivery_tiers_s):
            raise ValueError(f"KITE_DELIVERY_TIERS_S must be {RETRY_TIERS} rising numbers of seconds")
        if any(wait_s < 0 for wait_s in self.delivery_retry_waits_s):
            raise ValueError("KITE_DELIVERY_RETRY_WAITS_S must be numbers of seconds")
        return self
