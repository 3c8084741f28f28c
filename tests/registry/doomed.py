"""Child processes that publish, upload, delete and move rollouts, and die by SIGKILL or run out of disk space.

Each line of standard input is a JSON request; each is carried out by a fork of this process, and the answer is a line
with the exit status. `point` n kills the child just before its n-th call into the operating system or the database that
can change something, or that is one of `calls`; `delay_s` kills it that long after it began; `file_limit` is the size
in bytes to which any file may grow in it. The one argument are the settings of the registry as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from gateway.rollouts.controller import reconcile
from gateway.settings import GatewaySettings
from registry.batches.batch import BatchHold
from registry.batches.batch_state import BatchState
from registry.database import Registry, open_registry
from registry.errors import StorageFull
from registry.jobs.job import Lease
from registry.publishing.publications import Upload, queue_publication
from registry.publishing.publish import publish
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.settings import RegistrySettings
from registry.types import RevisionDraft
from tests.clock import Clock

STORAGE_FULL = 28
CHANGING = frozenset({"commit", "fchmod", "fsync", "mkdir", "open", "rename", "rmdir", "unlink", "write"})
PATIENT = GatewaySettings(heartbeat_timeout_s=86400.0)
DO_COMMIT = DefaultDialect.do_commit.__code__  # the way to PostgreSQL's commit, which shows no call of its own


def kill_before(point: int, calls: frozenset[str]) -> Callable[[FrameType, str, Any], None]:
    """A profiler that kills this process when the *point*-th of these calls, or of the steps of a commit, is next."""
    left = point

    def on_event(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        if frame.f_code is DO_COMMIT or (event == "c_call" and argument.__name__ in calls):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    return on_event


def carry_out(request: dict[str, Any]) -> None:
    """Do what is asked, to the end or to the point."""
    settings = RegistrySettings.model_validate_json(sys.argv[1])
    if request["action"] == "open":
        with_points(request, lambda: open_registry(settings).close())
        return
    clock = Clock()
    clock.at = request.get("at", time.time())
    registry = open_registry(settings, clock, clock.steady)
    if request.get("file_limit") is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_limit"], request["file_limit"]))
    actions: dict[str, Callable[[], object]] = {
        "publish": lambda: publish(
            registry,
            Path(request["folder"]),
            RevisionDraft(adapter="support", base="tiny", owner="ann"),
            lease=Lease(**request["lease"]) if "lease" in request else None,
            rollout=RolloutPlan(steps=weighted(50, 100)),
        ),
        "queue": lambda: queue_publication(
            registry, Upload(folder=Path(request["folder"])), adapter="support", base="tiny", owner="ann"
        ),
        "upload": lambda: registry.files.add([b"row\n" * 1000] * 3, filename="rows", purpose="fine-tune", owner="ann"),
        "delete": lambda: registry.files.delete(request["file"]),
        "finish": lambda: registry.batches.finish(
            BatchHold(**request["hold"]), BatchState.COMPLETED, ['{"late": 1}' * 100]
        ),
        "reconcile": lambda: keep_reconciling(registry, clock, request["ticks"]),
    }
    with_points(request, actions[request["action"]])


def keep_reconciling(registry: Registry, clock: Clock, ticks: int) -> None:
    """The work of a controller in so many ticks, two seconds each."""
    for _ in range(ticks):
        clock.advance(2.0)
        reconcile(registry, PATIENT, clock())


def with_points(request: dict[str, Any], act: Callable[[], object]) -> None:
    """Act, and die at the point if one is asked for."""
    if request.get("point") is not None:
        sys.setprofile(kill_before(request["point"], frozenset(request.get("calls", CHANGING))))
    act()
    sys.setprofile(None)


def run(request: dict[str, Any]) -> int:
    """The exit status of a fork that carries *request* out: negative for a signal, `STORAGE_FULL` for that error."""
    child = os.fork()
    if child == 0:
        try:
            carry_out(request)
        except StorageFull:
            os._exit(STORAGE_FULL)
        os._exit(0)
    if request.get("delay_s") is not None:
        time.sleep(request["delay_s"])
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    # Loads what every fork needs: the driver, the migrations.
    open_registry(RegistrySettings.model_validate_json(sys.argv[1])).close()
    for line in sys.stdin:
        sys.stdout.write(f"{run(json.loads(line))}\n")
        sys.stdout.flush()
