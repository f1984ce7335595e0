"""What settling needs from outside."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kite_facilitator.domain.scope import Wanted


@dataclass(frozen=True, slots=True)
class Payment:
    """A request of /verify or /settle as the SDK has parsed it, and what was read from it."""

    payload: Any
    requirements: Any
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Settled:
    """How a settlement ended. `body`: the SDK's answer, without nulls."""

    success: bool
    reason: str | None
    transaction: str
    body: Mapping[str, Any]


class Chain(Protocol):
    """The SDK's facilitator with its signer. Its calls may take as long as a confirmation."""

    async def verify(self, payment: Payment) -> Mapping[str, Any]:
        """Whether the payment would be settled: the SDK's answer. Raises whatever the SDK raises."""
        ...

    async def settle(self, payment: Payment) -> Settled:
        """Send the transfer and wait for it. Raises whatever the SDK raises: then it is not known whether anything was sent."""
        ...

    async def gas_wei(self) -> int:
        """What the key has left for fees. Raises OSError if the node does not answer."""
        ...
