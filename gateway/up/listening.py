"""The gateway's port: shared among its replicas, refused to a second Lorry."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Final

from gateway.errors import StartFailed
from registry.database import Registry

Address = IPv4Address | IPv6Address
_BESIDE: Final[Mapping[str, Address]] = MappingProxyType(
    {"127.0.0.1": IPv6Address("::1"), "::1": IPv4Address("127.0.0.1"), "0.0.0.0": IPv6Address("::1")}
)
"""Address to listen on -> the other address of `localhost`. `::` takes IPv4 too."""


def addresses_of(host: Address) -> tuple[Address, ...]:
    """Return *host* and the other address of `localhost` that goes with it, where this machine has that one.

    Some clients look `localhost` up as ::1 alone, others as 127.0.0.1.
    """
    other = _BESIDE.get(str(host))
    if other is None:
        return (host,)
    try:
        with socket.socket(_family(other)) as probe:
            probe.bind((str(other), 0))
    except OSError:  # a machine or container without IPv6
        return (host,)
    return (host, other)


def check_port(host: Address, port: int) -> None:
    """Raise `StartFailed` if the port cannot be listened on at *host* and its other address."""
    for address in addresses_of(host):
        _check_port(address, port)


def _check_port(host: Address, port: int) -> None:
    with socket.socket(_family(host)) as probe:
        # Without REUSEPORT, the bind also fails where another Lorry shares the port among its own gateways.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(host), port))
        except OSError as exc:
            raise StartFailed(
                f"port {port} on {host} cannot be used ({exc.strerror}); stop what listens there or give another: "
                f"lorry up --port {port + 1}"
            ) from exc


def check_keys(host: Address, registry: Registry) -> None:
    """Raise `StartFailed` if others than this machine could reach the port and no key was ever made."""
    if not host.is_loopback and registry.keys.valid().is_keyless:
        raise StartFailed(
            f"without an API key only loopback is served, and [gateway] host is {host}; make the first key with "
            "`lorry keys create --home --name NAME`, or listen on 127.0.0.1"
        )


def url_of(host: Address, port: int) -> str:
    """Where this machine reaches a gateway that listens on *host*."""
    if host.is_unspecified:
        host = IPv4Address("127.0.0.1") if host.version == 4 else IPv6Address("::1")
    return f"http://{host}:{port}" if host.version == 4 else f"http://[{host}]:{port}"


def _family(host: Address) -> socket.AddressFamily:
    return socket.AF_INET if host.version == 4 else socket.AF_INET6


def listen(host: Address, port: int) -> socket.socket:
    """A listening socket on a port that other gateway replicas share. `OSError` if a stranger has it."""
    listener = socket.socket(_family(host), socket.SOCK_STREAM)
    # REUSEADDR too, inherited by what is accepted: clients that linger after a stop must not keep the next start out
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((str(host), port))
    listener.listen(1024)
    return listener
