"""Who a request without bearer is counted as: its client address."""

import ipaddress
from typing import Final

_UNKNOWN: Final = "unknown"
# The part of an IPv6 address that a network hands out; the rest any host of it may choose.
_V6_PREFIX: Final = 64


def client_of(host: str | None) -> str:
    """An IPv4 address, the /64 of an IPv6 address, or one name for all clients without either."""
    try:
        address = ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return _UNKNOWN
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _V6_PREFIX), strict=False))
    return str(address)
