"""`python -m gateway.up.host`: everything of Lorry on this machine, in the foreground, under a guardian.

Order: check settings, prepare registry and base model, start Ray (at the first start while the model is unpacked),
deploy, report when ready, start the trainer, wait for a signal, drain, end all that was started.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from engines.errors import EngineError
from engines.hardware.machine import Machine
from engines.hardware.probe import read_machine
from gateway.errors import StartFailed
from gateway.pools.bundled import is_unpacked, unpack_bundled
from gateway.pools.journal import host_prefix
from gateway.pools.pools import prepare_pools
from gateway.rollouts.webhooks import open_sender
from gateway.settings import Settings, load_settings
from gateway.telemetry.traces import trace_headers
from gateway.up.guardian import become_subreaper, end_descendants, reap_orphans, watch_guardian
from gateway.up.listening import check_keys, check_port
from gateway.up.logs import log_to
from gateway.up.part_secrets import withhold_secrets
from gateway.up.progress import StartProgress
from gateway.up.ray_cluster import ClusterStart, cluster_is_alive, set_ray_environment
from gateway.up.start_watch import Plan, wait_until_ready
from gateway.up.trainer_process import TrainerProcess
from registry.database import Registry, migrate, open_registry
from registry.disk import FULL_ERRNOS, keep_files_private, make_private
from registry.errors import RegistryError
from registry.types import ReplicaState

log = logging.getLogger("gateway.up.host")  # as a module that is run its own name would be `__main__`
console = Console(stderr=True)


def main() -> None:
    """Run until a signal; exit code 0 after an orderly end, 1 with one line of what to do otherwise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--engine", default="auto")
    asked = parser.parse_args()
    become_subreaper()
    keep_files_private()
    stop = _StopSignal()
    try:
        run(settings_of(asked.port, asked.model, asked.engine, asked.host), stop)
    except (StartFailed, RegistryError, EngineError) as exc:
        console.print(f"[red]lorry up:[/red] {escape(str(exc))}", highlight=False, soft_wrap=True)
        end_descendants(grace_s=2.0)
        sys.exit(1)
    except OSError as exc:
        log.exception("lorry up cannot go on")
        where = "" if exc.filename is None else f"{exc.filename}: "
        console.print(f"[red]lorry up:[/red] {escape(where)}{escape(exc.strerror or str(exc))}", soft_wrap=True)
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
        """Handle signals here; to be called again after a library has set handlers of its own."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._ask())

    def _ask(self) -> None:
        if self._asked.is_set():
            self._end_at_once()
        self._asked.set()

    def _end_at_once(self) -> None:
        end_descendants(grace_s=0.0)
        if self.ray_folder:
            # `os._exit` runs no `finally`, so `_ray_folder` cannot remove it.
            shutil.rmtree(self.ray_folder, ignore_errors=True)
        os._exit(1)

    def wait(self, timeout_s: float) -> bool:
        """True when asked to stop, after at most *timeout_s*."""
        return self._asked.wait(timeout_s)


def run(settings: Settings, stop: _StopSignal) -> None:
    """Serve until *stop*; `StartFailed` or `RegistryError` if it cannot begin."""
    # Checks that start nothing come first.
    check_port(settings.gateway.host, settings.gateway.port)
    open_sender(settings.webhooks, os.environ)  # raises for a secret that is missing; nothing is started
    trace_headers(settings.traces, os.environ)
    secrets = withhold_secrets(settings)
    with _home(settings.home), StartProgress(console) as progress:
        log_to(settings.home, "host")
        progress.begin("Bringing the registry up to date")
        registry = _prepare_registry(settings)
        check_keys(settings.gateway.host, registry)
        with _ray_folder(stop) as folder:
            set_ray_environment()
            cluster = ClusterStart(folder)
            try:
                progress.begin("Preparing the base model")
                pools = prepare_pools(settings, registry, _Ground(settings.home, progress, cluster.begin))
                _serve(
                    Plan(settings=settings, pools=pools, registry=registry, secrets=secrets), cluster, progress, stop
                )
            finally:
                # Ray's processes end before their folder is removed.
                end_descendants(grace_s=3.0)
        registry.close()


@contextlib.contextmanager
def _home(home: Path) -> Iterator[None]:
    """The state folder exists, is writable and is ours alone."""
    lock = FileLock(home / "up.lock")
    try:
        if not make_private(home):
            console.print(f"[yellow]{home} belongs to another user, who may let others see what is in it[/yellow]")
        (home / "logs").mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
        lock.acquire(timeout=0)
    except Timeout as exc:
        raise StartFailed(f"another `lorry up` runs with LORRY_HOME={home}; stop it or set another LORRY_HOME") from exc
    except OSError as exc:
        mend = "free some space" if exc.errno in FULL_ERRNOS else "make it so"
        raise StartFailed(
            f"LORRY_HOME {home} is not writable ({exc.strerror}); {mend} or set LORRY_HOME to a folder that is"
        ) from exc
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, slots=True)
class _Ground:
    """`gateway.pools.pools.Ground`: this machine."""

    home: Path
    progress: StartProgress
    before_unpacking: Callable[[], None]
    """Begins what may go on while the bundled model is unpacked."""

    def bundled_folder(self) -> Path:
        """Return the bundled model's folder; it is unpacked at the first start."""

        def show(done: int, total: int) -> None:
            self.progress.show_detail(f", {done} of {total} tensors")

        if not is_unpacked(self.home / "cache"):
            self.before_unpacking()
            self.progress.begin("Unpacking the bundled model (once)")
        return unpack_bundled(self.home / "cache", show)

    def read_machine(self) -> Machine:
        """Return what the machine has."""
        return read_machine()

    def explain(self, reason: str) -> None:
        """Show why something was chosen."""
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


def _serve(plan: Plan, cluster: ClusterStart, progress: StartProgress, stop: _StopSignal) -> None:
    settings = plan.settings
    trainer = TrainerProcess(plan.url)
    progress.begin("Starting Ray")
    cluster.begin()
    from gateway.up import serve_app  # here: Ray reads its environment when it is imported

    serve_app.connect(cluster.address())
    # The Ray driver has set a handler for SIGTERM of its own.
    stop.listen()
    progress.begin("Deploying engine, gateways and controller")
    serve_app.start_applications(settings, plan.pools, secrets=plan.secrets)
    try:
        wait_until_ready(plan, progress, stop, serve_app.failures)
        print(f"Lorry is ready: {plan.url}/v1 serves {plan.bases} ({progress.seconds:.0f} s)", flush=True)  # noqa: T201
        progress.close()
        progress.note(f"Starting the trainer; the logs of all parts are in {settings.home / 'logs'}")
        while not stop.wait(1.0):
            trainer.keep_running(settings.home)
            reap_orphans(trainer.pids)
            if not cluster_is_alive():
                raise StartFailed("Ray has ended unexpectedly; start again (jobs go on from their checkpoints)")
    finally:
        progress.close()
        # The trainer hands its job back while gateways drain; it is waited for last.
        trainer.ask_to_stop()
        if cluster_is_alive():
            console.print("Draining; press Ctrl-C again to end at once")
            serve_app.drain()
        trainer.wait()


if __name__ == "__main__":
    main()
