"""Hosts: which are this machine, and by which names the page may be asked for."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine and nobody else's."""
    address = address_of(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def within(to: str, otherwise: str = "/series") -> str:
    """Where a browser is sent on to: a path of the page, whatever an address says."""
    is_ours = to.startswith("/") and to.isprintable() and not to.startswith("//") and "\\" not in to
    return to if is_ours else otherwise


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an IP address, also in brackets; None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
