"""The home and the processes of the drill."""

from __future__ import annotations

import os
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
from registry.database import Registry, migrate
from registry.types import Base
from tests.kills.asked import Asked
from tests.kills.part import home_registry
from tests.trainer.tiny_base import save_base

TRAINER: Final = "[trainer]\nlease_s = 3.0\npoll_s = 0.2\nmax_crashes = 25\n"
"""A lease that runs out soon, and more crashes than the drill has kills of one job."""
ANSWERS_WITHIN_S: Final = 120.0


class Stage:
    """A home of Lorry with the tiny base, and its worker, gateway and controller as processes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        migrate(f"sqlite:///{home / 'registry.db'}")
        self.registry: Registry = home_registry(home)
        save_base(home / "tiny")
        digest = folder_digest(home / "tiny")
        self.registry.bases.enter(Base(name="tiny", path=str(home / "tiny"), digest=digest, licence="", created_at=1.0))
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

    def kill(self, part: str, random: Random) -> str | None:
        """Kill a part with SIGKILL and start it again, as `lorry up` does; None if there was nothing to kill."""
        if part == "child":
            children = [each for each in _children(self._running["worker"].pid) if "trainer.child" in _words(each)]
            if not children:
                return None
            with suppress(psutil.Error):
                random.choice(children).kill()
            return "child"
        self._running[part].kill()
        self._running[part].wait()
        self._start(part)
        return part

    def ask(self, asked: Asked) -> str:
        """Ask the gateway for a job as a client does that repeats what was not answered; return the job's id."""
        file_id = self._post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", asked.lines())})
        return self._post("/v1/fine_tuning/jobs", json=asked.body(file_id))

    def _post(self, path: str, **content: Any) -> str:
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

    def _start(self, part: str) -> None:
        environment = os.environ | {"LORRY_HOME": str(self.home), "LORRY_CONFIG": str(self.home / "lorry.toml")}
        with (self.home / f"{part}.log").open("ab") as output:
            self._running[part] = subprocess.Popen(
                self._commands[part], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )


def wait_until(is_true: Callable[[], bool], timeout_s: float) -> bool:
    """Return whether *is_true* became true in time."""
    until = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def _children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []
