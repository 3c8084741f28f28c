"""The home and the processes of the drill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx2
import psutil

from registry.artifacts import folder_digest
from registry.database import Registry
from registry.schema import migrate
from registry.types import Base
from tests.kills.part import home_registry
from tests.kills.phases import Phase, phase_of, training_children
from tests.trainer.tiny_base import save_base
from trainer.checkpoints import WEIGHTS

TRAINER: Final = "[trainer]\nlease_s = 3.0\npoll_s = 0.2\nmax_crashes = 25\nlight_jobs = 1\n"
"""A lease that runs out soon, and more crashes than the drill has kills of one job."""
ANSWERS_WITHIN_S: Final = 120.0


class Stage:
    """A home of Lorry with the tiny base, and its worker, gateway and controller as processes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.base = home / "tiny"
        migrate(f"sqlite:///{home / 'registry.db'}")
        self.registry: Registry = home_registry(home)
        save_base(self.base)
        digest = folder_digest(self.base)
        self.registry.bases.enter(Base(name="tiny", path=str(self.base), digest=digest, licence="", created_at=1.0))
        (home / "lorry.toml").write_text(TRAINER)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        part = [sys.executable, "-m", "tests.kills.part"]
        place = [str(home), str(self._port)]
        self._commands = {
            "gateway": [*part, "gateway", *place],
            "controller": [*part, "controller", *place],
            "worker": [sys.executable, "-m", "trainer"],
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep all parts running in the block; `kill` starts what it kills again."""
        try:
            for part in self._commands:
                self._start(part)
            yield
        finally:
            for process in self._running.values():
                process.kill()
                process.wait()
            self.registry.close()

    def phase(self) -> Phase:
        """Return what the worker's job is busy with."""
        return phase_of(self.home / "jobs", self._running["worker"].pid)

    def kill(self, part: str, random: Random) -> bool:
        """Kill a part with SIGKILL and start it again, as `lorry up` does; False if there was nothing to kill."""
        if part == "child":
            children = [*training_children(self._running["worker"].pid)]
            if not children:
                return False
            with suppress(ProcessLookupError):
                os.kill(random.choice(children), signal.SIGKILL)
            return True
        self._running[part].kill()
        self._running[part].wait()
        self._start(part)
        return True

    def post(self, path: str, **content: Any) -> str:
        """Post as a client does that repeats what was not answered; return the id of what was made."""
        until = time.monotonic() + ANSWERS_WITHIN_S
        while True:
            try:
                answer = httpx2.post(f"http://127.0.0.1:{self._port}{path}", timeout=10.0, **content)
            except httpx2.TransportError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
                continue
            if answer.status_code >= 400:
                raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")
            return str(answer.json()["id"])

    def remains(self) -> list[str]:
        """Return what should have gone with the jobs: weights in their folders, unfinished copies, processes."""
        home_registry(self.home).close()  # opening removes what killed publishers left
        weights = [path for name in WEIGHTS for path in (self.home / "jobs").glob(f"*/*/{name}")]
        copies = [*(self.home / "artifacts" / "staging").iterdir()]
        return [*map(str, weights), *map(str, copies), *self._processes()]

    def _processes(self) -> list[str]:
        """Return the processes that have this home in their environment, but for the parts."""
        parts = {process.pid for process in self._running.values()} | {os.getpid()}
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid not in parts and process.environ().get("LORRY_HOME") == str(self.home):
                    found.append(f"process {process.pid}: {' '.join(process.cmdline())}")
        return found

    def _start(self, part: str) -> None:
        environment = os.environ | {"LORRY_HOME": str(self.home), "LORRY_CONFIG": str(self.home / "lorry.toml")}
        with (self.home / f"{part}.log").open("ab") as output:
            self._running[part] = subprocess.Popen(
                self._commands[part], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )


def wait_until(is_true: Callable[[], bool], timeout_s: float, pause_s: float = 0.2) -> bool:
    """Return whether *is_true* became true in time, asking every *pause_s*."""
    until = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > until:
            return False
        time.sleep(pause_s)
    return True
