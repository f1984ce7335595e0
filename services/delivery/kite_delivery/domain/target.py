"""Is this resolved address allowed as a webhook target? Resolves nothing, dials nothing. Which ones are: `kite_common.targets`."""

from collections.abc import Sequence

from kite_common import targets
from kite_common.targets import Address, parse_host


def parse_address(text: str) -> Address | None:
    """The address of a literal host as URLs and resolvers write it; None for a name."""
    return parse_host(text)


def is_allowed(address: Address, *, allow_private: bool = False) -> bool:
    """Whether a webhook may be sent to this address. `allow_private` lets everything pass."""
    return allow_private or targets.is_allowed(address)


def all_allowed(addresses: Sequence[str], *, allow_private: bool = False) -> bool:
    """Whether a name may be dialled: it has addresses, and not one of them is refused or unreadable.

    One bad address refuses the name: a mix of public and private ones is how a name is rebound.
    """
    parsed = [parse_host(address) for address in addresses]
    return bool(parsed) and all(address is not None and is_allowed(address, allow_private=allow_private) for address in parsed)
