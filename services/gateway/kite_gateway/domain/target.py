"""Whether the host of a webhook URL may be a target, as far as its text says (wire contract, 10.3). Resolves nothing.

Names are checked again, by their addresses, whenever a delivery dials; this check gives an early answer for literal addresses.
"""

from kite_common.targets import is_allowed, is_local_name, parse_host


def is_private_host(host: str) -> bool:
    """Whether a URL's host is a name of this machine or means an address that is not public, in whatever form it is written."""
    if is_local_name(host):
        return True
    address = parse_host(host)
    return address is not None and not is_allowed(address)
