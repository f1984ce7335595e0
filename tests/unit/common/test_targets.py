"""Which addresses a webhook may be sent to, and which address a host's text means (wire contract, 10.3)."""

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kite_common.targets import Address, is_allowed, is_local_name, parse_host

# The rows of IANA's IPv4 Special-Purpose Address Registry, and multicast (RFC 5771): RFC, block.
IANA_V4 = [
    ("RFC 791", "0.0.0.0/8"), ("RFC 1918", "10.0.0.0/8"), ("RFC 6598", "100.64.0.0/10"), ("RFC 1122", "127.0.0.0/8"),
    ("RFC 3927", "169.254.0.0/16"), ("RFC 1918", "172.16.0.0/12"), ("RFC 6890", "192.0.0.0/24"), ("RFC 5737", "192.0.2.0/24"),
    ("RFC 7535", "192.31.196.0/24"), ("RFC 7450", "192.52.193.0/24"), ("RFC 7526", "192.88.99.0/24"), ("RFC 1918", "192.168.0.0/16"),
    ("RFC 7534", "192.175.48.0/24"), ("RFC 2544", "198.18.0.0/15"), ("RFC 5737", "198.51.100.0/24"), ("RFC 5737", "203.0.113.0/24"),
    ("RFC 5771", "224.0.0.0/4"), ("RFC 1112", "240.0.0.0/4"), ("RFC 8190", "255.255.255.255/32"),
]  # fmt: skip
# Those of the IPv6 one that are not unwrapped, with everything outside of global unicast (RFC 4291, 2.4).
IANA_V6 = [
    ("RFC 4291", "::1/128"), ("RFC 4291", "::/128"), ("RFC 8215", "64:ff9b:1::/48"), ("RFC 6666", "100::/64"),
    ("RFC 9780", "100:0:0:1::/64"), ("RFC 2928", "2001::/23"), ("RFC 4380", "2001::/32"), ("RFC 7723", "2001:1::1/128"),
    ("RFC 5180", "2001:2::/48"), ("RFC 7450", "2001:3::/32"), ("RFC 7535", "2001:4:112::/48"), ("RFC 4843", "2001:10::/28"),
    ("RFC 7343", "2001:20::/28"), ("RFC 9374", "2001:30::/28"), ("RFC 3849", "2001:db8::/32"),
    ("RFC 3056", "2002::/16"), ("RFC 7534", "2620:4f:8000::/48"),
    ("RFC 9637", "3fff::/20"), ("RFC 9602", "5f00::/16"), ("RFC 4193", "fc00::/7"), ("RFC 4291", "fe80::/10"), ("RFC 3879", "fec0::/10"),
    ("RFC 4291", "ff00::/8"), ("RFC 4291", "::/96"), ("RFC 2765", "::ffff:0:0:0/96"),
]  # fmt: skip
METADATA = [
    "169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254",
    "fd20:ce::254", "fe80::a9fe:a9fe",
]  # fmt: skip
# Metadata of one cloud, in public space.
WIRE_SERVER = IPv4Address("168.63.129.16")
V4_BLOCKS = [IPv4Network(block) for _, block in IANA_V4]
V6_BLOCKS = [IPv6Network(block) for _, block in IANA_V6]


def _edges(block: IPv4Network | IPv6Network) -> list[Address]:
    """The first and last address of a block, and those beside it."""
    first, last, kind = int(block.network_address), int(block.broadcast_address), type(block.network_address)
    top = (1 << block.max_prefixlen) - 1
    return [kind(one) for one in (first - 1, first, last, last + 1) if 0 <= one <= top]


def _inside(blocks: Sequence[IPv4Network | IPv6Network]) -> st.SearchStrategy[Address]:
    return st.sampled_from(blocks).flatmap(lambda block: st.ip_addresses(network=block))


near_v4 = st.sampled_from([edge for block in V4_BLOCKS for edge in _edges(block)])
v4 = st.one_of(st.ip_addresses(v=4), _inside(V4_BLOCKS), near_v4, st.just(WIRE_SERVER)).map(lambda ip: IPv4Address(int(ip)))
near_v6 = st.sampled_from([edge for block in V6_BLOCKS for edge in _edges(block)])
plain_v6 = st.one_of(
    st.ip_addresses(network="2000::/3").map(lambda ip: IPv6Address(int(ip))), _inside(V6_BLOCKS), near_v6,
    st.ip_addresses(v=6).map(lambda ip: IPv6Address(int(ip))),
)  # fmt: skip


def mapped(address: IPv4Address) -> IPv6Address:
    return IPv6Address((0xFFFF << 32) | int(address))


def nat64(address: IPv4Address) -> IPv6Address:
    return IPv6Address(int(IPv6Address("64:ff9b::")) | int(address))


def other_carriers(address: IPv4Address) -> list[IPv6Address]:
    """Every other form that has an IPv4 address in it: compatible, translated, 6to4, Teredo, ISATAP, NAT64 under local prefixes."""
    inside = int(address)
    local = int(IPv6Address("64:ff9b:1::"))
    return [
        IPv6Address(inside),
        IPv6Address((0xFFFF << 48) | inside),
        IPv6Address((0x2002 << 112) | (inside << 80)),
        IPv6Address((0x2001_0000 << 96) | (inside ^ 0xFFFF_FFFF)),
        IPv6Address((0x2001_0000 << 96) | (inside << 64)),
        IPv6Address(int(IPv6Address("2a00:1450::5efe:0:0")) | inside),
        IPv6Address(int(IPv6Address("2a00:1450::200:5efe:0:0")) | inside),
        IPv6Address(local | inside),
        IPv6Address(local | ((inside >> 16) << 64) | ((inside & 0xFFFF) << 40)),
    ]


