"""Hosts that servers listen on and are reached by: what a name or an address stands for."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*")
_LOOPBACK: Final = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def checked_host(text: str) -> str:
    """Return *text* where others can reach it; `ValueError` for all addresses at once, a port or a URL."""
    if is_wildcard(text):
        raise ValueError(f"{text} stands for every address of the machine; give the one that gateways are to use")
    if not _NAME.fullmatch(text) and _address(text) is None:
        raise ValueError(f"{text!r} is not a host name or an IP address; give it without a scheme, port or path")
    return text


def is_wildcard(host: str) -> bool:
    """Whether *host* stands for every address of the machine."""
    address = _address(host)
    return address is not None and address.is_unspecified


def is_loopback(host: str) -> bool:
    """Whether *host* is reached from its own machine alone."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def family_of(host: str) -> socket.AddressFamily:
    """Return the family of sockets that listen on *host*."""
    address = _address(host)
    return socket.AF_INET6 if address is not None and address.version == 6 else socket.AF_INET


def local_host(bound: str) -> str:
    """Return the host by which the machine itself reaches a server that listens on *bound*."""
    return _LOOPBACK[family_of(bound)] if is_wildcard(bound) else bound


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
