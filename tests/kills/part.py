"""`python -m tests.kills.part gateway|controller HOME PORT`: a gateway, or a controller, on the registry of a home.

These are the parts that `lorry up` places with Ray Serve, without Ray. The trainer is `python -m trainer`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import uvicorn

from gateway.app import build_gateway
from gateway.rollouts.controller import reconcile
from gateway.settings import GatewaySettings
from gateway.up.http_server import server_config
from registry.database import Registry, open_registry
from registry.errors import RegistryError
from registry.settings import RegistrySettings

KNOBS: Final = GatewaySettings(route_refresh_s=0.1)
RECONCILE_S: Final = 0.2


def home_registry(home: Path) -> Registry:
    """Open the registry of *home*."""
    return open_registry(RegistrySettings(url=f"sqlite:///{home / 'registry.db'}", artifacts=home / "artifacts"))


def serve(home: Path, port: int) -> None:
    """Serve the gateway until the process is killed."""
    knobs = KNOBS.model_copy(update={"port": port})
    uvicorn.Server(server_config(build_gateway(knobs, home_registry(home)))).run()


def control(home: Path, _: int) -> None:
    """Reconcile until the process is killed."""
    registry = home_registry(home)
    while True:
        try:
            reconcile(registry, KNOBS, time.time())
        except RegistryError as exc:
            sys.stderr.write(f"{exc}\n")
        time.sleep(RECONCILE_S)


if __name__ == "__main__":
    {"gateway": serve, "controller": control}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
