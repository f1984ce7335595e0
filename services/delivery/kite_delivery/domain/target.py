"""Is this resolved address allowed as a webhook target? Resolves nothing, dials nothing.

IPv4: everything but the special-purpose registry (RFC 6890 and successors) and the cloud metadata addresses outside of it.
IPv6: only global unicast, 2000::/3, without its special blocks. An address that carries an IPv4 address (mapped, NAT64) is judged
by what it carries; the forms nobody should receive webhooks on any more (6to4, Teredo, IPv4-compatible, ISATAP) are refused.
"""

from collections.abc import Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_REFUSED_V4: Final = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network, unspecified
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  # private
        "100.64.0.0/10",  # shared by carriers; also metadata of one cloud
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "168.63.129.16/32",  # metadata of one cloud, in public space
        "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24",  # protocols, examples
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",  # benchmarks, examples
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)  # fmt: skip
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_REFUSED_V6: Final = tuple(
    IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32", "3fff::/20",  # examples
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
    )
)  # fmt: skip
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
# RFC 5214, 6.1: the interface identifier of ISATAP, with and without the universal bit.
_ISATAP: Final = frozenset((0x0000_5EFE, 0x0200_5EFE))

Address = IPv4Address | IPv6Address


def parse_address(text: str) -> Address | None:
    """The address of a literal host as URLs and resolvers write it (with or without brackets, zone cut); None for a name."""
    try:
        return ip_address(text.removeprefix("[").removesuffix("]").partition("%")[0])
    except (AddressValueError, ValueError):
        return None


def is_allowed(address: Address, *, allow_private: bool = False) -> bool:
    """Whether a webhook may be sent to this address (wire contract, 10.3). `allow_private` lets everything pass."""
    if allow_private:
        return True
    if isinstance(address, IPv4Address):
        return not any(address in block for block in _REFUSED_V4)
    carried = _carried(address)
    if carried is not None:
        return is_allowed(carried)
    return address in _GLOBAL_V6 and not any(address in block for block in _REFUSED_V6) and not _is_isatap(address)


def all_allowed(addresses: Sequence[str], *, allow_private: bool = False) -> bool:
    """Whether a name may be dialled: it has addresses, and not one of them is refused or unreadable.

    One bad address refuses the name: a mix of public and private ones is how a name is rebound.
    """
    parsed = [parse_address(address) for address in addresses]
    return bool(parsed) and all(address is not None and is_allowed(address, allow_private=allow_private) for address in parsed)


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside a mapped or translated one (RFC 4291, 2.5.5.2; RFC 6052, 2.1)."""
    if address in _MAPPED or address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _is_isatap(address: IPv6Address) -> bool:
    return (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP
