"""The stage of a drill: a running Lorry, the engines behind it, and the means to reach their processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psutil

from bench.comparison.lorry import Lorry
from bench.comparison.native import MODEL, MockEngine
from bench.comparison.process_tree import command_of
from bench.drilling.clients import Asking
from engines.process import LAUNCHER
from gateway.engines_settings import BUNDLED_BASE
from tests.postgres_server import PostgresServer, postgres_server
from tests.waiting import wait_for

CONTROLLER: Final = "ray::ServeController"
ENGINE_ACTOR: Final = "ray::ServeReplica:engines:"
ENGINE_PROCESS: Final = "-m engines.transformers"


class Stage:
    """Lorry with its engines."""

    def __init__(self, lorry: Lorry, asking: Asking, programs: Path, *, before_s: float) -> None:
        """Set the stage; *before_s* of undisturbed load show what is usual, which takes several answers."""
        self.lorry = lorry
        self.before_s = before_s
        self.asking = asking
        self.programs = programs
        self.mocks: list[MockEngine] = []
        self.postgres: PostgresServer | None = None

    def find(self, words: str) -> list[psutil.Process]:
        """Return this Lorry's processes with *words* in their command line, without those that only start another."""
        commands = ((process, command_of(process)) for process in self.lorry.whole())
        return [process for process, command in commands if words in command and LAUNCHER.name not in command]

    def kill_one(self, words: str) -> psutil.Process:
        """Kill the first process that `find` returns, by SIGKILL, and return it."""
        victim = self.find(words)[0]
        victim.send_signal(signal.SIGKILL)
        return victim

    def wait_for_others(self, words: str, gone: psutil.Process, count: int) -> None:
        """Return when `find` gives *count* processes again, without the one that is *gone*."""
        wait_for(lambda: len({process.pid for process in self.find(words)} - {gone.pid}) >= count, 60.0)

    def restart_mock(self, index: int) -> None:
        """Start the mock engine at its port again."""
        old = self.mocks[index]
        self.mocks[index] = MockEngine(self.programs, 1, old.ports)

    def ready_engines(self) -> int:
        """Return how many replicas the gateway reports as ready."""
        return sum(one["state"] == "ready" for one in self.lorry.admin("GET", "/admin/replicas")["data"])


@contextmanager
def mock_stage(programs: Path, home: Path, *, on_postgres: bool = False) -> Iterator[Stage]:
    """Provide two mock engines, a process each, entered by hand; an answer has 16 chunks 10 ms apart."""
    with ExitStack() as stack:
        settings, url, postgres = _registry(stack, on_postgres=on_postgres)
        mocks = [MockEngine(programs, 1), MockEngine(programs, 1)]
        stack.callback(lambda: _stop_all(mocks))
        lorry = Lorry(home, [mock.ports[0] for mock in mocks], settings, url)
        stack.callback(lorry.stop)
        asking = Asking(port=lorry.port, key=lorry.key, model=MODEL, tokens=16, pace_us=10_000, prompt_bytes=256)
        stage = Stage(lorry, asking, programs, before_s=4.0)
        stage.mocks, stage.postgres = mocks, postgres
        yield stage


@contextmanager
def engine_stage(programs: Path, home: Path, *, on_postgres: bool = False) -> Iterator[Stage]:
    """Provide two replicas of the transformers engine with the bundled model; answers have 8 tokens."""
    with ExitStack() as stack:
        settings, url, postgres = _registry(stack, on_postgres=on_postgres)
        lorry = Lorry(home, (), f"{settings}[engines]\nreplicas = 2\n[engines.engine]\nthreads = 1\n", url)
        stack.callback(lorry.stop)
        asking = Asking(port=lorry.port, key=lorry.key, model=BUNDLED_BASE, tokens=8, pace_us=0, prompt_bytes=16)
        stage = Stage(lorry, asking, programs, before_s=40.0)
        stage.postgres = postgres
        wait_for(lambda: stage.ready_engines() == 2, 120.0)
        yield stage


def _registry(stack: ExitStack, *, on_postgres: bool) -> tuple[str, str | None, PostgresServer | None]:
    """Return settings, URL and server of the registry, which ends with *stack*; without PostgreSQL it is SQLite."""
    if not on_postgres:
        return "", None, None
    postgres = stack.enter_context(postgres_server())
    url = postgres.url.render_as_string(hide_password=False)
    return f'[registry]\nurl = "{url}"\n', url, postgres


def _stop_all(mocks: Sequence[MockEngine]) -> None:
    for mock in mocks:
        mock.stop()
