"""Our gateway as `lorry up` runs it, with the mock's engines entered by hand."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx2
import psutil

from bench.comparison.native import MODEL, free_ports
from bench.comparison.process_tree import command_of, tree_of
from bench.comparison.targets import answers
from gateway.engines_settings import BUNDLED_BASE
from gateway.pools.bundled import unpack_bundled
from registry.database import open_registry
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.types import Base
from tests.up_process import Up
from tests.waiting import wait_for

GATEWAY: Final = "ray::ServeReplica:gateway:gateway"


class Lorry:
    """A running `lorry up`: two gateway processes, authentication, routing, balancing and metrics as they are."""

    name = "lorry"
    patience = 1.0

    def __init__(
        self, home: Path, engine_ports: Sequence[int], settings: str = "", registry_url: str | None = None
    ) -> None:
        """Return once it answers with the mock's model through every engine; *home* is emptied first.

        *registry_url* is what *settings* say of the registry, if they do.
        """
        self.home = prepare_home(home, registry_url or f"sqlite:///{home / 'registry.db'}")
        (self.port,) = free_ports(1)
        self._up = Up(home, self.port, settings)
        if self._up.process.poll() is not None or not self._up.ready_line:
            raise SystemExit(f"`lorry up` did not start; its logs are in {home / 'logs'}")
        self.key: str | None = None
        self.replicas: dict[int, str] = {}
        try:
            self.key = self.admin("POST", "/admin/keys", {"name": "load"})["key"]
            self.replicas = {port: self.enter(port) for port in engine_ports}
            if engine_ports:
                wait_for(lambda: answers(self.port, self.key), 30.0)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Return the process id of `lorry up`, the ancestor of all other processes."""
        return self._up.process.pid

    def enter(self, engine_port: int) -> str:
        """Enter the mock at this port as an engine, wait until it is ready, and return its replica's id."""
        url = f"http://127.0.0.1:{engine_port}"
        replica: str = self.admin("POST", "/admin/replicas", {"url": url, "engine": "vllm", "base": MODEL})["id"]
        wait_for(lambda: self.state_of(replica) == "ready", 30.0)
        return replica

    def state_of(self, replica: str) -> str | None:
        """Return the state of a replica, None for one that the gateway does not know."""
        found = self.admin("GET", "/admin/replicas")["data"]
        return next((str(one["state"]) for one in found if one["id"] == replica), None)

    def admin(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to a request of an operator, which must succeed."""
        headers = {} if self.key is None else {"authorization": f"Bearer {self.key}"}
        url = f"http://127.0.0.1:{self.port}{path}"
        answer = httpx2.request(method, url, json=body, headers=headers, timeout=30.0, trust_env=False)
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told

    def serving(self) -> list[psutil.Process]:
        """Return the gateway processes."""
        return [process for process in self.whole() if command_of(process).startswith(GATEWAY)]

    def whole(self) -> list[psutil.Process]:
        """Return the gateways, Ray, the controller, the trainer and the engine of the bundled model, which is idle."""
        return tree_of(self.pid)

    def stop(self) -> None:
        """End Lorry."""
        self._up.stop(signal.SIGINT)


def prepare_home(home: Path, registry_url: str) -> Path:
    """Make an empty home with the bundled model unpacked, and a registry that knows the mock's base model."""
    shutil.rmtree(home, ignore_errors=True)
    (home / "cache").mkdir(parents=True)
    bundled = unpack_bundled(Path(sys.prefix) / "lorry-tests", lambda done, total: None)
    (home / "cache" / BUNDLED_BASE).symlink_to(bundled)
    settings = RegistrySettings(url=registry_url, artifacts=home / "artifacts")
    migrate(settings.url)
    registry = open_registry(settings)
    registry.bases.enter(Base(name=MODEL, path=str(bundled), digest=MODEL, licence="none", created_at=0.0))
    registry.close()
    return home
