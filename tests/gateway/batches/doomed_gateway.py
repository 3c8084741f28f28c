"""A gateway that a test kills; the arguments are the settings of its registry as JSON, and its port."""

from __future__ import annotations

import socket
import sys

import uvicorn

from gateway.app import build_gateway
from gateway.settings import GatewaySettings
from gateway.up.http_server import server_config
from registry.database import open_registry
from registry.settings import RegistrySettings

if __name__ == "__main__":
    registry = open_registry(RegistrySettings.model_validate_json(sys.argv[1]))
    gateway = build_gateway(GatewaySettings(route_refresh_s=0.05), registry)
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    uvicorn.Server(server_config(gateway)).run(sockets=[listener])
