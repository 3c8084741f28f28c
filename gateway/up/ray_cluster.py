"""A Ray cluster of one machine in its light form: no dashboard, monitor, log monitor or Serve proxy."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import psutil

from gateway.errors import StartFailed
from gateway.up.progress import RAY, StartProgress

_HOST: Final = "127.0.0.1"
"""The only address at which Ray's processes listen on loopback; for any other they listen on every interface."""
# Ray demands 75 MiB; no request passes through the store.
_OBJECT_STORE_BYTES: Final = 80 * 1024 * 1024

_SPARE: Final = ("/ray/dashboard/dashboard.py", "ray.util.client.server")
"""The dashboard, which serves no page with `--include-dashboard false`, and the server of Ray Client."""


_QUIET: Final[Mapping[str, str]] = {
    # What Ray records of its own events and tasks, for a dashboard that is not there.
    "RAY_event_stats": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_ray_events_report_interval_ms": "0",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "60000",
    "REPORTER_UPDATE_INTERVAL_MS": "600000",
    # Ray would kill gateways and engines where a training job took the memory; the kernel kills what took it.
    "RAY_memory_monitor_refresh_ms": "0",
    # Looks at things that do not change here: one node, no objects, actors that were placed at the start.
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_raylet_check_gc_period_milliseconds": "5000",
    "RAY_local_fs_monitor_interval_ms": "10000",
    "RAY_object_manager_timer_freq_ms": "5000",
    "RAY_kill_idle_workers_interval_ms": "5000",
    "RAY_gcs_pull_resource_loads_period_milliseconds": "10000",
    "RAY_report_worker_backlog_interval_ms": "10000",
    "RAY_io_context_monitor_probe_interval_ms": "10000",
}
"""Switches that take from an idle cluster what nothing here uses."""


def set_ray_environment() -> None:
    """Ray's switches for this process and all that it starts; must come before Ray is imported."""
    os.environ.update(
        # Ray's parts differ in the mode that they choose by themselves, and would refuse each other.
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(32),
        RAY_USAGE_STATS_ENABLED="0",
        # A switch for laptops, with a name of its own time: without it Ray turns 127.0.0.1 into the network's address,
        # which changes when a laptop moves, and listens on all interfaces.
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        RAY_enable_metrics_collection="0",
        **_QUIET,
        # Serve's 0.1 s costs an idle machine processor time; with 1 s deploying took more than twice as long.
        RAY_SERVE_CONTROL_LOOP_INTERVAL_S="0.5",
        # With 10 s Serve would remove a replica by what that did long ago. Replicas of a fixed number report nothing.
        RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S="2",
        RAY_SERVE_LOG_TO_STDERR="0",
        RAY_worker_niceness="0",  # Ray's 15 leaves gateways and engines next to nothing beside whatever else runs
    )


class ClusterStart:
    """Starts a cluster in a thread, so that the host meanwhile unpacks the model and imports Ray."""

    def __init__(self, folder: str, progress: StartProgress) -> None:
        self._folder = folder
        self._progress = progress
        self._thread = ThreadPoolExecutor(1, "ray-start")
        self._started: Future[str] | None = None

    def begin(self) -> None:
        """Begin, and show that, unless it was done before."""
        if self._started is None:
            self._progress.begin(RAY, "starting its processes")
            self._started = self._thread.submit(start_cluster, self._folder)

    def address(self) -> str:
        """Return the cluster's address once it is up; `StartFailed`."""
        self.begin()
        assert self._started is not None  # noqa: S101 - just begun
        return self._started.result()


def start_cluster(folder: str) -> str:
    """The address of a new cluster whose files are below *folder* (a short path: sockets live there).

    The caller ends its processes. Raises `StartFailed` with the output of `ray start`.
    """
    port, client_port = _free_ports(2)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head"]
    command += ["--node-ip-address", _HOST, "--port", str(port), "--ray-client-server-port", str(client_port)]
    command += ["--num-cpus", str(os.cpu_count() or 1), "--object-store-memory", str(_OBJECT_STORE_BYTES)]
    command += ["--include-dashboard", "false", "--no-monitor", "--include-log-monitor", "false"]
    command += ["--dashboard-agent-listen-port", "0", "--disable-usage-stats", "--temp-dir", folder]
    # A pipe would stay open in the processes that Ray leaves running, and reading it would not end.
    with tempfile.TemporaryFile("w+") as output:
        started = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
        if started.returncode != 0:
            output.seek(0)
            raise StartFailed(f"Ray did not start: {output.read().strip()[-1000:]}")
    _end_spare_processes()
    return f"{_HOST}:{port}"


def cluster_processes() -> tuple[psutil.Process, ...]:
    """Return the two processes that nothing of Ray can do without, of the cluster below this process."""
    # This process is a subreaper, so the processes that `ray start` left are its direct children.
    return tuple(process for process in psutil.Process().children() if process.name() in ("gcs_server", "raylet"))


def are_alive(processes: Collection[psutil.Process]) -> bool:
    """Whether all of these children run, and there are some."""
    return bool(processes) and all(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes
    )


def _end_spare_processes() -> None:
    """End two processes that nothing here uses and that `ray start` has no flag to leave out (0.23 GB resident)."""
    for process in psutil.Process().children():
        # a process of Ray's start may end by itself between the look and the kill
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(spare in " ".join(process.cmdline()) for spare in _SPARE):
                process.kill()
                process.wait()


def _free_ports(count: int) -> list[int]:
    # All probes are open at a time, so that no port is given out twice.
    probes = [socket.create_server((_HOST, 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
