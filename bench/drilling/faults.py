"""The faults of Lorry and its engines while clients send requests; every function returns when its fault is over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.comparison.lorry import GATEWAY
from bench.comparison.process_tree import command_of
from bench.drilling.stage import CONTROLLER, ENGINE_ACTOR, ENGINE_PROCESS, Stage
from tests.waiting import wait_for

ROOT: Final = Path(__file__).parents[2]
FAULT_S: Final = 6.0
REGISTRY_GONE_S: Final = 60.0
AFTER_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """A fault: how it is called and what it does."""

    name: str
    stage: str
    """`mock` or `engine`, and with `-postgres` behind it one whose registry is not SQLite."""
    act: Callable[[Stage], None]


def _scripted(fault: str) -> Callable[[Stage], None]:
    """Return a fault that the first mock engine has for a while."""

    def act(stage: Stage) -> None:
        mock = stage.mocks[0]
        mock.control(mock.ports[0], fault)
        time.sleep(FAULT_S)
        mock.control(mock.ports[0], "none")

    return act


def _kill_mock(stage: Stage) -> None:
    mock = stage.mocks[0]
    mock.process.kill()
    mock.process.wait()
    time.sleep(FAULT_S)
    stage.restart_mock(0)


def _exchange_mocks(stage: Stage) -> None:
    """Update engines that were entered by hand, one by one: enter each anew and take the old entry out."""
    for mock in stage.mocks:
        (port,) = mock.ports
        old = stage.lorry.replicas[port]
        stage.lorry.admin("DELETE", f"/admin/replicas/{old}")
        wait_for(lambda old=old: stage.lorry.state_of(old) in (None, "gone"), 60.0)  # type: ignore[misc]
        stage.lorry.replicas[port] = stage.lorry.enter(port)


def _kill(words: str, count: int) -> Callable[[Stage], None]:
    """Kill one process with *words* in its command line, and wait until there are *count* again."""

    def act(stage: Stage) -> None:
        gone = stage.kill_one(words)
        stage.wait_for_others(words, gone, count)

    return act


def _kill_engine(words: str) -> Callable[[Stage], None]:
    """Kill one of the two engines, its process or its actor, and wait until both are ready."""

    def act(stage: Stage) -> None:
        gone = stage.kill_one(words)
        stage.wait_for_others(words, gone, 2)
        wait_for(lambda: stage.ready_engines() == 2, 120.0)

    return act


def _stop_engine(stage: Stage) -> None:
    """Stop one of the two engines as a debugger would. Its replica replaces it."""
    stuck = stage.find(ENGINE_PROCESS)[0]
    stuck.send_signal(signal.SIGSTOP)
    stage.wait_for_others(ENGINE_PROCESS, stuck, 2)
    wait_for(lambda: stage.ready_engines() == 2, 120.0)


def _registry_away(stage: Stage) -> None:
    assert stage.postgres is not None
    stage.postgres.stop()
    time.sleep(REGISTRY_GONE_S)
    stage.postgres.start()


def _roll(application: str) -> Callable[[Stage], None]:
    """Return a fault that replaces all replicas of an application, as an update does."""

    def act(stage: Stage) -> None:
        (gcs,) = (one for one in stage.lorry.whole() if one.name() == "gcs_server")
        words = dict(word.split("=", 1) for word in command_of(gcs).split() if "=" in word)
        address = f"{words['--node-ip-address']}:{words['--gcs_server_port']}"
        rays = {name: value for name, value in gcs.environ().items() if name.startswith("RAY_")}
        home = {"LORRY_HOME": str(stage.lorry.home), "LORRY_CONFIG": str(stage.lorry.home / "lorry.toml")}
        command = [sys.executable, "-m", "bench.drilling.roll", application, str(stage.lorry.port), address]
        subprocess.run(command, cwd=ROOT, env={**os.environ, **rays, **home}, check=True)

    return act


DRILLS: Final = (
    Drill(name="mock: engine process killed, back after 6 s", stage="mock", act=_kill_mock),
    Drill(name="mock: engine hangs for 6 s, healthy", stage="mock", act=_scripted("hang")),
    Drill(name="mock: engine hangs for 6 s, health too", stage="mock", act=_scripted("deaf")),
    Drill(name="mock: engine answers 500 for 6 s", stage="mock", act=_scripted("error")),
    Drill(name="mock: engine answers 429 for 6 s", stage="mock", act=_scripted("busy")),
    Drill(name="mock: engine trickles for 6 s, a chunk a second", stage="mock", act=_scripted("trickle")),
    Drill(name="mock: engine cuts every answer for 6 s", stage="mock", act=_scripted("cut after=8")),
    Drill(name="mock: gateway replica killed", stage="mock", act=_kill(GATEWAY, 2)),
    Drill(name="mock: Serve controller killed", stage="mock", act=_kill(CONTROLLER, 1)),
    Drill(name="mock: engines exchanged one after the other", stage="mock", act=_exchange_mocks),
    Drill(name="mock: rolling update of gateways", stage="mock", act=_roll("gateway")),
    Drill(name="mock: registry away for 60 s", stage="mock-postgres", act=_registry_away),
    Drill(name="engine: engine process killed", stage="engine", act=_kill_engine(ENGINE_PROCESS)),
    Drill(name="engine: engine's actor killed", stage="engine", act=_kill_engine(ENGINE_ACTOR)),
    Drill(name="engine: engine hangs", stage="engine", act=_stop_engine),
    Drill(name="engine: gateway replica killed", stage="engine", act=_kill(GATEWAY, 2)),
    Drill(name="engine: Serve controller killed", stage="engine", act=_kill(CONTROLLER, 1)),
    Drill(name="engine: rolling update of gateways", stage="engine", act=_roll("gateway")),
    Drill(name="engine: rolling update of engines", stage="engine", act=_roll("engines")),
    Drill(name="engine: registry away for 60 s", stage="engine-postgres", act=_registry_away),
)
