"""Addresses out of reach for other machines, and so unfit for an image.

What goes in: a URI. What comes out: the reason why it is no use elsewhere. Invariant: neither a
name server nor the network is asked, so the answer is the same on every host.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

__all__ = ["unreachable_elsewhere"]

_SCHEMES: Final = ("http", "https", "tor+http", "tor+https")
#: Names of a machine itself (RFC 6761, section 6.3, and Debian's /etc/hosts).
_LOOPBACK_NAMES: Final = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


def unreachable_elsewhere(uri: str) -> str | None:
    """Say why other machines get nothing from a URI; return None if nothing is known against it."""
    scheme = uri.partition(":")[0].lower()
    if scheme not in _SCHEMES:
        return f'"{scheme}:" is not a server address'
    try:
        host = (urlsplit(uri).hostname or "").rstrip(".")
    except ValueError:
        return "its host is neither a name nor an address"
    if not host:
        return "it names no host"
    if host in _LOOPBACK_NAMES or host.endswith(".localhost"):
        return f"{host} is every machine itself"
    return _of_address(host)


def _of_address(host: str) -> str | None:
    address = _address(host)
    if address is None:
        return None
    inner = getattr(address, "ipv4_mapped", None) or address
    if inner.is_loopback or inner.is_unspecified:
        return f"{host} is every machine itself"
    if inner.is_link_local:
        return f"{host} is a link-local address, which only neighbours reach"
    if inner.is_multicast or host == "255.255.255.255":
        return f"{host} is the address of no single machine"
    return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a host as an address; None for a name.

    Reads 127.1 and 0x7f000001 too, as inet_aton(3) does.
    """
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeEncodeError):
        return None
