"""The gateway's HTTP server leaves the process that it runs in, Ray's, as it is."""

from __future__ import annotations

import io
import logging
import logging.handlers

from gateway.app import build_gateway
from gateway.settings import GatewaySettings
from gateway.up.http_server import server_config
from registry.database import Registry


def test_it_leaves_the_log_handlers_of_ray_as_they_are(sqlite_registry: Registry) -> None:
    """Ray keeps its log behind one; without it a controller that begins anew ends the replicas that it finds."""
    written = logging.StreamHandler(io.StringIO())
    handler = logging.handlers.MemoryHandler(capacity=10, target=written)
    server_config(build_gateway(GatewaySettings(), sqlite_registry))
    assert handler.target is written
