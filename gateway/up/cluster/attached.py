"""`python -m gateway.up.cluster.attached`: Lorry on a Ray cluster that exists, of which this machine is a node.

Nothing of the cluster is started or stopped here but Lorry's own applications. They run on when this process is killed
or loses its connection; a signal removes them, unless it was asked to detach.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import Final

import ray
from ray.exceptions import RayError
from rich.console import Console
from rich.markup import escape

from engines.errors import EngineError
from gateway.errors import StartFailed
from gateway.settings import Settings
from gateway.up import serve_app
from gateway.up.cluster.checks import check_cluster
from gateway.up.cluster.reach import gateways_at
from gateway.up.flags import source_of
from gateway.up.listening import check_keys
from gateway.up.logs import log_to
from gateway.up.progress import StartProgress
from gateway.up.start_watch import StartLimits, StartState, broken_engines, follow_start, missing_parts
from registry.database import Registry, open_registry
from registry.disk import make_private
from registry.errors import RegistryError
from registry.schema import migrate
from registry.types import Replica

log = logging.getLogger("gateway.up.cluster.attached")  # as a module that is run its own name would be `__main__`
console = Console(stderr=True)

_LIMITS: Final = StartLimits(timeout_s=600.0, every_s=0.5)
"""Longer than on one machine: nodes may have to unpack or read a model first."""
_WATCH_EVERY_S: Final = 2.0
_ALL: Final = ("gateway", "engines", "controller")
"""The order in which they end: clients first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cluster:
    """The cluster that was asked for."""

    address: str
    settings: Settings
    registry: Registry
    known: frozenset[str]
    """Replicas that were in the registry before."""

    def replicas(self) -> list[Replica]:
        """Return the replicas of our pools that began since, or that an update may keep."""
        rows = self.registry.snapshot().replicas
        return [one for one in rows if one.pool and one.id not in self.known]


class _Stop:
    """Set by the first signal; the second ends this process at once, and Lorry runs on."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def listen(self) -> None:
        """Handle signals here; to be called again after Ray has set handlers of its own."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._ask())

    def _ask(self) -> None:
        if self._asked.is_set():
            os.write(sys.stderr.fileno(), b"\nLeft at once: what is not removed yet runs on; lorry down removes it.\n")
            os._exit(1)
        self._asked.set()

    def wait(self, timeout_s: float) -> bool:
        """True when asked to stop, after at most *timeout_s*."""
        return self._asked.wait(timeout_s)


