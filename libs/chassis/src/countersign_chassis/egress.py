"""Which network addresses may be reached. Pure: names are resolved elsewhere (:mod:`.outbound`).

An address is refused unless it is globally routable; loopback and private networks are opened by ``allow_private`` of
what is declared. Link-local, multicast, reserved and cloud metadata addresses stay closed to
everyone. IPv6 forms that carry an IPv4 address (mapped, 6to4, Teredo, NAT64) are judged by both.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address

#: Instance metadata services that do not sit in 169.254.0.0/16 (AWS over IPv6, GCP over IPv6, Alibaba,
#: Azure, Oracle).
_METADATA = frozenset(
    ip_address(a) for a in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
_PRIVATE: tuple[IPv4Network | IPv6Network, ...] = tuple(
    ip_network(n)
    for n in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "fc00::/7",
        "::1/128",
    )
)
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))


def refusal(address: str, *, allow_private: bool, allow_public: bool = True) -> str | None:
    """Why ``address`` (an IP address in text) may not be connected to; None if it may.

    ``allow_public`` is not for what goes without encryption.
    """
    try:
        outer = ip_address(address.partition("%")[0])
    except ValueError:
        return f"{address!r} is not an IP address"
    for candidate in _judged(outer):
        if reason := _reason(candidate, allow_private, allow_public):
            return reason if candidate == outer else f"{outer} carries {candidate}: {reason}"
    return None


def _judged(address: Address) -> Iterator[Address]:
    """The IPv4 addresses that an IPv6 address stands for, or else the address itself."""
    if not isinstance(address, IPv6Address):
        yield address
        return
    inner: list[IPv4Address] = []
    if address.ipv4_mapped is not None:
        inner.append(address.ipv4_mapped)
    if address.sixtofour is not None:
        inner.append(address.sixtofour)
    if address.teredo is not None:
        inner += address.teredo
    if any(address in network for network in _NAT64):
        inner.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    yield from inner or (address,)


def _reason(address: Address, allow_private: bool, allow_public: bool) -> str | None:
    if address.is_link_local or address in _METADATA:
        return f"{address} is a link-local or metadata address; nobody may reach those"
    if address.is_multicast or address.is_unspecified:
        return f"{address} is a multicast or unspecified address; nobody may reach those"
    if any(address.version == network.version and address in network for network in _PRIVATE):
        return (
            None
            if allow_private
            else f"{address} is a loopback or private address, and `allow_private` is not declared"
        )
    if not address.is_global or address.is_reserved:
        return f"{address} is a reserved address; nobody may reach those"
    return None if allow_public else f"{address} is a public address; only https may go there"
