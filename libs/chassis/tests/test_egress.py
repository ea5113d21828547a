"""Which addresses a tool may reach, with and without `allow_private`."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_chassis.egress import refusal


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:800::200e"])
def test_public_addresses_are_open(address: str) -> None:
    assert refusal(address, allow_private=False) is None
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "::1",
        "fc00::1",
        "fd12:3456::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "2002:c0a8:101::",
        "64:ff9b::7f00:1",
        "64:ff9b::10.0.0.1",
    ],
)
def test_private_addresses_need_the_tools_word(address: str) -> None:
    assert refusal(address, allow_private=False)
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.1",
        "239.1.1.1",
        "ff02::1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "2001:db8::1",
        "::ffff:0.0.0.0",
        "::ffff:224.0.0.1",
        "not an address",
        "",
        "127.1",
        "0x7f000001",
    ],
)
def test_some_addresses_are_closed_to_everyone(address: str) -> None:
    assert refusal(address, allow_private=False)
    assert refusal(address, allow_private=True)


PRIVATE = [ip_network(n) for n in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")]


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_an_ipv4_address_fares_no_better_in_ipv6_clothes(inner: IPv4Address) -> None:
    mapped = IPv6Address(f"::ffff:{inner}")
    for allow in (False, True):
        assert (refusal(str(inner), allow_private=allow) is None) == (refusal(str(mapped), allow_private=allow) is None)


@given(st.sampled_from(PRIVATE).flatmap(lambda n: st.integers(int(n.network_address), int(n.broadcast_address))))
def test_no_private_or_link_local_address_is_open_by_default(number: int) -> None:
    assert refusal(str(ip_address(number)), allow_private=False)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111"])
def test_public_addresses_are_closed_to_what_is_not_encrypted(address: str) -> None:
    assert "only https may go there" in str(refusal(address, allow_private=True, allow_public=False))
    assert refusal("10.0.0.1", allow_private=True, allow_public=False) is None
