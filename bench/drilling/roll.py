"""A rolling update: `python -m bench.drilling.roll APPLICATION PORT ADDRESS`, in the environment of a `lorry up`.

Deploys the application anew on its Ray cluster, as an update of Lorry would, and returns when all its replicas are new.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

from engines.hardware.machine import Machine
from engines.hardware.probe import read_machine
from gateway.pools.bundled import unpack_bundled
from gateway.pools.pools import prepare_pools
from gateway.up.flags import source_of
from registry.database import open_registry

TIMEOUT_S: Final = 180.0


class _Ground:
    """`gateway.pools.pools.Ground`: where the model is unpacked already."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def bundled_folder(self) -> Path:
        """Return the folder where `lorry up` has the bundled model."""
        return unpack_bundled(self._home / "cache", lambda done, total: None)

    def read_machine(self) -> Machine:
        """Return what this machine has."""
        return read_machine()

    def explain(self, reason: str) -> None:
        """Do nothing: nobody asked."""


def main() -> None:
    """Roll the application, or exit with 1 when that takes too long."""
    application, port, address = sys.argv[1:]
    source = source_of(int(port), None, "auto")
    settings = source.load()
    registry = open_registry(settings.registry)
    pools = prepare_pools(settings, registry, _Ground(settings.home))
    registry.close()
    from gateway.up import serve_app

    serve_app.connect(address)
    serve_app.start_applications(source, pools, (application,))
    deadline = time.monotonic() + TIMEOUT_S
    while not serve_app.is_running(application):
        if time.monotonic() > deadline:
            sys.exit(1)
        time.sleep(0.2)
    os._exit(0)  # Ray's own end may wait for what is not ours


if __name__ == "__main__":
    main()
