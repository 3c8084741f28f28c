"""A pool as the node of a replica makes it: engine, hardware, interpreter and folders are those of this machine."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from pathlib import Path

from engines.errors import EngineError
from engines.hardware.machine import Machine
from engines.hardware.probe import read_machine
from gateway.engines_settings import PoolSettings
from gateway.errors import StartFailed
from gateway.pools.bundled import unpack_bundled
from gateway.pools.pools import Pool, prepare_pool
from gateway.settings import Settings
from registry.database import Registry
from registry.wording.suggestions import meant_or_known

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Node:
    """`gateway.pools.pools.Ground`: the node on which a replica was placed."""

    home: Path

    def bundled_folder(self) -> Path:
        """Return the bundled model's folder on this node, unpacked by the first replica that needs it."""
        return unpack_bundled(self.home / "cache", lambda done, total: None)

    def read_machine(self) -> Machine:
        """Return what the node has."""
        return read_machine()

    def explain(self, reason: str) -> None:
        """Log why something was chosen."""
        log.info("engine chosen", extra={"reason": reason})


def pool_named(settings: Settings, name: str) -> PoolSettings:
    """Return the settings of pool *name*; `StartFailed` lists those that there are."""
    pools = {pool.name: pool for pool in settings.engines.pools}
    if name not in pools:
        raise StartFailed(f"settings [engines] have no pool {name!r}{meant_or_known(name, sorted(pools))}")
    return pools[name]


def pool_of_node(settings: Settings, name: str, registry: Registry) -> Pool:
    """Return pool *name* with its engine chosen for this node and its base model found on it.

    Reads all bytes of the base model. `StartFailed` with the node's name for what is not on it; `RegistryError`.
    """
    try:
        return prepare_pool(pool_named(settings, name), settings.home, registry, _Node(settings.home))
    except (StartFailed, EngineError) as exc:
        raise StartFailed(f"pool {name!r} on the node {socket.gethostname()}: {exc}") from exc