def main() -> None:
    """Deploy and watch until a signal; exit code 0 after an orderly end, 1 with one line of what to do otherwise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ray-address", required=True)
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--remove", action="store_true")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--model")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--launched", type=float)
    asked = parser.parse_args()
    try:
        if asked.remove:
            _remove(asked.ray_address)
        else:
            _deploy(asked, StartProgress(console, asked.launched))
    except (StartFailed, RegistryError, EngineError) as exc:
        _say_failed(str(exc))
    except (RayError, ConnectionError) as exc:
        log.exception("the cluster does not answer")
        _say_failed(
            f"the Ray cluster at {asked.ray_address} does not answer any more ({exc}); what was deployed runs on"
        )


def _say_failed(why: str) -> None:
    console.print(f"[red]lorry:[/red] {escape(why)}", highlight=False, soft_wrap=True)
    sys.exit(1)


def _deploy(asked: argparse.Namespace, progress: StartProgress) -> None:
    source = source_of(asked.port, asked.model, asked.engine, asked.host)
    settings = source.load()
    check_cluster(source, settings)
    make_private(settings.home)
    log_to(settings.home, "attached")
    stop = _Stop()
    with progress:
        progress.begin("database", "bringing its schema up to date")
        migrate(settings.registry.url)
        registry = open_registry(settings.registry)
        registry.artifacts.check()
        check_keys(settings.gateway.host, registry)
        progress.end("database")
        progress.begin("Ray", f"attaching to {asked.ray_address}")
        _attach(asked.ray_address)
        stop.listen()
        here = serve_app.deployed()
        if here and not asked.detach:
            raise StartFailed(
                f"{', '.join(here)} are on the cluster already: replace them with `lorry up --ray-address "
                f"{asked.ray_address} --detach`, or remove them with `lorry down --ray-address {asked.ray_address}`"
            )
        known = frozenset() if here else frozenset(one.id for one in registry.snapshot().replicas)
        cluster = _Cluster(address=asked.ray_address, settings=settings, registry=registry, known=known)
        progress.begin("Ray", "deploying engines, gateways and controller")
        serve_app.start_applications(source)
        progress.end("Ray")
        try:
            follow_start(lambda: _state_of(cluster), progress, stop, _LIMITS)
        except StartFailed:
            if not here:
                serve_app.drain(settings.gateway.drain_timeout_s, _ALL)
            raise
    print(_ready_line(cluster, progress), flush=True)  # noqa: T201
    if asked.detach:
        ray.shutdown()
        return
    _watch(cluster, stop)


def _attach(address: str) -> None:
    try:
        serve_app.attach(address)
    except (RayError, ConnectionError, RuntimeError, ValueError) as exc:
        raise StartFailed(
            f"cannot join the Ray cluster at {address}: {' '.join(str(exc).split())[:300]}. This machine must be one "
            "of its nodes (ray start --address), and RAY_AUTH_MODE and RAY_AUTH_TOKEN must be the cluster's"
        ) from exc


def _state_of(cluster: _Cluster) -> StartState:
    """Return which pools have no ready replica yet, which applications do not run, and what has failed."""
    replicas = cluster.replicas()
    pools = [pool.name for pool in cluster.settings.engines.pools if not pool.may_sleep]
    # Their own answer, not a port: this node may have no gateway.
    status = 200 if serve_app.is_running("gateway") else None
    missing = missing_parts(pools, replicas, f"port {cluster.settings.gateway.port}", status)
    if not serve_app.is_running("controller"):
        missing["controller"] = "starting its process"
    failed = [*broken_engines(replicas, cluster.settings.home / "logs"), *serve_app.failures()]
    return StartState(missing=missing, failed=failed)


def _ready_line(cluster: _Cluster, progress: StartProgress) -> str:
    urls = gateways_at([node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]], cluster.settings.gateway)
    bases = ", ".join(sorted({one.base for one in cluster.replicas()}))
    where = ", ".join(f"{url}/v1" for url in urls) or f"port {cluster.settings.gateway.port} of nodes beyond this one"
    return f"Lorry is ready: {where} serve {bases} ({progress.seconds:.0f} s)"


def _watch(cluster: _Cluster, stop: _Stop) -> None:
    """Return when asked to stop, after everything was removed; `StartFailed` when somebody else removes it."""
    console.print("Ctrl-C removes Lorry from the cluster. Trainers: `lorry trainer` on any host.", style="dim")
    while not stop.wait(_WATCH_EVERY_S):
        if gone := sorted(set(_ALL) - set(serve_app.deployed())):
            raise StartFailed(f"{', '.join(gone)} were removed from the cluster by somebody else")
    console.print("Draining: requests under way finish. Press Ctrl-C again to leave at once.", highlight=False)
    serve_app.drain(cluster.settings.gateway.drain_timeout_s, _ALL)
    cluster.registry.close()
    console.print("Lorry is removed; the cluster runs on.", highlight=False)


def _remove(address: str) -> None:
    drain_timeout_s = source_of(None, None, "auto").load().gateway.drain_timeout_s
    _attach(address)
    if here := serve_app.deployed():
        serve_app.drain(drain_timeout_s, [name for name in _ALL if name in here])
        print(f"Removed {', '.join(here)}; the cluster runs on")  # noqa: T201
    else:
        raise StartFailed(f"the cluster at {address} has no application of Lorry")


if __name__ == "__main__":
    main()
    logging.shutdown()
    sys.stdout.flush()
    # The interpreter's own end would wait for threads of Ray.
    os._exit(0)
