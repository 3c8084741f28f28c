"""The place of a server process among those of an engine whose devices are on several nodes."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psutil

_EXCHANGE: Final = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
"""Variables by which the libraries of the exchange between nodes are told their network interface."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeetingPoint:
    """Where the processes of all nodes of an engine meet."""

    nodes: int
    """How many nodes the engine has."""
    address: str
    """Address of the first node."""
    port: int
    """A port there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlace:
    """A node of an engine that has several."""

    meeting: MeetingPoint
    rank: int
    """Number of the node, from 0; the process on the first node is the server that answers requests."""
    address: str
    """Address of the node."""
    variables: Mapping[str, str]
    """Environment variables by which the exchange uses the interface with that address."""


def place_on_node(meeting: MeetingPoint, rank: int, address: str, environment: Mapping[str, str]) -> NodePlace:
    """Return the place of node *rank*, which is this machine: its *address*, and what its *environment* leaves open."""
    interface = _interface_with(address)
    # An address of a translated network is none of an interface; the libraries choose one by themselves then.
    found = {} if interface is None else dict.fromkeys(_EXCHANGE, interface)
    variables = {name: value for name, value in found.items() if name not in environment}
    return NodePlace(meeting=meeting, rank=rank, address=address, variables=variables)


def _interface_with(address: str) -> str | None:
    families = (socket.AF_INET, socket.AF_INET6)
    for interface, addresses in psutil.net_if_addrs().items():
        if any(each.family in families and each.address == address for each in addresses):
            return interface
    return None
