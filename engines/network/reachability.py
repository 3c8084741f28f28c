"""The host by which an engine's server is reached, and what that means for its settings on a node of a cluster."""

from __future__ import annotations

from engines.errors import SettingRefused
from engines.network.hosts import is_loopback, is_wildcard, local_host
from engines.settings import EngineSettings


def reached_host(settings: EngineSettings) -> str:
    """Return the host by which gateways reach the server."""
    return settings.advertised_host or local_host(settings.host)


def on_node(settings: EngineSettings, node_address: str) -> EngineSettings:
    """Return *settings* for a node of a cluster: its server can be reached from the other nodes.

    The server listens on *node_address* where `host` was not set. On the only node of a local cluster, whose address is
    a loopback one, nothing changes. `SettingRefused` for a `host` that other nodes cannot reach.
    """
    if is_loopback(node_address):
        return settings
    if "host" not in settings.model_fields_set:
        return settings.model_copy(update={"host": node_address})
    if settings.advertised_host is not None:
        return settings
    if is_loopback(settings.host):
        raise SettingRefused(
            f"host = {settings.host} cannot be reached from the other nodes of the cluster; leave it out, and the "
            f"engine listens on the address of its node ({node_address} here), or set advertised_host"
        )
    return settings.model_copy(update={"advertised_host": node_address}) if is_wildcard(settings.host) else settings
