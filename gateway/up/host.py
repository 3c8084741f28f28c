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
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from engines.errors import EngineError
from engines.hardware.machine import Machine
from engines.hardware.probe import read_machine
from gateway.errors import StartFailed
from gateway.models_settings import HubName
from gateway.pools.bundled import is_unpacked, unpack_bundled
from gateway.pools.hub_ids import is_hub_id
from gateway.pools.pools import enter_sleeping_pools, prepare_pools
from gateway.rollouts.webhooks import open_sender
from gateway.settings import Settings, SettingsSource
from gateway.telemetry.traces import trace_headers
from gateway.up.flags import source_of
from gateway.up.guardian import become_subreaper, end_descendants, reap_orphans, watch_guardian
from gateway.up.listening import check_keys, check_port
from gateway.up.logs import log_to
from gateway.up.part_secrets import withhold_secrets
from gateway.up.progress import MODEL, RAY, StartProgress
from gateway.up.ray_cluster import ClusterStart, are_alive, cluster_processes, set_ray_environment
from gateway.up.start_watch import Plan, wait_until_ready
from gateway.up.trainer_process import TrainerProcess
from registry.database import Registry, open_registry
from registry.disk import FULL_ERRNOS, keep_files_private, make_private
from registry.errors import RegistryError
from registry.liveness.host_name import host_name
from registry.schema import migrate
from registry.states import ReplicaState

log = logging.getLogger("gateway.up.host")  # as a module that is run its own name would be `__main__`
console = Console(stderr=True)

_DRAINING: Final = (
    "Draining: requests under way finish, a running job is kept at a checkpoint. Press Ctrl-C again to end at once."
)
_NOT_READY: Final = b"\nStopped before it was ready.\n"
_AT_ONCE: Final = (
    b"\nEnding at once: requests under way are cut off, a running job goes on from its last checkpoint next time.\n"
)


def main() -> None:
    """Run until a signal; exit code 0 after an orderly end, 1 with one line of what to do otherwise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--model")
    parser.add_argument("--hub")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--launched", type=float, help="when the command began, by time.monotonic")
    asked = parser.parse_args()
    become_subreaper()
    keep_files_private()
    stop = _StopSignal()
    try:
        source = source_of(asked.port, asked.model, asked.engine, asked.host)
        may_pull = asked.model is not None and is_hub_id(asked.model)
        run(source, stop, StartProgress(console, asked.launched), _Pull(hub=asked.hub) if may_pull else None)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pull:
    """The wish for a model of a hub."""

    hub: HubName | None
    """None is the hub of the settings."""


class _StopSignal:
    """Set by the first SIGINT or SIGTERM once it serves; else, and at the second, a signal ends everything at once.

    So does the guardian's death.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.ray_folder: str | None = None
        self.is_serving = False
        """Whether there may be work to finish; before that the first signal ends everything, whatever is under way."""
        self.listen()
        watch_guardian(self._end_at_once)

    def listen(self) -> None:
        """Handle signals here; to be called again after a library has set handlers of its own."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self._ask())

    def _ask(self) -> None:
        if self._asked.is_set() or not self.is_serving:
            # Not by the console, which the signal may have interrupted in the middle of a line.
            os.write(sys.stderr.fileno(), _AT_ONCE if self.is_serving else _NOT_READY)
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


def run(source: SettingsSource, stop: _StopSignal, progress: StartProgress, pull: _Pull | None = None) -> None:
    """Serve until *stop*, with the model that *pull* asks for; `StartFailed` or `RegistryError` if it cannot begin."""
    settings = source.load()
    # Checks that start nothing come first.
    check_port(settings.gateway.host, settings.gateway.port)
    open_sender(settings.webhooks, os.environ)  # raises for a secret that is missing; nothing is started
    trace_headers(settings.traces, os.environ)
    secrets = withhold_secrets(settings)
    with _home(settings.home), progress:
        log_to(settings.home, "host")
        progress.begin("database", "bringing its schema up to date")
        registry = _prepare_registry(settings)
        check_keys(settings.gateway.host, registry)
        progress.end("database")
        if pull is not None:
            from gateway.up.model_pull import with_pulled_model  # the hubs' clients, which other starts do not need

            settings = with_pulled_model(settings, pull.hub, registry, progress)
        with _ray_folder(stop) as folder:
            set_ray_environment()
            cluster = ClusterStart(folder, progress)
            try:
                progress.begin(MODEL, "checking its folder")
                pools = prepare_pools(settings, registry, _Ground(settings.home, progress, cluster))
                progress.end(MODEL)
                enter_sleeping_pools(registry, pools)
                plan = Plan(settings=settings, pools=pools, registry=registry, secrets=secrets)
                # The folders of this machine's processes are those of this process, whatever theirs is.
                _serve(plan, replace(source, home=settings.home), cluster, progress, stop)
            finally:
                # Ray's processes end before their folder is removed. What had work has drained or failed by now.
                end_descendants(grace_s=0.0)
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
    cluster: ClusterStart
    """Begins while the bundled model is unpacked."""

    def bundled_folder(self) -> Path:
        """Return the bundled model's folder; it is unpacked at the first start."""

        def show(done: int, total: int) -> None:
            self.progress.show_detail(MODEL, f", {done} of {total} tensors")

        if not is_unpacked(self.home / "cache"):
            self.cluster.begin()
            self.progress.begin(MODEL, "unpacking the bundled one (once)")
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
    registry.artifacts.check()
    own = f"{host_name(settings.home)}-"
    for replica in registry.replicas.list():
        if replica.id.startswith(own) and replica.state is not ReplicaState.GONE:
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


def _serve(
    plan: Plan, source: SettingsSource, cluster: ClusterStart, progress: StartProgress, stop: _StopSignal
) -> None:
    settings = plan.settings
    cluster.begin()
    from gateway.up import serve_app  # here: Ray reads its environment when it is imported

    serve_app.connect(cluster.address())
    trainer = TrainerProcess(plan.url, ray_address=cluster.address())
    # The Ray driver has set a handler for SIGTERM of its own.
    stop.listen()
    ray_processes = cluster_processes()
    progress.begin(RAY, "deploying engine, gateways and controller")
    serve_app.start_applications(source, plan.pools, secrets=plan.secrets)
    progress.end(RAY)
    wait_until_ready(plan, progress, stop, serve_app.failures)
    stop.is_serving = True
    progress.close()
    try:
        print(f"Lorry is ready: {plan.url}/v1 serves {plan.bases} ({progress.seconds:.0f} s)", flush=True)  # noqa: T201
        progress.note(f"trainer: starting; the logs of all parts are in {settings.home / 'logs'}")
        while not stop.wait(1.0):
            trainer.keep_running(settings.home)
            if trainer.is_at_work_now(settings.home):
                progress.note("trainer: ready for jobs")
            reap_orphans(trainer.pids)
            if not are_alive(ray_processes):
                raise StartFailed("Ray has ended unexpectedly; start again (jobs go on from their checkpoints)")
    finally:
        asked_at = time.monotonic()
        # The trainer hands its job back while gateways drain; it is waited for last.
        trainer.ask_to_stop()
        if are_alive(ray_processes):
            console.print(_DRAINING, highlight=False, soft_wrap=True)
            serve_app.drain(settings.gateway.drain_timeout_s)
        trainer.wait()
        console.print(f"Everything has ended its work ({time.monotonic() - asked_at:.1f} s)", highlight=False)


if __name__ == "__main__":
    main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is closed by now. The interpreter's own end would wait ten seconds for threads of Ray, which ask a
    # cluster that is gone.
    os._exit(0)