def expected(address: Address) -> bool:
    """The rule said another way: unwrapped, it is unicast that the registries call globally reachable, and no metadata."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or (IPv4Address(int(address) & 0xFFFF_FFFF) if address in IPv6Network("64:ff9b::/96") else None)
        if inner is not None:
            return expected(inner)
        isatap = (int(address) >> 32) & 0xFDFF_FFFF == 0x5EFE
        return int(address) >> 125 == 1 and not isatap and not any(address in block for block in V6_BLOCKS)
    return address != WIRE_SERVER and not any(address in block for block in V4_BLOCKS)


@given(st.one_of(v4, plain_v6, v4.map(mapped), v4.map(nat64)))
def test_an_address_is_allowed_iff_it_is_globally_routable_unicast_once_unwrapped(address: Address) -> None:
    assert is_allowed(address) == expected(address)


@given(st.one_of(v4, plain_v6))
def test_python_knows_nothing_private_that_we_allow(address: Address) -> None:
    if is_allowed(address) and address not in ip_network("64:ff9b::/96"):
        plain = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
        assert plain.is_global
        assert not plain.is_multicast
        assert not plain.is_private


@pytest.mark.parametrize("block", [*V4_BLOCKS, *V6_BLOCKS], ids=str)
def test_the_rule_changes_exactly_at_the_edges_of_a_block(block: IPv4Network | IPv6Network) -> None:
    assert [is_allowed(edge) for edge in _edges(block)] == [expected(edge) for edge in _edges(block)]
    assert not is_allowed(block.network_address)
    assert not is_allowed(block.broadcast_address)


@given(v4)
def test_no_other_form_carries_an_ipv4_address_anywhere(address: IPv4Address) -> None:
    for form in other_carriers(address):
        assert not is_allowed(form), form


@pytest.mark.parametrize("text", METADATA)
def test_metadata_addresses_are_refused_in_every_form(text: str) -> None:
    address = parse_host(text)
    assert address is not None
    assert not is_allowed(address)
    if isinstance(address, IPv4Address):
        assert not any(is_allowed(form) for form in (mapped(address), nat64(address), *other_carriers(address)))


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"])
def test_public_addresses_are_allowed(text: str) -> None:
    address = parse_host(text)
    assert address is not None
    assert is_allowed(address)
    assert not is_allowed(IPv6Address(f"{address}%1")) if address.version == 6 else is_allowed(mapped(IPv4Address(str(address))))


def forms_of(address: IPv4Address) -> list[str]:
    """The ways inet_aton reads an address: one to four numbers, each decimal, octal or hexadecimal."""
    number, (a, b, c, d) = int(address), address.packed
    groups = [[number], [a, number & 0xFFFFFF], [a, b, number & 0xFFFF], [a, b, c, d]]
    spellings: list[Callable[[int], str]] = [str, lambda part: f"0{part:o}", hex, lambda part: f"0X{part:X}", lambda part: f"0x{part:010x}"]
    return [".".join(spell(part) for part in group) for group in groups for spell in spellings]


@given(v4)
def test_every_way_to_write_an_ipv4_address_means_that_address(address: IPv4Address) -> None:
    for form in forms_of(address):
        for text in (form, form + ".", form + ".."):
            assert parse_host(text) == address, text


@given(v4)
def test_parts_may_be_spelled_differently_from_each_other(address: IPv4Address) -> None:
    a, b, c, d = address.packed
    assert parse_host(f"0x{a:x}.{b}.0{c:o}.{d}") == address


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("[::1]", "::1"), ("::1", "::1"), ("[::FFFF:127.0.0.1]", "::ffff:7f00:1"), ("0:0:0:0:0:0:0:1", "::1"), ("0", "0.0.0.0"),  # noqa: S104 - targets
        ("127.1", "127.0.0.1"), ("0x", "0.0.0.0"), ("1.2.3.4.", "1.2.3.4"), ("4294967295", "255.255.255.255"),  # noqa: S104
    ],
)  # fmt: skip
def test_a_literal_means_its_address(text: str, meant: str) -> None:
    assert str(parse_host(text)) == meant


@pytest.mark.parametrize(
    "text", ["fe80::1%eth0", "fe80::1%25eth0", "[2606:4700::1111%lo]", "2606:4700::1111%1", "2606:4700::1111%", "::1%%"]
)
def test_a_zone_names_an_interface_of_ours_and_is_refused(text: str) -> None:
    address = parse_host(text)
    assert address is not None
    assert not is_allowed(address)


@pytest.mark.parametrize(
    "text",
    [
        "localhost", "", ".", "example.com", "1.2.3.4.5", "256.1.1.1", "1.2.3.256", "4294967296", "08.1.1.1", "0xg", "1..2", "-1", "1e3",
        "a.1", "１２７.0.0.1", "127。0。0。1", "%31", "127.0.0.%31", "1" * 5_000, "::g", "1:2",
    ],
)  # fmt: skip
def test_anything_else_is_a_name(text: str) -> None:
    assert parse_host(text) is None


@given(st.text(max_size=60))
def test_any_text_gets_an_answer(text: str) -> None:
    address = parse_host(text)
    assert address is None or is_allowed(address) in (True, False)
    assert is_local_name(text) in (True, False)


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("localhost", True), ("LOCALHOST.", True), ("a.localhost", True), ("localhost.localdomain", True), ("ip6-localhost", True),
        ("metadata.google.internal", True), ("localhost.example.com", False), ("notlocalhost", False), ("example.com", False), ("", False),
    ],
)  # fmt: skip
def test_names_of_this_machine_are_known(name: str, local: bool) -> None:
    assert is_local_name(name) is local
