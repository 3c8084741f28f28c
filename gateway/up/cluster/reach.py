"""Which nodes of a cluster have a gateway that this machine reaches."""

from __future__ import annotations

from collections.abc import Collection
from http.client import OK
from ipaddress import ip_address
from typing import Final

import httpx2

from gateway.settings import GatewaySettings
from gateway.up.listening import url_of

_WAIT_S: Final = 2.0


def gateways_at(addresses: Collection[str], knobs: GatewaySettings) -> list[str]:
    """Return the URLs of the gateways that answer at these addresses of nodes, sorted."""
    # A proxy from the environment is not for the nodes of a cluster.
    with httpx2.Client(trust_env=False, timeout=_WAIT_S) as client:
        urls = sorted(url_of(ip_address(address), knobs.port) for address in set(addresses))
        return [url for url in urls if _answers(client, url)]


def _answers(client: httpx2.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/-/healthz").status_code == OK
    except httpx2.TransportError:
        return False
