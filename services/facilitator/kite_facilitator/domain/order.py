"""What a call to /verify or /settle asks for, as a value, and whom the facilitator works for."""

from dataclasses import dataclass, field
from typing import Literal

from kite_common.events.payments import Authorization
from kite_common.x402.networks import Asset


@dataclass(frozen=True, slots=True)
class Served:
    """The one deployment whose payments are settled: its token, and the addresses it is paid at (lower case)."""

    asset: Asset
    recipients: frozenset[str]


@dataclass(frozen=True, slots=True)
class Order:
    """One payment, canonical: `pay_to` lower case, `amount` atomic. `version` is the caller's and decides the network's name only."""

    version: Literal[1, 2]
    authorization: Authorization
    signature: str = field(repr=False)
    pay_to: str
    amount: int
    max_timeout_s: int

    @property
    def key(self) -> tuple[str, str]:
        """Payer and nonce: the token takes them once, whatever the signature."""
        return self.authorization.from_address, self.authorization.nonce

    def network_name(self, asset: Asset) -> str:
        """The network as the caller's version of the protocol names it."""
        return asset.v1_network if self.version == 1 else asset.network
