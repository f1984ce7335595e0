"""Which hosts and addresses webhooks may be sent to, and which address a host's text means. Resolves nothing, dials nothing.

IPv4: everything but the special-purpose registry (RFC 6890 and successors), multicast and the cloud metadata addresses outside of it.
IPv6: only global unicast, 2000::/3, without its special blocks. An address that carries an IPv4 address (mapped, NAT64) is judged by what
it carries; the forms nobody should receive webhooks on any more (6to4, Teredo, IPv4-compatible, ISATAP) and those whose IPv4 address
nobody can tell (NAT64 under a local prefix) are refused. So is whatever names an interface of this machine (a zone).
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

REFUSED_V4: Final = tuple(
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
REFUSED_V6: Final = tuple(
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
# Names of this machine (RFC 6761, 6.3; customs of /etc/hosts) and of a cloud's metadata: an early answer, dialling checks addresses.
_LOCAL_NAMES: Final = frozenset(("localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "broadcasthost"))
_LOCAL_DOMAINS: Final = (".localhost", ".localdomain", ".localdomain4", ".localdomain6", "metadata.google.internal")
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
# Python's int() refuses longer ones; no form of an address needs as many.
_MAX_DIGITS: Final = 64


def parse_host(text: str) -> Address | None:
    """The address that a host means to whatever dials it; None for a name. With or without brackets and dots at the end.

    Short, octal, decimal and hexadecimal forms of IPv4 ("127.1", "0x7f000001") count as the address they mean, because resolvers read
    them so. An IPv6 address with a zone keeps one.
    """
    name = text.removeprefix("[").removesuffix("]").rstrip(".")
    head, percent, _ = name.partition("%")
    try:
        address = ip_address(head)
    except (AddressValueError, ValueError):
        return _legacy_ipv4(head)
    return IPv6Address(f"{address}%zone") if percent and isinstance(address, IPv6Address) else address


def is_local_name(text: str) -> bool:
    """Whether a host is a name that means this machine wherever it is asked, or a metadata service."""
    name = text.rstrip(".").lower()
    return name in _LOCAL_NAMES or ("." + name).endswith(_LOCAL_DOMAINS)


def is_allowed(address: Address) -> bool:
    """Whether a webhook may be sent to this address: globally reachable unicast, and no metadata (wire contract, 10.3)."""
    if isinstance(address, IPv4Address):
        return not any(address in block for block in REFUSED_V4)
    if address.scope_id is not None:
        return False
    carried = _carried(address)
    if carried is not None:
        return is_allowed(carried)
    return address in _GLOBAL_V6 and not any(address in block for block in REFUSED_V6) and not _is_isatap(address)


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside a mapped or translated one (RFC 4291, 2.5.5.2; RFC 6052, 2.1)."""
    if address in _MAPPED or address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _is_isatap(address: IPv6Address) -> bool:
    return (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP


def _legacy_ipv4(name: str) -> IPv4Address | None:
    """The address of the forms inet_aton reads: one to four numbers, decimal, octal or hex, the last one filling what is left."""
    parts = name.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) and len(part) <= _MAX_DIGITS for part in parts):
        return None
    numbers = [_number(part) for part in parts]
    if None in numbers:
        return None
    *heads, last = (number or 0 for number in numbers)
    if any(head > 255 for head in heads) or last >= 256 ** (4 - len(heads)):
        return None
    return IPv4Address(sum(head << (24 - 8 * place) for place, head in enumerate(heads)) + last)


def _number(text: str) -> int | None:
    try:
        if text[:2].lower() == "0x":
            return int(text[2:] or "0", 16)
        return int(text, 8) if text.startswith("0") else int(text)
    except ValueError:
        return None
