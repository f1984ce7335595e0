"""Whether the host of a webhook URL may be a target, as far as its text says (wire contract, 10.3). Resolves nothing.

Names are checked again, by their addresses, whenever a delivery dials; this check gives an early answer for literal addresses.
"""

import ipaddress
import re
from typing import Final

# The name that means this machine by definition (RFC 6761, section 6.3), with everything under it.
_LOCAL_NAME: Final = "localhost"
# Ranges that carry an IPv4 address inside an IPv6 one: NAT64 (RFC 6052, RFC 8215).
_NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_V4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


def is_private_host(host: str) -> bool:
    """Whether a URL's host is localhost or a literal address that is not public: loopback, private, link-local, metadata, reserved.

    `host` is lower case and without brackets. Short and octal forms of IPv4 addresses ("127.1", "0x7f000001") count as the address
    they mean, because dialling libraries read them so.
    """
    name = host.rstrip(".")
    if name == _LOCAL_NAME or name.endswith("." + _LOCAL_NAME):
        return True
    address = _literal(name)
    return address is not None and not _is_public(address)


def _literal(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        pass
    return _legacy_ipv4(name)


def _legacy_ipv4(name: str) -> ipaddress.IPv4Address | None:
    """The address of the forms inet_aton reads: one to four numbers, decimal, octal or hex, the last one filling what is left."""
    parts = name.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    numbers = [_number(part) for part in parts]
    if None in numbers:
        return None
    *heads, last = (number or 0 for number in numbers)
    if any(head > 255 for head in heads) or last >= 256 ** (4 - len(heads)):
        return None
    return ipaddress.IPv4Address(sum(head << (24 - 8 * place) for place, head in enumerate(heads)) + last)


def _number(text: str) -> int | None:
    try:
        if text[:2].lower() == "0x":
            return int(text[2:] or "0", 16)
        return int(text, 8) if text.startswith("0") else int(text)
    except ValueError:
        return None


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    inner = _embedded(address) if isinstance(address, ipaddress.IPv6Address) else None
    if inner is not None:
        return _is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for: mapped, compatible, 6to4, Teredo, NAT64."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _V4_COMPATIBLE or any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
