"""For what a facilitator spends its gas: payments of its own deployment. Pure."""

from dataclasses import dataclass
from typing import Final

SCHEME: Final = "exact"


@dataclass(frozen=True, slots=True)
class Scope:
    """Network in CAIP-2 and as protocol version 1 calls it; addresses lower case. `pay_to`: all addresses that may be paid."""

    network: str
    v1_network: str
    asset: str
    pay_to: frozenset[str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller asks to be paid, and the authorization it comes with; addresses of any casing."""

    scheme: str
    network: str
    asset: str
    pay_to: str
    payer: str
    nonce: str

    @property
    def key(self) -> tuple[str, str]:
        """The authorization: the token takes each once."""
        return self.payer.lower(), self.nonce.lower()


def is_ours(scope: Scope, wanted: Wanted) -> bool:
    """Whether the payment is one of this deployment's."""
    return (
        wanted.scheme == SCHEME
        and wanted.network in (scope.network, scope.v1_network)
        and wanted.asset.lower() == scope.asset
        and wanted.pay_to.lower() in scope.pay_to
    )
