"""Whether what a name was resolved to may be dialled. The rule for one address is tested in test_targets.py."""

from ipaddress import ip_address

import pytest

from kite_delivery.domain.target import all_allowed, is_allowed, parse_address


def test_one_refused_address_refuses_the_name() -> None:
    assert all_allowed(["8.8.8.8", "2606:4700:4700::1111"])
    assert not all_allowed(["8.8.8.8", "127.0.0.1"])
    assert not all_allowed([])
    assert not all_allowed(["not an address"])
    assert not all_allowed(["not an address"], allow_private=True)


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "fe80::1%eth0", "169.254.169.254", "64:ff9b:1::1"])
def test_private_targets_can_be_allowed(text: str) -> None:
    assert not all_allowed([text])
    assert all_allowed([text], allow_private=True)
    assert is_allowed(ip_address(text), allow_private=True)


@pytest.mark.parametrize(
    ("text", "known"), [("[::1]", True), ("fe80::1%eth0", True), ("127.0.0.1", True), ("127.1", True), ("localhost", False), ("", False)]
)
def test_a_literal_is_told_from_a_name(text: str, known: bool) -> None:
    assert (parse_address(text) is not None) == known
