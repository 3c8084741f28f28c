"""The trainer worker beside the gateway: a child of the host that is started again when it ends."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO, Final

from registry.disk import TRAINER, Liveness
from registry.liveness.silence import SilenceWatch

log = logging.getLogger(__name__)

_SOURCES: Final = Path(__file__).parents[2]
_BACKOFF_S: Final = 2.0
_LARGEST_LOG: Final = 10 << 20
_SILENT_S: Final = 600.0
"""Longer than any wait of a worker for its database, and than the hashing of its largest files."""
_STOP_TIMEOUT_S: Final = 20.0


def _environment(gateway_url: str, ray_address: str | None) -> dict[str, str]:
    """Return our environment, in which the trainer's packages are found beside this one, before any others."""
    search_path = filter(None, (str(_SOURCES), os.environ.get("PYTHONPATH")))
    placed = {} if ray_address is None else {"RAY_ADDRESS": ray_address}
    return os.environ | {"PYTHONPATH": os.pathsep.join(search_path), "LORRY_URL": gateway_url} | placed


def _opened_log(path: Path) -> BinaryIO:
    """Open the log to append to it, a new one where it has become large. Raises `OSError`."""
    if path.exists() and path.stat().st_size > _LARGEST_LOG:
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")


class TrainerProcess:
    """`python -m trainer`, its output in `logs/trainer.log`."""

    def __init__(self, gateway_url: str, silent_s: float = _SILENT_S, ray_address: str | None = None) -> None:
        """A trainer that shows no work for *silent_s* seconds hangs. Its graders ask the gateway at *gateway_url*.

        The Ray cluster at *ray_address* may place the processes of its jobs.
        """
        self._gateway_url = gateway_url
        self._ray_address = ray_address
        self._silent_s = silent_s
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0
        self._began_at = time.time()
        self._was_at_work = False
        self._beats = SilenceWatch(time.monotonic)

    def keep_running(self, home: Path) -> None:
        """Start the trainer if it is not running, at most every two seconds."""
        if self._is_running():
            self._end_if_silent(home)
            return
        if self._process is not None:
            log.warning("the trainer ended", extra={"code": self._process.returncode})
        if time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + _BACKOFF_S
        try:
            with _opened_log(home / "logs" / "trainer.log") as output:
                # `-P`: with `-m` alone Python would look in the current folder first, which may be a checkout too.
                command = [sys.executable, "-P", "-m", "trainer"]
                self._process = subprocess.Popen(
                    command,
                    env=_environment(self._gateway_url, self._ray_address),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
        # A full disk or a lack of processes must not end what serves; the next attempt comes in two seconds.
        except OSError as exc:
            log.warning("the trainer cannot be started", extra={"error": str(exc)})

    def _end_if_silent(self, home: Path) -> None:
        """Kill a trainer that hangs, so that the next look starts another; its job goes on from its checkpoint."""
        # Measured here, because the clock by which the beat has its time may jump. A new process begins anew.
        quiet_s = self._beats.look({TRAINER: (self.pids, Liveness(home, TRAINER).last_beat())})[TRAINER]
        if self._process is not None and quiet_s > self._silent_s:
            log.error("the trainer hangs and is started again", extra={"quiet_s": round(quiet_s)})
            self._process.kill()

    def is_at_work_now(self, home: Path) -> bool:
        """Return True once: when the trainer has shown work for the first time since it was made to run."""
        if self._was_at_work or not self._is_running():
            return False
        self._was_at_work = Liveness(home, TRAINER).last_beat() > self._began_at
        return self._was_at_work

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids that this object waits for."""
        return () if self._process is None else (self._process.pid,)

    def ask_to_stop(self) -> None:
        """Send SIGTERM; the job goes back into the queue with its checkpoints."""
        if self._process is not None and self._is_running():
            self._process.terminate()

    def wait(self) -> None:
        """Return when the trainer has ended, or after 20 s."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_STOP_TIMEOUT_S)

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None
