"""Settings of billing, each explained. Only main sees them."""

from pydantic import Field

from kite_common.x402_settings import X402ProcessorSettings


class BillingSettings(X402ProcessorSettings):
    """What billing needs beside what all services have."""

    port: int = Field(7701, ge=0, le=65_535, description="port of /livez, /readyz and /metrics")
    redis_timeout_s: float = Field(
        2.0, gt=0, le=30, description="longest wait for one answer of Redis; then it counts as away and is asked again"
    )
    clerk_paid_plans: bool = Field(False, description="provider clerk may take plans that cost money: they are paid for outside of Kite")
