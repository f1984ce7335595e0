"""Which addresses a webhook may be sent to (wire contract, 10.3)."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_delivery.domain.target import all_allowed, is_allowed, parse_address

PRIVATE_V4 = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "192.0.0.0/24",
    "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
]  # fmt: skip
PRIVATE_V6 = [
    "::/128", "::1/128", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "100::/64", "2001:db8::/32", "2001::/32", "2002::/16",
    "64:ff9b:1::/48", "::/96", "5f00::/16", "3fff::/20",
]  # fmt: skip
# The tests name them because people reach secrets by them.
METADATA = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"]

private_v4 = st.sampled_from(PRIVATE_V4).flatmap(lambda block: st.ip_addresses(network=block)).map(lambda ip: IPv4Address(int(ip)))
private_v6 = st.sampled_from(PRIVATE_V6).flatmap(lambda block: st.ip_addresses(network=block)).map(lambda ip: IPv6Address(int(ip)))


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"])
def test_public_addresses_are_allowed(text: str) -> None:
    assert all_allowed([text])


@pytest.mark.parametrize("text", METADATA)
def test_metadata_addresses_are_refused(text: str) -> None:
    assert not all_allowed([text])


@given(private_v4)
def test_no_private_ipv4_address_is_allowed_in_any_form(address: IPv4Address) -> None:
    inside = int(address)
    mapped = IPv6Address((0xFFFF << 32) | inside)
    compatible = IPv6Address(inside)
    nat64 = IPv6Address(int(IPv6Address("64:ff9b::")) | inside)
    six_to_four = IPv6Address((0x2002 << 112) | (inside << 80))
    isatap = IPv6Address(int(IPv6Address("2a00:1450::5efe:0:0")) | inside)
    teredo = IPv6Address((0x2001_0000 << 96) | (inside ^ 0xFFFF_FFFF))
    for form in (address, mapped, compatible, nat64, six_to_four, isatap, teredo):
        assert not is_allowed(form), form
        assert is_allowed(form, allow_private=True)


@given(private_v6)
def test_no_special_ipv6_address_is_allowed(address: IPv6Address) -> None:
    assert not is_allowed(address)


@given(st.ip_addresses(v=4).map(lambda ip: IPv4Address(int(ip))))
def test_what_a_mapped_or_translated_address_carries_decides(address: IPv4Address) -> None:
    assert is_allowed(IPv6Address((0xFFFF << 32) | int(address))) == is_allowed(address)
    assert is_allowed(IPv6Address(int(IPv6Address("64:ff9b::")) | int(address))) == is_allowed(address)


@given(st.ip_addresses())
def test_python_calls_nothing_global_unicast_that_we_allow_and_it_does_not(address: IPv4Address | IPv6Address) -> None:
    carrier = isinstance(address, IPv6Address) and any(
        address in IPv6Network(block) for block in ("::ffff:0:0/96", "64:ff9b::/96")
    )
    if is_allowed(address) and not carrier:
        assert address.is_global
        assert not address.is_multicast


def test_one_refused_address_refuses_the_name() -> None:
    assert all_allowed(["8.8.8.8", "2606:4700:4700::1111"])
    assert not all_allowed(["8.8.8.8", "127.0.0.1"])
    assert not all_allowed([])
    assert not all_allowed(["not an address"])


@pytest.mark.parametrize(
    ("text", "known"), [("[::1]", True), ("fe80::1%eth0", True), ("127.0.0.1", True), ("localhost", False), ("", False)]
)
def test_a_literal_is_told_from_a_name(text: str, known: bool) -> None:
    assert (parse_address(text) is not None) == known
